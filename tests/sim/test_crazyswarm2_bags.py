"""Bags of a Crazyswarm2 system, named and typed as it does, give the data of the same flight under our own topics."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from deq_mpc_controller.conversions import load_thrust_map, twist_from_command
from deq_mpc_core.cli import main
from deq_mpc_core.config import config_path, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.dataset import Dataset, DatasetConfig, build_dataset, prepare_dataset
from deq_mpc_core.learning.sampling import SampleSpec
from deq_mpc_core.models.crazyflie import attitude_models, hover_thrust
from deq_mpc_core.policy import load_policy
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.bag_writer import FlightBagWriter
from deq_mpc_sim.episode import CONTROL_PERIOD, fly_episode
from deq_mpc_sim.relabel import relabel_bag
from deq_mpc_sim.scenes import make_scene

Array = NDArray[np.float64]

ROBOT, VEHICLE = "cf231", ("cf21_legacy_props", "2026.04")
SPEC = SampleSpec(dt=0.05, horizon=16, dt_control=CONTROL_PERIOD, steps=2)
TAU = attitude_models().nominal.tau_thrust
OWN = load_config("dataset", DatasetConfig)
THEIRS = OWN.of_bags({"robot": ROBOT, "platform": VEHICLE[0], "firmware": VEHICLE[1]}, ())
NAMED, POSES, STATUS = (
    "motion_capture_tracking_interfaces/msg/NamedPose",
    "motion_capture_tracking_interfaces/msg/NamedPoseArray",
    "crazyflie_interfaces/msg/Status",
)
STATUS_FIELDS = (
    "std_msgs/Header header\nuint16 supervisor_info\nfloat32 battery_voltage\nuint8 pm_state\nuint8 rssi\n"
    "uint32 num_rx_broadcast\nuint32 num_tx_broadcast\nuint32 num_rx_unicast\nuint32 num_tx_unicast\n"
    "uint16 latency_unicast"
)
STORED = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3, "humble": StoragePlugin.SQLITE3}


class Crazyswarm2Bag:
    """Writes what a Crazyswarm2 system publishes; times in ns."""

    def __init__(self, path: Path, storage: str = "mcap", status_fields: str = STATUS_FIELDS) -> None:
        self._path, self._storage = path, storage
        self._writer = Writer(path, version=8, storage_plugin=STORED[storage])
        self._store = get_typestore(Stores.ROS2_HUMBLE)
        self._store.register(get_types_from_msg("string name\ngeometry_msgs/Pose pose", NAMED))
        self._store.register(
            get_types_from_msg(f"std_msgs/Header header\n{NAMED.replace('/msg/', '/')}[] poses", POSES)
        )
        self._store.register(get_types_from_msg(status_fields, STATUS))
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> Crazyswarm2Bag:
        self._writer.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        if self._storage == "humble":  # whose bags do not say what their types are
            (file,) = self._path.glob("*.db3")
            with sqlite3.connect(file) as database:
                database.execute("DROP TABLE schema")
                database.execute("DROP TABLE message_definitions")
            database.close()

    def make(self, kind: str, *values: Any) -> Any:
        return self._store.types[kind](*values)

    def header(self, t: int) -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", t // 10**9, t % 10**9)
        return self.make("std_msgs/msg/Header", stamp, "world")

    def pose(self, pose: Array) -> Any:
        point = self.make("geometry_msgs/msg/Point", *map(float, pose[:3]))
        return self.make(
            "geometry_msgs/msg/Pose", point, self.make("geometry_msgs/msg/Quaternion", *map(float, pose[3:]))
        )

    def write(self, topic: str, kind: str, t: int, *values: Any) -> None:
        self.write_raw(topic, kind, t, self._store.serialize_cdr(self.make(kind, *values), kind))

    def write_raw(self, topic: str, kind: str, t: int, raw: bytes | memoryview) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._store)
        self._writer.write(self._connections[topic], t, raw)

    def write_poses(self, t: int, pose: Array) -> None:
        """The motion capture's, of two vehicles."""
        other = self.make(NAMED, "cf5", self.pose(np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0])))
        self.write("/poses", POSES, t, self.header(t), [other, self.make(NAMED, ROBOT, self.pose(pose))])

    def write_estimate(self, t: int, pose: Array) -> None:
        """The on-board estimator's."""
        self.write(f"/{ROBOT}/pose", "geometry_msgs/msg/PoseStamped", t, self.header(t), self.pose(pose))

    def write_legacy(self, t: int, x: float, y: float, z: float, yaw_rate: float) -> None:
        linear, angular = (self.make("geometry_msgs/msg/Vector3", *v) for v in ((x, y, z), (0.0, 0.0, yaw_rate)))
        self.write(f"/{ROBOT}/cmd_vel_legacy", "geometry_msgs/msg/Twist", t, linear, angular)

    def write_status(self, t: int, flying: bool, *more: Any) -> None:
        info = 2 + 16 * flying
        self.write(f"/{ROBOT}/status", STATUS, t, self.header(t), info, 3.9, 0, 60, *[0] * 5, *more)


