"""Crazyswarm2's list of robots, in the shapes that it has had: who is flown, what is ignored, what is refused."""

from pathlib import Path

import pytest

from deq_mpc_controller.crazyflies_yaml import choose_vehicle, read_robot
from deq_mpc_controller.node_parameters import CONTROLLER_NODE
from deq_mpc_core.errors import UserError

FULL = """
fileversion: 3
robots:
  cf231:
    enabled: true
    uri: radio://0/80/2M/E7E7E7E7E7
    initial_position: [0.0, 0.5, 0]
    type: cf21  # see robot_types
    firmware_params: {kalman: {pNAcc_xy: 1.0}}
    firmware_logging: {enabled: true, custom_topics: {acc: {frequency: 1, vars: ["acc.x", "acc.y"]}}}
    reference_frame: "odom_cf231"
  cf5:
    enabled: false
    uri: radio://0/80/2M/E7E7E7E705
    initial_position: [0.0, -0.5, 0.0]
    type: cf21
  cf7:
    enabled: true
    uri: usb://0
    initial_position: [0.0, -0.5, 0.0]
    type: brushless
    deq_mpc: {firmware: "2025.12"}
robot_types:
  cf21:
    motion_capture: {tracking: "librigidbodytracker", marker: default_single_marker, dynamics: default}
    big_quad: false
    battery: {voltage_warning: 3.8, voltage_critical: 3.7}
  brushless:
    motion_capture: {tracking: "vendor"}
    big_quad: false
    deq_mpc: {platform: cf21_brushless, firmware: "2026.04"}
all:
  firmware_logging: {enabled: true, default_topics: {pose: {frequency: 10}, status: {frequency: 1}}}
  firmware_params: {commander: {enHighLevel: 1}, locSrv: {extPosStdDev: 1e-3}}
  reference_frame: "world"
  broadcasts: {num_repeats: 15, delay_between_repeats_ms: 1}
"""
FIRST_VERSION = """
robots:
  cf231: {enabled: true, uri: radio://0/80/2M/E7E7E7E7E7, initial_position: [0, 0, 0], type: cf21}
robot_types:
  cf21:
    motion_capture: {enabled: true, marker: default_single_marker, dynamics: default}
    big_quad: false
    battery: {voltage_warning: 3.8, voltage_critical: 3.7}
all_robots:
  firmware_params: {stabilizer: {estimator: 2, controller: 2}}
"""
SIMULATED = """
robots:
  cf_1: {enabled: true, uri: "udp://0.0.0.0:19850", initial_position: [0.0, 0.0, 0.0], type: cf_sim}
robot_types:
  cf_sim:
    motion_capture: {tracking: "vendor"}
    big_quad: false
    firmware_logging: {enabled: true, default_topics: {pose: {frequency: 1}}}
"""
TRACKED = """
robots:
  obstacle: {enabled: true, initial_position: [0, -0.5, 0], type: marker, id: 255}
  cf1: {enabled: true, uri: radio://0/80/2M/E7E7E7E701, type: cf21}
  bolt: {enabled: true, uri: radio://0/80/2M/E7E7E7E702, type: large}
robot_types:
  marker: {connection: none, motion_capture: {enabled: true, marker: default_single_marker, dynamics: default}}
  cf21: {motion_capture: {enabled: true}}
  large: {big_quad: true}
"""
ONE = """
robots: {cf1: {enabled: true, uri: "udp://127.0.0.1:19850", type: cf21}}
robot_types: {cf21: {big_quad: false}}
"""
DEFAULTS = {parameter.name: parameter.default for parameter in CONTROLLER_NODE}


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "crazyflies.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_name_uri_place_and_type_are_read(write) -> None:
    entry = read_robot(write(FULL), "cf231")
    assert (entry.name, entry.uri) == ("cf231", "radio://0/80/2M/E7E7E7E7E7")
    assert entry.initial_position == (0.0, 0.5, 0.0)
    assert (entry.platform, entry.firmware) == (None, None)


