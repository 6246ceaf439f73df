"""Crazyswarm2's ``crazyflies.yaml``: who the robots are, where they answer, which vehicle each of them is.

    robots:      {cf231: {enabled: true, uri: ..., initial_position: [x, y, z], type: cf21}}
    robot_types: {cf21: {big_quad: false, deq_mpc: {platform: cf21_plus, firmware: "2026.04"}}}
    all:         {...}

The key ``deq_mpc`` is this project's: of a type, or of a robot, where it takes precedence; Crazyswarm2 does not look at
it. Everything else is Crazyswarm2's. What is not used is ignored, each key with its reason; a key that looks like a
misspelt one is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator

from deq_mpc_controller.uri import check_uri
from deq_mpc_core.config import Config, parse_config, read_yaml
from deq_mpc_core.errors import UserError

SIMULATED_PLATFORM, SIMULATED_FIRMWARE = "cf21_legacy_props", "2026.04"
"""Of a simulated vehicle that nobody says anything else of; see ``config/thrust_maps.yaml``."""
_MISSPELT = 0.8
"""Keys more alike than this are taken for one."""
_IGNORED = {
    "battery": "the limits are those of config/controller.yaml",
    "broadcasts": "nothing is broadcast",
    "dynamics": "the poses are taken as the motion capture's node gives them",
    "fileversion": "all versions are read alike",
    "firmware_logging": "what is logged is what the flight needs",
    "firmware_params": "all parameters but the estimator's stay as they are on the vehicle; set them with cfclient",
    "id": "only robots that are not flown have one",
    "motion_capture": "the poses are taken as the motion capture's node gives them",
    "reference_frame": "world_frame:= names the frame",
}
_UNKNOWN = "it is not known here"


class _Own(Config):
    """``deq_mpc``: a platform and a firmware release, see ``config/thrust_maps.yaml``."""

    platform: str | None = None
    firmware: str | None = None

    @field_validator("firmware", mode="before")
    @classmethod
    def _no_number(cls, raw: Any) -> Any:
        """Without quotes YAML reads a number, which 2025.1 and 2025.10 have in common."""
        if isinstance(raw, (int, float)):
            raise ValueError(f'{raw} is a number; write the release in quotes, as "2026.04"')
        return raw


class _Shared(Config):
    """A mapping that belongs to Crazyswarm2: it may hold more than is read here."""

    model_config = ConfigDict(extra="allow")


class _Robot(_Shared):
    enabled: bool
    type: str
    uri: str | None = None
    initial_position: Annotated[tuple[float, float, float], Field(strict=False)] | None = None
    deq_mpc: _Own = _Own()


class _RobotType(_Shared):
    connection: str = "crazyflie"
    big_quad: bool = False
    deq_mpc: _Own = _Own()


class _File(_Shared):
    robots: dict[str, _Robot]
    robot_types: dict[str, _RobotType]
    everyone: _Shared = Field(_Shared(), alias="all")


@dataclass(frozen=True)
class RobotEntry:
    """A robot that can be flown.

    Attributes:
        name, uri: its own.
        initial_position: (3,) where it stands before the flight [m]; None: not said.
        platform, firmware: None: not said.
        ignored: what the file says beside that, and why it is not used.
    """

    name: str
    uri: str
    initial_position: tuple[float, float, float] | None = None
    platform: str | None = None
    firmware: str | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)


def read_robot(path: str | Path, name: str) -> RobotEntry:
    """The robot of that name in a ``crazyflies.yaml``.

    Raises:
        UserError: if the file is none, or the robot is missing, disabled or not to be flown.
    """
    file = _read(path)
    robot = _find(file, name, str(path))
    kind = file.robot_types.get(robot.type)
    if kind is None:
        known = ", ".join(sorted(file.robot_types)) or "none"
        raise UserError(f"{path}: robot {name!r} is of the type {robot.type!r}, and robot_types has {known}; add it")
    if kind.connection == "none" or robot.uri is None:
        raise UserError(f"{path}: robot {name!r} is tracked only, or has no uri; choose one that can be connected to")
    try:
        check_uri(robot.uri)
    except UserError as error:
        raise UserError(f"{path}: robot {name!r}: {error}") from error
    platform = robot.deq_mpc.platform or kind.deq_mpc.platform
    if kind.big_quad and platform is None:
        raise UserError(
            f"{path}: {robot.type!r} is a big quad, whose thrust is not known; give deq_mpc: {{platform: ...}}"
        )
    return RobotEntry(
        name=name,
        uri=robot.uri,
        initial_position=robot.initial_position,
        platform=platform,
        firmware=robot.deq_mpc.firmware or kind.deq_mpc.firmware,
        ignored=dict(_ignored_keys(file, name, robot, kind, str(path))),
    )


def _read(path: str | Path) -> _File:
    try:
        expanded = Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such user's home; give the path without ~") from error
    raw = read_yaml(expanded)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: is no list of robots; it needs the keys robots and robot_types, as Crazyswarm2's")
    return parse_config(raw, _File, str(path))


def _find(file: _File, name: str, source: str) -> _Robot:
    enabled = [known for known, robot in file.robots.items() if robot.enabled]
    choice = f"choose robot:= one of {', '.join(enabled)}" if enabled else "enable one"
    if name not in file.robots:
        others = [known for known in file.robots if known not in enabled]
        disabled = f" ({', '.join(others)} disabled)" if others else ""
        raise UserError(f"{source}: there is no robot {name!r}; {choice}{disabled}")
    if not file.robots[name].enabled:
        raise UserError(f"{source}: robot {name!r} is disabled; enable it, or {choice}")
    return file.robots[name]


def _ignored_keys(file: _File, name: str, robot: _Robot, kind: _RobotType, source: str) -> Iterator[tuple[str, str]]:
    """The keys that concern this robot and are not used, with the reasons."""
    places = {"": file, f"robots.{name}.": robot, f"robot_types.{robot.type}.": kind, "all.": file.everyone}
    for place, model in places.items():
        for key in model.model_extra or {}:
            own = [info.alias or field_name for field_name, info in type(model).model_fields.items()]
            meant = get_close_matches(key, own, 1, _MISSPELT)
            if meant:
                raise UserError(f"{source}: unknown key {place + key!r}; did you mean {meant[0]!r}?")
            yield place + key, _IGNORED.get(key, _UNKNOWN)


def simulated_vehicle(values: Mapping[str, Any]) -> tuple[str, str]:
    """Platform and firmware of a simulated vehicle: the parameters', where they say any."""
    return values["platform"] or SIMULATED_PLATFORM, values["firmware"] or SIMULATED_FIRMWARE