def own_messages(bag: Path) -> list[tuple[str, str, int, bytes]]:
    with Reader(bag) as reader:
        return [(c.topic, c.msgtype, t, bytes(raw)) for c, t, raw in reader.messages()]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated flight through moving spheres, under our own topics."""
    path = tmp_path_factory.mktemp("own") / "flight"
    with FlightBagWriter(path) as bag:
        assert fly_episode(load_policy("straight-line"), make_scene("clutter", "moving", 0.1, 0, 0), [0], bag).success
    return path


def translate(source: Path, bag: Crazyswarm2Bag, kept: tuple[str, ...] = ("/obstacles", "/cf/goal")) -> None:
    """The flight as a Crazyswarm2 system with our controller beside it records it, before and after it, too."""
    store, thrust_map = get_typestore(Stores.ROS2_KILTED), load_thrust_map(*VEHICLE)
    floor = np.array([0.0, 0.0, 0.01, 0.0, 0.0, 0.0, 1.0])
    for before in range(100_000_000, 500_000_000, 10_000_000):  # stands there, motors off
        bag.write_poses(before, floor)
        bag.write_status(before, False)
        bag.write_legacy(before, 0.0, 0.0, 0.0, 0.0)
    for topic, kind, t, raw in own_messages(source):
        if topic in kept:
            bag.write_raw(topic.replace("/cf/", f"/{ROBOT}/"), kind, t, raw)
        elif topic == "/cf/pose":
            m = store.deserialize_cdr(raw, kind)
            stamp = m.header.stamp.sec * 10**9 + m.header.stamp.nanosec
            p, q = m.pose.position, m.pose.orientation
            pose = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])
            bag.write_poses(stamp, pose)
            bag.write_status(stamp, True)
            if stamp % 100_000_000 == 0:
                bag.write_estimate(stamp, pose + 0.05 * (np.arange(7) == 0))
        elif topic == "/cf/setpoint":
            twist = twist_from_command(Command(*store.deserialize_cdr(raw, kind).position), thrust_map, "cpp")
            bag.write_legacy(t, *twist)
    bag.write_legacy(t + 10_000_000, 0.0, 0.0, 0.0, 0.0)


def build(bag: Path, config: DatasetConfig = THEIRS) -> tuple[Dataset, list[str]]:
    dataset, report = build_dataset([bag], config, SPEC, TAU)
    return dataset, report.used[0].notes


def assert_same_flight(theirs: Dataset, ours: Dataset, thrust: float) -> None:
    """The same samples; the thrust within so much [N]."""
    np.testing.assert_allclose(theirs.x[:, :12], ours.x[:, :12], atol=1e-5)
    np.testing.assert_allclose(theirs.x[:, 12], ours.x[:, 12], atol=thrust)
    np.testing.assert_allclose(theirs.x_next[..., :12], ours.x_next[..., :12], atol=1e-5)
    np.testing.assert_allclose(theirs.label, ours.label, atol=1e-5)
    np.testing.assert_allclose(theirs.goal, ours.goal)


@pytest.mark.parametrize("storage", STORED)
def test_a_flight_beside_crazyswarm2_gives_the_data_of_our_own_bag(own: Path, tmp_path: Path, storage: str) -> None:
    with Crazyswarm2Bag(tmp_path / "bag", storage) as bag:
        translate(own, bag)
    ours, (theirs, notes) = build(own, OWN)[0], build(tmp_path / "bag")
    assert len(ours) > 10
    assert_same_flight(theirs, ours, thrust=1e-5)
    index = np.arange(len(ours))
    np.testing.assert_allclose(theirs.obstacles(index)[0], ours.obstacles(index)[0], atol=1e-5)
    assert notes == ["gaps in pose longer than 0.1 s cut out"]


def test_without_the_platform_the_thrust_explains_the_motion(own: Path, tmp_path: Path) -> None:
    with Crazyswarm2Bag(tmp_path / "bag") as bag:
        translate(own, bag)
    ours = build(own, OWN)[0]
    theirs, notes = build(tmp_path / "bag", OWN.of_bags({"robot": ROBOT}, ()))
    assert_same_flight(theirs, ours, thrust=0.12)
    error = theirs.x[:, 12] - ours.x[:, 12]
    assert error.std() < 0.04 * hover_thrust()
    assert abs(error.mean()) < 0.15 * hover_thrust()  # this vehicle's mass and thrust are not the model's
    assert any("--platform" in note for note in notes)


def test_crazyflies_yaml_says_platform_and_firmware(own: Path, tmp_path: Path) -> None:
    file = tmp_path / "crazyflies.yaml"
    own_key = f"deq_mpc: {{platform: {VEHICLE[0]}, firmware: '{VEHICLE[1]}'}}"
    file.write_text(
        f"robots: {{{ROBOT}: {{enabled: true, uri: 'radio://0/80/2M/E7E7E7E7E7', type: cf21}}}}\n"
        f"robot_types: {{cf21: {{{own_key}}}}}\nall: {{}}\n"
    )
    with Crazyswarm2Bag(tmp_path / "bag") as bag:
        translate(own, bag)
    by_file = OWN.of_bags({"robot": ROBOT, "crazyflies_yaml_file": str(file)}, ())
    np.testing.assert_array_equal(build(tmp_path / "bag", by_file)[0].x, build(tmp_path / "bag")[0].x)


@pytest.mark.parametrize(
    ("vehicle", "message"),
    [
        ({"platform": "cf21_plus"}, "add --firmware"),
        ({"firmware": "2026.04"}, "add --platform"),
        ({"platform": "cf22", "firmware": "2026.04"}, "unknown platform 'cf22'"),
    ],
)
def test_a_vehicle_that_is_half_said_or_unknown_is_refused(
    own: Path, tmp_path: Path, vehicle: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare_dataset([own], OWN.of_bags(vehicle, ()), SPEC, TAU, tmp_path)


def test_a_bag_says_itself_what_its_types_are(own: Path, tmp_path: Path) -> None:
    with Crazyswarm2Bag(tmp_path / "bag", status_fields=f"{STATUS_FIELDS}\nuint64 later") as bag:
        bag.write_status = lambda t, flying, write=bag.write_status: write(t, flying, 7)  # type: ignore[method-assign]
        translate(own, bag)
    assert_same_flight(build(tmp_path / "bag")[0], build(own, OWN)[0], thrust=1e-5)


def test_the_recorders_clock_may_be_another(own: Path, tmp_path: Path) -> None:
    with Crazyswarm2Bag(tmp_path / "bag") as bag:
        ahead = 7_000_000_000
        bag.write_raw = lambda topic, kind, t, raw, w=bag.write_raw: w(topic, kind, t + ahead, raw)  # type: ignore[method-assign]
        translate(own, bag)
    assert_same_flight(build(tmp_path / "bag")[0], build(own, OWN)[0], thrust=1e-5)


# A flight of crazyflie_py alone: take-off, hover, goTo, hover, land ---------------------------------------------------

HOVER = np.array([-1.0, 0.2, 1.0])
GOAL = np.array([0.8, -0.4, 1.3])
REST, WAY, CLIMB = 2.0, 3.0, 2.0
"""Seconds of each hover, of the way, and of take-off and landing."""


def positions(t: Array) -> Array:
    """Of a script's flight (n, 3)."""

    def blend(begin: float, duration: float) -> Array:
        s = np.clip((t - begin) / duration, 0.0, 1.0)
        return (10 * s**3 - 15 * s**4 + 6 * s**5)[:, None]

    up, across, down = blend(1.0, CLIMB), blend(1.0 + CLIMB + REST, WAY), blend(1.0 + CLIMB + 2 * REST + WAY, CLIMB)
    path: Array = (
        HOVER * [1.0, 1.0, 0.0] + up * [0.0, 0.0, HOVER[2]] + across * (GOAL - HOVER) - down * [0.0, 0.0, GOAL[2]]
    )
    return path