def test_platform_and_firmware_are_the_types_and_the_robots_own_come_first(write) -> None:
    entry = read_robot(write(FULL), "cf7")
    assert (entry.platform, entry.firmware) == ("cf21_brushless", "2025.12")


@pytest.mark.parametrize(
    ("text", "robot"), [(FIRST_VERSION, "cf231"), (SIMULATED, "cf_1"), (TRACKED, "cf1"), (ONE, "cf1")]
)
def test_every_shape_of_the_file_is_read(write, text: str, robot: str) -> None:
    entry = read_robot(write(text), robot)
    assert entry.name == robot
    assert entry.initial_position in (None, (0.0, 0.0, 0.0))


def test_what_is_not_used_is_ignored_with_its_reason(write) -> None:
    ignored = read_robot(write(FULL), "cf231").ignored
    assert set(ignored) == {
        "fileversion",
        *(f"robots.cf231.{key}" for key in ("firmware_params", "firmware_logging", "reference_frame")),
        *(f"robot_types.cf21.{key}" for key in ("motion_capture", "battery")),
        *(f"all.{key}" for key in ("firmware_logging", "firmware_params", "reference_frame", "broadcasts")),
    }
    assert not any("not known" in reason for reason in ignored.values())
    assert "cfclient" in ignored["robots.cf231.firmware_params"]
    assert read_robot(write(ONE.replace("big_quad: false", "colour: red")), "cf1").ignored == {
        "robot_types.cf21.colour": "it is not known here"
    }


