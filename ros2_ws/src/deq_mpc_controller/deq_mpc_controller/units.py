"""Configuration types of the flight side: a number in the unit that its name says."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deq_mpc_core.config import in_unit

Number = Annotated[float, in_unit("1")]
Second = Annotated[float, in_unit("s")]
PerSecond = Annotated[float, in_unit("1/s")]
Hertz = Annotated[float, in_unit("Hz")]
Metre = Annotated[float, in_unit("m")]
Speed = Annotated[float, in_unit("m/s")]
Acceleration = Annotated[float, in_unit("m/s^2")]
AccelerationNoise = Annotated[float, in_unit("m/s^1.5")]
DisturbanceNoise = Annotated[float, in_unit("m/s^2.5")]
Radian = Annotated[float, in_unit("rad")]
AngularRate = Annotated[float, in_unit("rad/s")]
AngularNoise = Annotated[float, in_unit("rad/s^1.5")]
FactorNoise = Annotated[float, in_unit("1/s^0.5")]
Kilogram = Annotated[float, in_unit("kg")]
Newton = Annotated[float, in_unit("N")]
Volt = Annotated[float, in_unit("V")]
Metres3 = Annotated[tuple[float, float, float], Field(strict=False), in_unit("m")]
