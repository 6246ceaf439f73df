"""What the high-level commander flies: one smooth trajectory at a time, then hover, or motors off after a landing."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from deq_mpc_sim.polynomial import Knot, Piece, Trajectory, at_rest, plan
from deq_mpc_sim.position_control import Motion
from deq_mpc_sim.targets import STOP, Mode, Target

Array = NDArray[np.float64]


_ABSURD = 1e9  # m, rad, and per s and s^2: nobody means to fly there


class Phase(IntEnum):
    """What the planner is doing: nothing (motors off), flying or hovering, landing."""

    IDLE = 0
    FLYING = 1
    LANDING = 3


class Planner:
    """A trajectory and where on it the vehicle is wanted. Times [s], positions [m], yaw [rad], counter-clockwise."""

    def __init__(self) -> None:
        self.phase = Phase.IDLE
        self._path: Trajectory | None = None
        self._knot = at_rest(np.zeros(4))

    @property
    def knot(self) -> Knot:
        """Where the vehicle was last wanted, or where it was while nothing was planned."""
        return self._knot

    def done(self, t: float) -> bool:
        """Whether the trajectory is over."""
        return self._path is None or t - self._path.begin >= self._path.duration

    def stop(self) -> None:
        """Forget the trajectory: motors off."""
        self.phase = Phase.IDLE

    def tell(self, motion: Motion) -> None:
        """Where the vehicle is, so that the next trajectory begins there."""
        self._knot = Knot(np.array([*motion.pos, motion.yaw]), np.array([*motion.vel, 0.0]), np.zeros(4))

    def target(self, t: float, motion: Motion) -> Target:
        """The setpoint at ``t``; a trajectory that leads nowhere on earth is forgotten."""
        if self.phase is Phase.IDLE or self._path is None:
            self.tell(motion)
            return STOP
        knot = self._path.at(t)
        if max(np.abs(part).max() for part in knot) > _ABSURD:
            self.stop()
            return STOP
        self._knot = knot
        if self.phase is Phase.LANDING and self.done(t):
            self.phase = Phase.IDLE
        x, y, z, yaw = (float(value) for value in self._knot.value)
        vx, vy, vz, _ = (float(value) for value in self._knot.rate)
        held = Target(xy=Mode.ABSOLUTE, z=Mode.ABSOLUTE, heading=Mode.ABSOLUTE)
        return held._replace(position=(x, y, z), velocity=(vx, vy, vz), yaw=math.degrees(yaw))

    def take_off(self, height: float, yaw: float | None, duration: float, t: float) -> bool:
        """Climb to ``height``, turning to ``yaw`` the shorter way (None: not at all); False in flight."""
        if self.phase is not Phase.IDLE:
            return False
        self._vertical(height, yaw, duration, t, Phase.FLYING)
        return True

    def land(self, height: float, yaw: float | None, duration: float, t: float) -> bool:
        """Sink to ``height`` and stop the motors there; False if it lands already."""
        if self.phase is Phase.LANDING:
            return False
        self._vertical(height, yaw, duration, t, Phase.LANDING)
        return True

    def go_to(self, aim: Array, relative: bool, linear: bool, duration: float, t: float) -> None:
        """To ``aim`` (4,), x y z yaw: smoothly from the present motion to rest, or ``linear`` at constant speed."""
        start = self._knot
        end = aim + start.value if relative else aim.copy()
        end[3] = start.value[3] + shorter_turn(start.value[3], end[3])
        if linear and duration > 0.0:
            rate = (end - start.value) / duration
            self._follow(plan(Knot(start.value, rate, np.zeros(4)), Knot(end, rate, np.zeros(4)), duration), t)
        else:
            self._follow(plan(start, at_rest(end), duration), t)

    def spiral(
        self,
        angle: float,
        radii: tuple[float, float],
        ascent: float,
        duration: float,
        sideways: bool,
        clockwise: bool,
        t: float,
    ) -> None:
        """An arc of ``angle`` about a centre abeam, or ahead or behind if ``sideways``, from one radius to another."""
        angle = min(max(angle, -2.0 * math.pi), 2.0 * math.pi) * (-1.0 if clockwise else 1.0)
        quarter = 0.5 * math.pi if clockwise else -0.5 * math.pi
        yaw = float(self._knot.value[3])
        bearing = yaw + (quarter + 0.5 * math.pi if sideways else quarter)  # of the vehicle, from the centre
        spin, growth = angle / duration, (radii[1] - radii[0]) / duration
        start = _on_spiral(radii[0], bearing, growth, spin, ascent / duration)
        end = _on_spiral(radii[1], bearing + angle, growth, spin, ascent / duration)
        goal = self._knot.value + end.value - start.value + np.array([0.0, 0.0, ascent, angle])
        self._follow(plan(start._replace(value=self._knot.value), end._replace(value=goal), duration), t)

    def follow(self, path: Trajectory, relative: bool, turned: bool) -> None:
        """Fly ``path``; if ``relative`` shifted to begin here, and if ``turned`` too, turned to begin as it heads."""
        if relative:
            turn = shorter_turn(path.at(path.begin).value[3], self._knot.value[3]) if turned else 0.0
            path = path._replace(turn=float(turn))
            x, y, z, _ = (float(value) for value in self._knot.value - path.at(path.begin).value)
            path = path._replace(shift=(x, y, z))
        self._path, self.phase = path, Phase.FLYING

    def _vertical(self, height: float, yaw: float | None, duration: float, t: float, phase: Phase) -> None:
        x, y, _, now = self._knot.value
        end = at_rest(np.array([x, y, height, now if yaw is None else now + shorter_turn(now, yaw)]))
        self._follow(plan(at_rest(self._knot.value), end, duration), t, phase)

    def _follow(self, piece: Piece, t: float, phase: Phase = Phase.FLYING) -> None:
        self._path, self.phase = Trajectory((piece,), t), phase


def shorter_turn(now: float, aim: float) -> float:
    """The shorter turn from one heading to another [rad]."""
    return math.remainder(aim - now, 2.0 * math.pi)


def _on_spiral(radius: float, bearing: float, growth: float, spin: float, climb: float) -> Knot:
    """Motion at ``bearing`` from a spiral's centre at ``radius``, which grows by ``growth`` [m/s]; yaw turns along."""
    out, along = np.array([math.cos(bearing), math.sin(bearing)]), np.array([-math.sin(bearing), math.cos(bearing)])
    rate = growth * out + radius * spin * along
    acceleration = 2.0 * growth * spin * along - radius * spin**2 * out
    return Knot(
        np.append(radius * out, [0.0, 0.0]), np.append(rate, [climb, spin]), np.append(acceleration, [0.0, 0.0])
    )