def record_script(path: Path, write: Callable[[Crazyswarm2Bag, int, Array], None]) -> Path:
    rng = np.random.default_rng(0)
    t = np.arange(0.0, 2.0 + 2 * CLIMB + 2 * REST + WAY, 0.01)
    poses = np.hstack([positions(t) + rng.normal(0.0, 1e-3, (len(t), 3)), np.tile([0.0, 0.0, 0.0, 1.0], (len(t), 1))])
    with Crazyswarm2Bag(path) as bag:
        for now, pose in zip(t, poses, strict=True):
            write(bag, 10**9 + round(now * 1e9), pose)
    return path


def assert_of_the_script(dataset: Dataset) -> None:
    """The climb leads to the first hover, the way to the second; not the ground, long hovers and the landing."""
    climbs = np.linalg.norm(dataset.goal - HOVER, axis=1) < 0.03
    ways = np.linalg.norm(dataset.goal - GOAL, axis=1) < 0.03
    assert (climbs | ways).all()
    assert dataset.x[:, 2].min() > 0.25
    assert ways.sum() == pytest.approx((WAY + 0.5) / OWN.stride, abs=8)
    assert climbs.sum() < (CLIMB + 0.5) / OWN.stride
    np.testing.assert_allclose(dataset.label[ways][-1, -1], [*GOAL, 0.0, 0.0, 0.0], atol=0.02)
    assert np.abs(dataset.x[ways, 12] - hover_thrust()).mean() < 0.05
    assert (dataset.obstacle_count == 0).all()


