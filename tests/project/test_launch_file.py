"""The launch-file reader: what it resolves, and that it refuses whatever it would otherwise get wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deq_mpc_controller.launch_file import LaunchFile, read_launch_file
from deq_mpc_controller.node_parameters import CONTROLLER_NODE, check_nodes, node_tables
from deq_mpc_core.errors import UserError
from deq_mpc_sim.node_parameters import OBSTACLE_NODE, RECORDER_NODE, WORLD_NODE

ROOT = Path(__file__).parents[2]
Write = Callable[[str], LaunchFile]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the actions of a launch file and reads it back."""

    def _write(actions: str) -> LaunchFile:
        path = tmp_path / "some.launch.yaml"
        path.write_text("launch:\n" + actions, encoding="utf-8")
        return read_launch_file(path)

    return _write


def share(package: str) -> Path:
    return Path("/share") / package


NODE = "- node: {pkg: p, exec: e, output: screen"


def test_the_flight_starts_all_nodes_in_simulation() -> None:
    nodes = read_launch_file(ROOT / "launch/fly.launch.yaml").resolve({"seed": "7", "radius": "1"}, share)
    assert [node.executable for node in nodes] == ["world_node", "obstacle_node", "recorder_node", "controller_node"]
    world = nodes[0]
    assert world.parameters["seed"] == 7
    assert isinstance(world.parameters["radius"], float)
    assert world.environment["OMP_NUM_THREADS"] == "1"


def test_the_flight_on_hardware_has_no_simulated_world() -> None:
    uri = "radio://0/80/2M/E7E7E7E7E7"
    nodes = read_launch_file(ROOT / "launch/fly.launch.yaml").resolve({"sim": "false", "uri": uri}, share)
    assert "world_node" not in [node.executable for node in nodes]
    assert nodes[-1].parameters["uri"] == uri


def test_without_a_virtual_scene_nobody_publishes_one() -> None:
    nodes = read_launch_file(ROOT / "launch/fly.launch.yaml").resolve({"virtual_scene": "false"}, share)
    assert "obstacle_node" not in [node.executable for node in nodes]


def test_every_parameter_of_the_flight_has_the_name_of_its_argument() -> None:
    actions = yaml.safe_load((ROOT / "launch/fly.launch.yaml").read_text(encoding="utf-8"))["launch"]
    params = [param for action in actions if "node" in action for param in action["node"]["param"]]
    assert params
    for param in params:
        assert param["value"] == f"$(var {param['name']})"


NODE_PARAMETERS = {
    "world_node": WORLD_NODE,
    "obstacle_node": OBSTACLE_NODE,
    "recorder_node": RECORDER_NODE,
    "controller_node": CONTROLLER_NODE,
}


@pytest.mark.parametrize("executable", NODE_PARAMETERS)
def test_what_the_flight_passes_is_what_the_node_declares(executable: str) -> None:
    launch_file = read_launch_file(ROOT / "launch/fly.launch.yaml")
    (node,) = (node for node in launch_file.resolve({}, share) if node.executable == executable)
    declared = {parameter.name: parameter for parameter in NODE_PARAMETERS[executable]}
    choices = {argument.name: argument.choices for argument in launch_file.arguments}
    assert node.parameters
    for name, value in node.parameters.items():
        assert type(value) is type(declared[name].default), name
        assert set(choices[name]) == set(declared[name].choices) or isinstance(value, bool), name
        assert value == declared[name].default or name in ("auto", "sim"), name


@pytest.mark.parametrize(
    "name", ["robot", "world_frame", "rate", "platform", "firmware", "mass", "virtual_scene", "auto"]
)
def test_what_differs_from_lab_to_lab_reaches_every_node_that_has_it(name: str) -> None:
    for node in read_launch_file(ROOT / "launch/fly.launch.yaml").resolve({}, share):
        assert (name in node.parameters) == (name in {p.name for p in NODE_PARAMETERS[node.executable]})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"seed": "-1"}, "parameter 'seed' is -1; choose int 0.."),
        ({"rate": "1000"}, "parameter 'rate' is 1000.0; choose float 20..200"),
        ({"radius": "nan"}, "parameter 'radius' is nan; choose float 0.01..0.5"),
        ({"uri": "udp://127.0.0.1"}, "uri 'udp://127.0.0.1' is none of a Crazyflie"),
        ({"crazyflies_yaml_file": "/nowhere.yaml"}, "/nowhere.yaml: cannot be read"),
        ({"platform": "cf99"}, "unknown platform 'cf99'"),
        ({"sim": "false", "uri": "radio://0/80/2M/E7E7E7E7E7"}, "nobody says platform and firmware of the vehicle"),
        ({"firmware": "2019.01"}, "no thrust map of cf21_legacy_props for firmware 2019.01"),
        ({"faults": "mute"}, "'mute' is no fault; write KIND"),
        ({"robot": "9"}, "'9' is no name of a robot; use letters"),
        ({"timeout": "inf"}, "parameter 'timeout' is inf; choose float 1.."),
        ({"mass": "31.8"}, "parameter 'mass' is 31.8; choose float 0..0.1"),
        ({"mass": "0.039"}, "a cf21_legacy_props of 0.039 kg cannot be flown; give its mass in kg, 0.025 to 0.0381"),
        ({"policy": "missing.safetensors"}, "missing.safetensors: no such checkpoint"),
    ],
)
def test_what_a_node_would_refuse_is_refused_before_it_starts(values: dict[str, str], problem: str) -> None:
    nodes = read_launch_file(ROOT / "launch/fly.launch.yaml").resolve(values, share)
    with pytest.raises(UserError, match=re.escape(problem)):
        check_nodes(nodes)


