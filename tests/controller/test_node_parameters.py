"""The parameter tables: names once, defaults within their own bounds, and the documentation made of them."""

import pytest

from deq_mpc_controller.node_parameters import CONTROLLER_NODE, Parameter, markdown_table
from deq_mpc_core.errors import UserError
from deq_mpc_sim.node_parameters import OBSTACLE_NODE, RECORDER_NODE, TOUR_NODE, WORLD_NODE

TABLES = [CONTROLLER_NODE, WORLD_NODE, OBSTACLE_NODE, RECORDER_NODE, TOUR_NODE]


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_consistent(table: tuple[Parameter, ...]) -> None:
    assert len({parameter.name for parameter in table}) == len(table)
    for parameter in table:
        assert parameter.description
        assert not parameter.choices or parameter.default in parameter.choices
        assert parameter.low is None or parameter.low <= parameter.default
        assert parameter.high is None or parameter.default <= parameter.high


@pytest.mark.parametrize(
    ("parameter", "line"),
    [
        (Parameter("rate", 100.0, "how often [Hz]", low=20.0), "| `rate` | float | `100.0` | 20.. | how often [Hz] |"),
        (Parameter("n", 1, "how many", low=0, high=9), "| `n` | int | `1` | 0..9 | how many |"),
        (Parameter("kind", "a", "which", choices=("a", "b")), "| `kind` | str | `a` | a, b | which |"),
        (Parameter("on", True, "whether"), "| `on` | bool | `True` |  | whether |"),
    ],
)
def test_documentation(parameter: Parameter, line: str) -> None:
    assert markdown_table([parameter]).splitlines()[2] == line


@pytest.mark.parametrize("name", ["cf", "cf231", "_x", "cf231/deq_mpc"])
def test_names_of_robots(name: str) -> None:
    parameter(WORLD_NODE, "robot").check(name)


@pytest.mark.parametrize("table", [CONTROLLER_NODE, WORLD_NODE, OBSTACLE_NODE, RECORDER_NODE, TOUR_NODE])
@pytest.mark.parametrize(
    "name", ["", "9", "a b", "a-b", "/cf", "cf/", "a//b", "a/9", "~", "{node}", "cf\n", "caf\u00e9"]
)
def test_what_no_topic_can_begin_with_is_no_name_of_a_robot(table: tuple[Parameter, ...], name: str) -> None:
    with pytest.raises(UserError, match="is no name of a robot; use letters"):
        parameter(table, "robot").check(name)


def test_faults_are_read_before_the_node_starts() -> None:
    faults = parameter(WORLD_NODE, "faults")
    faults.check("")
    faults.check("mute@takeoff+3/0.4 gust@2")
    with pytest.raises(UserError, match="'gust' is no fault; write KIND"):
        faults.check("mute@3 gust")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_without_a_bound_are_finite_all_the_same(value: float) -> None:
    with pytest.raises(UserError, match="choose float"):
        Parameter("x", 0.0, "where [m]").check(value)


def parameter(table: tuple[Parameter, ...], name: str) -> Parameter:
    """The one of that name."""
    return next(one for one in table if one.name == name)