def test_a_scripts_flight_teaches_where_it_came_to_rest(tmp_path: Path) -> None:
    dataset, notes = build(record_script(tmp_path / "bag", Crazyswarm2Bag.write_poses))
    assert_of_the_script(dataset)
    assert notes == [
        "no setpoints with a thrust: it is what explains the motion",
        "no /obstacles (obstacles): taken for a flight without any",
        f"no /{ROBOT}/goal (goal): where it came to rest is taken for it",
    ]


def test_single_markers_have_no_attitude_then_the_estimators_pose_counts(tmp_path: Path) -> None:
    def write(bag: Crazyswarm2Bag, t: int, pose: Array) -> None:
        bag.write_estimate(t, pose)
        bag.write_poses(t, np.array([*pose[:3] + 0.1, np.nan, np.nan, np.nan, np.nan]))

    dataset, _ = build(record_script(tmp_path / "bag", write))
    assert_of_the_script(dataset)


def test_a_flight_without_a_rest_and_one_that_never_flew_are_dropped(tmp_path: Path) -> None:
    def never_slow(bag: Crazyswarm2Bag, t: int, pose: Array) -> None:
        angle = 2e-9 * t
        bag.write_poses(t, np.array([np.cos(angle), np.sin(angle), 1.0, 0.0, 0.0, 0.0, 1.0]))

    def grounded(bag: Crazyswarm2Bag, t: int, pose: Array) -> None:
        bag.write_poses(t, pose)
        bag.write_status(t, False)

    def low(bag: Crazyswarm2Bag, t: int, pose: Array) -> None:
        bag.write_poses(t, pose * [1.0, 1.0, 0.1, 1.0, 1.0, 1.0, 1.0])

    reasons = {
        never_slow: "never came to rest in the air",
        grounded: "never says that it flies",
        low: "never above 0.3 m",
    }
    for write, reason in reasons.items():
        with pytest.raises(UserError, match=reason):
            build(record_script(tmp_path / reason, write))


def test_the_robot_has_to_be_named(tmp_path: Path) -> None:
    bag = record_script(tmp_path / "bag", Crazyswarm2Bag.write_poses)
    with pytest.raises(UserError, match="no 'cf' on /poses; name another with --robot"):
        build(bag, OWN)


def test_another_type_on_poses_is_somebody_elses(own: Path, tmp_path: Path) -> None:
    messages = own_messages(own)
    with Crazyswarm2Bag(tmp_path / "bag") as bag:
        for topic, kind, t, raw in messages:
            bag.write_raw(topic, kind, t, raw)
        bag.write("/poses", "geometry_msgs/msg/PoseArray", t, bag.header(t), [])
    np.testing.assert_array_equal(build(tmp_path / "bag", OWN)[0].x, build(own, OWN)[0].x)


def test_such_bags_are_not_relabelled(tmp_path: Path) -> None:
    def as_cf(bag: Crazyswarm2Bag, t: int, pose: Array) -> None:
        bag.write("/cf/pose", "geometry_msgs/msg/PoseStamped", t, bag.header(t), bag.pose(pose))

    with pytest.raises(UserError, match="not of this stack's topics"):
        relabel_bag(record_script(tmp_path / "bag", as_cf), tmp_path / "labelled")


def test_the_command_trains_on_it(own: Path, tmp_path: Path) -> None:
    with Crazyswarm2Bag(tmp_path / "bags" / "flight") as bag:
        translate(own, bag, kept=("/cf/goal",))
    config = tmp_path / "train.yaml"
    text = config_path("train").read_text()
    config.write_text(text.replace("batch: 96", "batch: 4").replace("warmup_batch: 256", "warmup_batch: 4"))
    arguments = {
        "--bags": tmp_path / "bags",
        "--out": tmp_path / "run",
        "--robot": ROBOT,
        "--platform": VEHICLE[0],
        "--firmware": VEHICLE[1],
        "--train-config": config,
        "--warmup-steps": 2,
        "--steps": 1,
    }
    with pytest.raises(SystemExit) as ended:
        main(["train", *(str(word) for pair in arguments.items() for word in pair)])
    assert not ended.value.code
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
