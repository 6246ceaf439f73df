"""Launch files as data: the part of ROS 2's YAML launch format that the project's launch files use.

``ros2 launch`` reads the same files. This reader is for machines that have the ROS client library but not ``launch``.
It knows

- ``arg`` with name, default, description and choice;
- ``set_env`` with name and value, for the nodes that follow;
- ``node`` with pkg, exec, name, output: screen, if, and param: either from a file or name, value and type;
- the substitutions ``$(var NAME)`` and ``$(find-pkg-share PACKAGE)``.

Whatever else stands in a file is refused, so a file means the same here and there or does not run here at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from deq_mpc_core.config import Config, parse_config, read_yaml
from deq_mpc_core.errors import UserError

FindShare = Callable[[str], Path]
"""Maps a package's name to its share folder; raises UserError for a package that is not installed."""

_SUBSTITUTION = re.compile(r"\$\((?P<kind>[\w-]+) (?P<operand>[\w./-]+)\)")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def _truth(text: str) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def _integer(text: str) -> int:
    """ROS's integers have 64 bits."""
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{text!r} is out of range")
    return value


_TYPES: dict[str, Callable[[str], Any]] = {"str": str, "int": _integer, "float": float, "bool": _truth}


class _Choice(Config):
    value: str


class _Arg(Config):
    name: str
    default: str | None = None
    description: str = ""
    choice: list[_Choice] = Field(default_factory=list)


class _SetEnv(Config):
    name: str
    value: str


class _Param(Config):
    file: str | None = Field(None, alias="from")
    name: str | None = None
    value: str | int | float | bool | None = None
    type: Literal["str", "int", "float", "bool"] | None = None


class _Node(Config):
    pkg: str
    exec: str
    output: Literal["screen"]
    name: str | None = None
    condition: str = Field("true", alias="if")
    param: list[_Param] = Field(default_factory=list)


_ACTIONS: dict[str, type[Config]] = {"arg": _Arg, "set_env": _SetEnv, "node": _Node}


@dataclass(frozen=True)
class Argument:
    """A launch argument; without a default it has to be given, with choices it has to be one of them."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """A node to start: every substitution made, every parameter value of its final type."""

    package: str
    executable: str
    name: str | None
    parameters: Mapping[str, Any]
    parameter_files: tuple[Path, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class LaunchFile:
    """A launch file that was read and checked, its actions in their order."""

    path: Path
    actions: tuple[Config, ...]

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments the file declares."""
        return tuple(
            Argument(arg.name, arg.default, arg.description, tuple(choice.value for choice in arg.choice))
            for arg in self.actions
            if isinstance(arg, _Arg)
        )

    def resolve(self, values: Mapping[str, str], find_share: FindShare) -> list[Node]:
        """The nodes to start with the launch arguments ``values``.

        Raises:
            UserError: for an argument that is not declared, has no value or not one of its choices, and for whatever in
                the file cannot be resolved.
        """
        known = [argument.name for argument in self.arguments]
        for name in values:
            if name not in known:
                raise UserError(f"launch argument {name!r} does not exist; {self.path.name} has {', '.join(known)}")
        resolver = _Resolver(self.path, values, find_share)
        for action in self.actions:
            resolver.visit(action)
        return resolver.nodes


