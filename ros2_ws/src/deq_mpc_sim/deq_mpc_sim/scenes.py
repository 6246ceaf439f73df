"""Flight scenes: an arena, a start, a goal and 40 spheres, as a pure function of (seed, index, arguments).

``clutter`` scatters spheres of a given radius, ``gate`` is a wall with one gap off the straight line, ``pocket`` a bowl
that opens towards the start (``walls.py`` builds both and chooses their radius). With moving obstacles the spheres of
every kind fly apart in random directions; with adversarial ones they pursue the vehicle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from deq_mpc_core.errors import UserError
from deq_mpc_sim.obstacles import Array, Room, fly, pursue, push_out
from deq_mpc_sim.walls import build_gate, build_pocket

Kind = Literal["clutter", "gate", "pocket"]
Motion = Literal["static", "moving", "adversarial"]

COUNT = 40
ARENA_LOW = np.array([-2.0, -2.0, 0.3])
ARENA_HIGH = np.array([2.0, 2.0, 1.8])
FENCE_MARGIN = 0.3  # m: an episode ends this far outside the arena
KEEP_OUT = 0.35  # m: no sphere's centre nearer to start or goal
DEFAULT_SPEED = 0.5  # m/s: the fastest moving sphere

_INSET = 0.4  # m: start and goal from the wall behind them
_SIDEWAYS = 1.2  # m: largest offset of start and goal along their wall
_HEIGHTS = (0.7, 1.4)  # m: start and goal
_SURFACE_KEEP_OUT = 0.15  # m: free space around start and goal when the spheres are larger than KEEP_OUT
for _bound in (ARENA_LOW, ARENA_HIGH):
    _bound.setflags(write=False)


@dataclass(frozen=True)
class Scene:
    """One scene; all arrays are read-only.

    Attributes:
        kind, motion: what it was made as.
        start, goal: (3,) positions [m].
        obstacles: (K, 7) spheres at t = 0: x y z radius vx vy vz.
        low, high: (3,) corners of the arena [m].
        speed: limit of the obstacles' speed [m/s].
        keep_out: no centre is nearer to start or goal at t = 0, nor to the goal ever [m].
        passage: (3,) centre of the gap of a gate; None for the other kinds.
    """

    kind: Kind
    motion: Motion
    start: Array
    goal: Array
    obstacles: Array
    low: Array
    high: Array
    speed: float
    keep_out: float
    passage: Array | None = None

    @property
    def room(self) -> Room:
        """Where moving spheres may be."""
        return Room(self.low, self.high, self.goal, self.keep_out)


def keep_out_distance(radius: float) -> float:
    """Smallest distance of a sphere's centre to start and goal [m]: 0.35 m, more for spheres that would cover them."""
    return max(KEEP_OUT, radius + _SURFACE_KEEP_OUT)


def positions(scene: Scene, t: float) -> Array:
    """Obstacles (K, 7) at ``t`` >= 0 seconds, with their velocities then; a pure function of time.

    Adversarial obstacles depend on the vehicle: they stand here at t = 0 for ``advance_adversarial`` to move on.
    """
    return fly(scene.obstacles, t, scene.room) if scene.motion == "moving" else scene.obstacles


def advance_adversarial(scene: Scene, obstacles: Array, position: Array, velocity: Array, dt: float) -> Array:
    """Adversarial obstacles (K, 7) ``dt`` later, the vehicle being at ``position`` with ``velocity`` (3,) now."""
    return pursue(obstacles, position, velocity, dt, scene.speed, scene.room)


def make_scene(kind: str, obstacles: str, radius: float, seed: int, index: int, speed: float = DEFAULT_SPEED) -> Scene:
    """The ``index``-th scene of ``seed``: the same arguments give the same scene, on any machine.

    Static and moving scenes of the same arguments share start, goal and geometry.

    Args:
        kind: clutter, gate or pocket.
        obstacles: static, moving or adversarial.
        radius: of the spheres of a clutter [m]; gate and pocket choose the one that closes their walls.
        seed, index: non-negative.
        speed: of the fastest moving sphere [m/s].

    Raises:
        UserError: for an unknown kind or motion, or an argument out of range.
    """
    _check_arguments(kind, obstacles, radius, seed, index, speed)
    rng = np.random.default_rng([seed, index, get_args(Kind).index(kind)])
    start, goal = _draw_ends(rng)
    passage = None
    if kind == "gate":
        spheres, passage = build_gate(rng, start, goal, COUNT, ARENA_LOW, ARENA_HIGH, FENCE_MARGIN)
    elif kind == "pocket":
        spheres = build_pocket(rng, start, goal, COUNT)
    else:
        spheres = _scatter(rng, start, goal, radius)
    keep_out = keep_out_distance(float(spheres[0, 3]))
    if obstacles != "static":
        spheres[:, :3] = np.clip(push_out(spheres[:, :3], goal, keep_out), ARENA_LOW, ARENA_HIGH)
    if obstacles == "moving":
        spheres[:, 4:7] = _draw_velocities(rng, speed)
    for array in (start, goal, spheres, passage):
        if array is not None:
            array.setflags(write=False)
    return Scene(kind, obstacles, start, goal, spheres, ARENA_LOW, ARENA_HIGH, speed, keep_out, passage)  # type: ignore[arg-type]


def _check_arguments(kind: str, motion: str, radius: float, seed: int, index: int, speed: float) -> None:
    if kind not in get_args(Kind):
        raise UserError(f"unknown scene {kind!r}; choose one of {', '.join(get_args(Kind))}")
    if motion not in get_args(Motion):
        raise UserError(f"unknown obstacles {motion!r}; choose one of {', '.join(get_args(Motion))}")
    if not 0.0 < radius <= 0.5:
        raise UserError(f"obstacle radius {radius} m is out of range; choose 0 < radius <= 0.5 m")
    if not 0.0 <= speed <= 5.0:
        raise UserError(f"obstacle speed {speed} m/s is out of range; choose 0 to 5 m/s")
    if seed < 0 or index < 0:
        raise UserError(f"seed {seed} and index {index} must not be negative")


def _draw_ends(rng: np.random.Generator) -> tuple[Array, Array]:
    """Start and goal at opposite sides of the arena; the side is one of the four."""
    axis, side = int(rng.integers(2)), float(rng.choice([-1.0, 1.0]))
    ends = np.empty((2, 3))
    ends[:, axis] = side * (ARENA_HIGH[0] - _INSET) * np.array([1.0, -1.0])
    ends[:, 1 - axis] = rng.uniform(-_SIDEWAYS, _SIDEWAYS, 2)
    ends[:, 2] = rng.uniform(*_HEIGHTS, 2)
    return ends[0], ends[1]


def _scatter(rng: np.random.Generator, start: Array, goal: Array, radius: float) -> Array:
    """(COUNT, 7) spheres at rest, centres uniform over the arena outside the balls around start and goal."""
    keep_out = keep_out_distance(radius)
    spheres = np.zeros((COUNT, 7))
    spheres[:, 3] = radius
    for sphere in spheres:
        while True:
            centre = rng.uniform(ARENA_LOW, ARENA_HIGH)
            if min(np.linalg.norm(centre - start), np.linalg.norm(centre - goal)) >= keep_out:
                break
        sphere[:3] = centre
    return spheres


def _draw_velocities(rng: np.random.Generator, speed: float) -> Array:
    """(COUNT, 3) velocities: direction uniform on the sphere, magnitude uniform up to ``speed`` [m/s]."""
    direction = rng.normal(size=(COUNT, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * rng.uniform(0.0, speed, (COUNT, 1))