@pytest.mark.parametrize(
    ("text", "robot", "problem"),
    [
        (FULL, "cf", "there is no robot 'cf'; choose robot:= one of cf231, cf7 (cf5 disabled)"),
        (FULL, "cf5", "robot 'cf5' is disabled; enable it, or choose robot:= one of cf231, cf7"),
        (FULL.replace("enabled: true", "enabled: false"), "cf7", "robot 'cf7' is disabled; enable it, or enable one"),
        (TRACKED, "obstacle", "robot 'obstacle' is tracked only, or has no uri"),
        (TRACKED, "bolt", "'large' is a big quad, whose thrust is not known"),
        (ONE.replace("type: cf21", "type: cf22"), "cf1", "is of the type 'cf22', and robot_types has cf21; add it"),
        (ONE.replace("19850", "99999"), "cf1", "robot 'cf1': uri 'udp://127.0.0.1:99999': UDP ports are 1..65535"),
        (ONE.replace("enabled", "enabeld"), "cf1", "key 'robots.cf1.enabled' is missing"),
        (ONE.replace("enabled: true", "enabled: 1"), "cf1", "robots.cf1.enabled: Input should be a valid boolean"),
        (
            ONE.replace("big_quad", "big_qaud"),
            "cf1",
            "unknown key 'robot_types.cf21.big_qaud'; did you mean 'big_quad'?",
        ),
        (
            ONE.replace("type: cf21", "type: cf21, initial_postion: [0, 0, 0]"),
            "cf1",
            "did you mean 'initial_position'?",
        ),
        (ONE.replace("type: cf21", "type: cf21, initial_position: [0, 0]"), "cf1", "robots.cf1.initial_position"),
        (ONE.replace("type: cf21", "type: cf21, initial_position: [0, .nan, 0]"), "cf1", "finite number"),
        (
            ONE.replace("big_quad: false", "deq_mpc: {platfrom: x}"),
            "cf1",
            "unknown key 'robot_types.cf21.deq_mpc.platfrom'",
        ),
        (ONE.replace("robot_types", "robottypes"), "cf1", "key 'robot_types' is missing"),
        ("crazyflies: [{id: 1, channel: 80}]", "cf1", "key 'robots' is missing"),
        ("[1, 2]", "cf1", "is no list of robots; it needs the keys"),
        ("", "cf1", "is no list of robots; it needs the keys"),
        (
            ONE.replace("big_quad: false", "deq_mpc: {firmware: 2026.04}"),
            "cf1",
            "deq_mpc.firmware: 2026.04 is a number; write the release in quotes",
        ),
        ("robots: {", "cf1", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said(write, text: str, robot: str, problem: str) -> None:
    path = write(text)
    with pytest.raises(UserError) as error:
        read_robot(path, robot)
    assert str(error.value).startswith(path)
    assert problem in str(error.value)


def test_a_file_that_is_not_there_is_a_user_error() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_robot("/nowhere/crazyflies.yaml", "cf1")
    with pytest.raises(UserError, match="no such user's home"):
        read_robot("~nobody-of-that-name/crazyflies.yaml", "cf1")


def test_the_big_quad_flies_with_a_platform_of_its_own(write) -> None:
    text = TRACKED.replace("big_quad: true", "big_quad: true, deq_mpc: {platform: cf21_upgrade_kit}")
    assert read_robot(write(text), "bolt").platform == "cf21_upgrade_kit"


def test_the_file_decides_what_is_flown_and_the_parameters_the_rest(write) -> None:
    said = {"platform": "cf21_plus", "firmware": "2025.09"}
    values = DEFAULTS | said | {"crazyflies_yaml_file": write(FULL), "robot": "cf231"}
    vehicle = choose_vehicle(values)
    assert (vehicle.uri, vehicle.platform, vehicle.firmware) == (
        "radio://0/80/2M/E7E7E7E7E7",
        "cf21_plus",
        "2025.09",
    )
    assert vehicle.initial_position == (0.0, 0.5, 0.0)
    vehicle = choose_vehicle(values | {"robot": "cf7"})
    assert (vehicle.uri, vehicle.platform, vehicle.firmware) == ("usb://0", "cf21_brushless", "2025.12")


def test_without_a_file_the_parameters_decide() -> None:
    vehicle = choose_vehicle(DEFAULTS)
    assert (vehicle.uri, vehicle.platform, vehicle.firmware) == (DEFAULTS["uri"], "cf21_legacy_props", "2026.04")
    with pytest.raises(UserError, match="none of a Crazyflie"):
        choose_vehicle(DEFAULTS | {"uri": "cf1"})


def test_a_simulated_vehicle_is_that_of_the_parameters_but_must_be_in_the_file(write) -> None:
    values = DEFAULTS | {"crazyflies_yaml_file": write(FULL), "robot": "cf7", "sim": True}
    assert choose_vehicle(values).uri == DEFAULTS["uri"]
    assert choose_vehicle(values).initial_position is None
    with pytest.raises(UserError, match="there is no robot 'cf'"):
        choose_vehicle(values | {"robot": "cf"})


RADIO = {"uri": "radio://0/80/2M/E7E7E7E7E7"}
BOTH = "nobody says platform and firmware of the vehicle"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (RADIO, BOTH),
        ({"uri": "usb://0"}, BOTH),
        ({"backend": "crazyswarm2"}, BOTH),
        (RADIO | {"platform": "cf21_plus"}, "nobody says firmware of the vehicle"),
        (RADIO | {"firmware": "2026.04"}, "nobody says platform of the vehicle"),
    ],
)
def test_what_a_real_vehicle_is_has_to_be_said(values: dict[str, str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        choose_vehicle(DEFAULTS | values)
    said = {"platform": "cf21_upgrade_kit", "firmware": "2025.09"}
    vehicle = choose_vehicle(DEFAULTS | values | said)
    assert (vehicle.platform, vehicle.firmware) == tuple(said.values())
    assert choose_vehicle(DEFAULTS | {"sim": True} | RADIO).platform == "cf21_legacy_props"


def test_a_file_that_does_not_say_it_is_refused_unless_its_vehicle_is_simulated(write) -> None:
    values = DEFAULTS | {"crazyflies_yaml_file": write(FULL), "robot": "cf231"}
    with pytest.raises(UserError, match=BOTH):
        choose_vehicle(values)
    simulated = choose_vehicle(DEFAULTS | {"crazyflies_yaml_file": write(SIMULATED), "robot": "cf_1"})
    assert (simulated.platform, simulated.firmware) == ("cf21_legacy_props", "2026.04")
    with pytest.raises(UserError, match=BOTH):
        choose_vehicle(values | {"crazyflies_yaml_file": write(SIMULATED), "robot": "cf_1", "backend": "crazyswarm2"})