@dataclass(frozen=True)
class Vehicle:
    """What is flown: where it answers, how its thrust is to be understood, and where it stands (3,) [m], if said."""

    uri: str
    platform: str
    firmware: str
    initial_position: tuple[float, float, float] | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)


def choose_vehicle(values: Mapping[str, Any]) -> Vehicle:
    """The vehicle of the controller's parameters: what ``crazyflies_yaml_file`` says of ``robot``, else the others.

    A simulated vehicle is always that of the parameters; the file is only checked then. So is one behind a UDP port,
    but it may be in the file. Any other has to be said: the thrust of another one would throw it up or keep it down.

    Raises:
        UserError: if the URI, or the file, is none, and if nobody says which vehicle a real one is.
    """
    check_uri(values["uri"])
    entry = RobotEntry(values["robot"], values["uri"])
    if values["crazyflies_yaml_file"]:
        entry = read_robot(values["crazyflies_yaml_file"], values["robot"])
    if values["sim"]:
        return Vehicle(values["uri"], *simulated_vehicle(values))
    said = {
        "platform": entry.platform or values["platform"],
        "firmware": entry.firmware or values["firmware"],
    }
    if values["backend"] == "cflib" and entry.uri.startswith("udp://"):
        platform, firmware = simulated_vehicle(said)
    else:
        platform, firmware = _said(said)
    return Vehicle(entry.uri, platform, firmware, entry.initial_position, entry.ignored)


def _said(vehicle: Mapping[str, str]) -> tuple[str, str]:
    """Platform and firmware of a real vehicle."""
    absent = [name for name, value in vehicle.items() if not value]
    if absent:
        raise UserError(
            f"nobody says {' and '.join(absent)} of the vehicle, which its thrust depends on; give platform and "
            "firmware (cf21_plus, 2026.04), or deq_mpc: {platform: ..., firmware: ...} in crazyflies.yaml"
        )
    return vehicle["platform"], vehicle["firmware"]
