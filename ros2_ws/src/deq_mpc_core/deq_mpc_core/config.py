"""Validated configuration: frozen models, unknown keys refused, every physical constant with its unit and source."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from deq_mpc_core.errors import UserError


class Config(BaseModel):
    """Base of all configuration: immutable, no unknown keys, no coercion of strings to numbers, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=Config)


def in_unit(unit: str) -> BeforeValidator:
    """Reader of a physical constant, for type checkers' eyes: ``mass: Annotated[float, in_unit("kg")]``."""

    def read(raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise ValueError(f"write it as {{value: ..., unit: {unit}, source: ...}}")
        keys = set(raw)
        if keys != {"value", "unit", "source"}:
            raise ValueError(f"needs exactly the keys value, unit and source, not {sorted(keys)}")
        if raw["unit"] != unit:
            raise ValueError(f"unit {raw['unit']!r} is not {unit!r}; convert the value to {unit!r}")
        value = raw["value"]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return BeforeValidator(read)


def quantity(unit: str) -> Any:
    """Type of a physical constant: ``mass: quantity("kg")`` reads ``{value: 0.03, unit: kg, source: ...}`` as a float.

    The unit must be the one the field declares; nothing is converted silently.
    """
    return Annotated[float, in_unit(unit)]


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {place!r}; remove it or correct its spelling"
    if problem["type"] == "missing":
        return f"key {place!r} is missing; add it"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}"


def parse_config(raw: Any, cls: type[ConfigT], source: str) -> ConfigT:
    """Validate ``raw`` as ``cls``.

    Raises:
        UserError: naming ``source``, the first offending key and what to do.
    """
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{source}: {_first_problem(error)}") from error


def config_path(name: str) -> Path:
    """Path of the shipped ``config/<name>.yaml``."""
    return Path(str(files("deq_mpc_core"))) / "config" / f"{name}.yaml"


def read_yaml(path: Path) -> Any:
    """Content of a YAML file.

    Raises:
        UserError: if it cannot be read or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid YAML; {' '.join(str(error).split())}") from error


def load_config(name_or_path: str | Path, cls: type[ConfigT]) -> ConfigT:
    """Read and validate a YAML file: a shipped one by its bare name, or any by its path.

    Raises:
        UserError: if the file is missing, is not YAML, has an unknown key, a wrong type or a wrong unit.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = config_path(str(name_or_path))
    raw = read_yaml(path)
    return parse_config(raw if raw is not None else {}, cls, str(path))