def read_launch_file(path: Path) -> LaunchFile:
    """Read and check a YAML launch file.

    Raises:
        UserError: if it cannot be read or has something this reader does not support.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict) or set(raw) != {"launch"} or not isinstance(raw["launch"], list):
        raise UserError(f"{path}: is no launch file; it needs the one top-level key `launch` with a list of actions")
    return LaunchFile(path, tuple(_read_action(path, number, entry) for number, entry in enumerate(raw["launch"], 1)))


def _read_action(path: Path, number: int, entry: Any) -> Config:
    if not isinstance(entry, dict) or len(entry) != 1:
        raise UserError(f"{path}: action {number} has to be a mapping with one key, the action's kind")
    ((kind, attributes),) = entry.items()
    if kind not in _ACTIONS:
        known = ", ".join(_ACTIONS)
        raise UserError(f"{path}: action {number} is {kind!r}, which only ROS's own launch runs; known here: {known}")
    return parse_config(attributes, _ACTIONS[kind], f"{path}: action {number} ({kind})")


@dataclass
class _Resolver:
    """Visits actions in their order, as launch does: what is declared or set holds for the actions that follow."""

    path: Path
    values: Mapping[str, str]
    find_share: FindShare
    nodes: list[Node] = field(default_factory=list)
    _variables: dict[str, str] = field(default_factory=dict)
    _environment: dict[str, str] = field(default_factory=dict)

    def visit(self, action: Config) -> None:
        if isinstance(action, _Arg):
            self._declare(action)
        elif isinstance(action, _SetEnv):
            self._environment[self._text(action.name)] = self._text(action.value)
        elif isinstance(action, _Node):
            self._add_node(action)

    def _declare(self, arg: _Arg) -> None:
        value = self.values.get(arg.name)
        if value is None:
            if arg.default is None:
                raise UserError(f"launch argument {arg.name!r} has no default; give {arg.name}:=VALUE")
            value = self._text(arg.default)
        choices = [choice.value for choice in arg.choice]
        if choices and value not in choices:
            raise UserError(f"launch argument {arg.name}:={value} is none of {', '.join(choices)}")
        self._variables[arg.name] = value

    def _add_node(self, node: _Node) -> None:
        try:
            wanted = _truth(self._text(node.condition))
        except ValueError as error:
            raise UserError(f"{self.path}: the condition of {node.exec}: {error}") from error
        if not wanted:
            return
        parameters: dict[str, Any] = {}
        parameter_files: list[Path] = []
        for param in node.param:
            if param.file is not None and param.name is None and param.value is None:
                parameter_files.append(self._parameter_file(param.file))
            elif param.file is None and param.name is not None and param.value is not None:
                parameters[self._text(param.name)] = self._parameter_value(node.exec, param)
            else:
                raise UserError(f"{self.path}: a param of {node.exec} needs either `from`, or `name` and `value`")
        name = None if node.name is None else self._text(node.name)
        self.nodes.append(
            Node(
                package=self._text(node.pkg),
                executable=self._text(node.exec),
                name=name,
                parameters=parameters,
                parameter_files=tuple(parameter_files),
                environment=dict(self._environment),
            )
        )

    def _parameter_file(self, text: str) -> Path:
        path = Path(self._text(text))
        if not path.is_file():
            raise UserError(f"{path}: parameter file not found; {self.path} names it")
        return path

    def _parameter_value(self, owner: str, param: _Param) -> Any:
        if not isinstance(param.value, str):
            return param.value
        text = self._text(param.value)
        if param.type is None:
            return yaml.safe_load(text)
        try:
            return _TYPES[param.type](text)
        except ValueError:
            raise UserError(
                f"parameter {param.name} of {owner}: {text!r} is no {param.type}; correct the value"
            ) from None

    def _text(self, text: str) -> str:
        """``text`` with its substitutions made."""
        unknown = _SUBSTITUTION.sub("", text)
        if "$(" in unknown or "\\" in unknown:
            raise UserError(f"{self.path}: {text!r} has a substitution or an escape that only ROS's own launch makes")
        return _SUBSTITUTION.sub(self._substitute, text)

    def _substitute(self, match: re.Match[str]) -> str:
        kind, operand = match["kind"], match["operand"]
        if kind == "find-pkg-share":
            return str(self.find_share(operand))
        if kind != "var":
            raise UserError(f"{self.path}: the substitution {match[0]} is one that only ROS's own launch makes")
        if operand not in self._variables:
            raise UserError(f"{self.path}: $(var {operand}) is used before an arg declares it")
        return self._variables[operand]