def test_what_the_flight_passes_by_default_is_accepted() -> None:
    nodes = read_launch_file(ROOT / "launch/fly.launch.yaml").resolve({"policy": "straight-line"}, share)
    check_nodes(nodes)
    assert {node.executable for node in nodes} <= set(node_tables())


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("str", "1", "1"), ("int", "1", 1), ("float", "1", 1.0), ("bool", "1", True), (None, "1", 1), (None, "a", "a")],
)
def test_parameters_have_the_type_the_file_gives_them(write: Write, kind: str | None, text: str, value: object) -> None:
    declared = "" if kind is None else f", type: {kind}"
    launch_file = write(f"- arg: {{name: a}}\n{NODE}, param: [{{name: x, value: $(var a){declared}}}]}}\n")
    (node,) = launch_file.resolve({"a": text}, share)
    assert node.parameters["x"] == value
    assert type(node.parameters["x"]) is type(value)


def test_parameter_files_and_shares_are_resolved(write: Write, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("{}", encoding="utf-8")
    (node,) = write(f"{NODE}, param: [{{from: $(find-pkg-share p)/p.yaml}}]}}\n").resolve({}, lambda _: tmp_path)
    assert node.parameter_files == (tmp_path / "p.yaml",)


def test_what_is_set_holds_for_the_nodes_that_follow(write: Write) -> None:
    first, second = write(f"{NODE}}}\n- set_env: {{name: N, value: v}}\n{NODE}}}\n").resolve({}, share)
    assert dict(first.environment) == {}
    assert dict(second.environment) == {"N": "v"}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"sed": "1"}, "'sed' does not exist; fly.launch.yaml has uri, platform, firmware"),
        ({"obstacles": "flying"}, "obstacles:=flying is none of static, moving"),
        ({"radius": "wide"}, "parameter radius of world_node: 'wide' is no float"),
        ({"seed": str(2**63)}, "parameter seed of world_node: '9223372036854775808' is no int"),
        ({"seed": "1.5"}, "parameter seed of world_node: '1.5' is no int"),
        ({"sim": "maybe"}, "sim:=maybe is none of true, false"),
    ],
)
def test_bad_arguments_are_named(values: dict[str, str], problem: str) -> None:
    launch_file = read_launch_file(ROOT / "launch/fly.launch.yaml")
    with pytest.raises(UserError, match=problem):
        launch_file.resolve(values, share)


def test_an_argument_without_default_has_to_be_given(write: Write) -> None:
    with pytest.raises(UserError, match="'a' has no default; give a:=VALUE"):
        write("- arg: {name: a}\n").resolve({}, share)


@pytest.mark.parametrize(
    ("actions", "problem"),
    [
        ("- group: []\n", "'group', which only ROS's own launch runs"),
        ("- {arg: {name: a}, node: {}}\n", "action 1 has to be a mapping with one key"),
        (f"{NODE}, on_exit: shutdown}}\n", "unknown key 'on_exit'"),
        (f"{NODE}, respawn: 'true'}}\n", "unknown key 'respawn'"),
        ("- node: {pkg: p, exec: e}\n", "key 'output' is missing"),
        ("- node: {pkg: p, exec: e, output: log}\n", "output"),
        (f"{NODE}, param: [{{name: x, value: 1, type: yaml}}]}}\n", "type"),
    ],
)
def test_what_the_runner_does_not_support_is_refused_on_reading(write: Write, actions: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        write(actions)


@pytest.mark.parametrize(
    ("actions", "problem"),
    [
        (f"{NODE}, name: $(env HOME)}}\n", "only ROS's own launch makes"),
        (f"{NODE}, name: $(eval 1)}}\n", "only ROS's own launch makes"),
        (f"{NODE}, name: '$(var $(var a))'}}\n", "only ROS's own launch makes"),
        (f"{NODE}, name: 'a\\b'}}\n", "only ROS's own launch makes"),
        (f"{NODE}, name: $(var a)}}\n", "used before an arg declares it"),
        (f"{NODE}, if: perhaps}}\n", "'perhaps' is neither true nor false"),
        (f"{NODE}, param: [{{name: x}}]}}\n", "either `from`, or `name` and `value`"),
        (f"{NODE}, param: [{{from: /nowhere.yaml}}]}}\n", "parameter file not found"),
    ],
)
def test_what_the_runner_does_not_support_is_refused_on_resolving(write: Write, actions: str, problem: str) -> None:
    launch_file = write(actions)
    with pytest.raises(UserError, match=problem):
        launch_file.resolve({}, share)


@pytest.mark.parametrize("content", ["", "launch: {}", "nodes: []", "launch: [", "launch: []\nmore: 1"])
def test_what_is_no_launch_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.launch.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.launch\.yaml"):
        read_launch_file(path)
