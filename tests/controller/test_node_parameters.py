"""The parameter tables: names once, defaults within their own bounds, and the documentation made of them."""

import pytest

from deq_mpc_controller.node_parameters import CONTROLLER_NODE, Parameter, markdown_table
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
