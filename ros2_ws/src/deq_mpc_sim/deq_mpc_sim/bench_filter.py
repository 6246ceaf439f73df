"""The suite ``filter`` of ``deq-mpc bench``: what the controller's last-resort filter makes of adversaries.

Each of them flies for 10 s through cluttered scenes, in lockstep with simulated vehicle, motion capture and gusts, with
the filter and without. A scene is lost when the vehicle's centre enters a sphere or leaves the fence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from deq_mpc_controller.settings import ControllerConfig, controller_config, unfiltered_config
from deq_mpc_core.bench.row import BenchOptions, Row
from deq_mpc_sim.adversaries import ADVERSARIES, Adversary
from deq_mpc_sim.campaign import SceneArguments
from deq_mpc_sim.episode import World, control, pilot_in_hover
from deq_mpc_sim.obstacles import clearance

SCENES, QUICK_SCENES = 20, 2
SECONDS, QUICK_SECONDS = 10.0, 3.0
SCENE = SceneArguments("clutter", "static", 0.15)
SEED = 0xF117E6


@dataclass(frozen=True)
class Outcome:
    """One flight.

    Attributes:
        clearance: smallest distance of the vehicle's centre from a sphere's surface [m].
        inside: smallest distance from the fence [m]; negative outside.
        height: least [m].
        overruled: share of the control steps whose command was changed.
        failure: why the controller gave up; "" if it did not.
        step_ms: computing time of a control step, all of it [ms].
    """

    clearance: float
    inside: float
    height: float
    overruled: float
    failure: str
    step_ms: float

    @property
    def lost(self) -> bool:
        """Whether it hit something, left the fence or fell to the ground."""
        return self.clearance < 0.0 or self.inside < 0.0 or self.height <= 0.0


def suite(options: BenchOptions) -> Iterator[Row]:
    """Two rows for each adversary; the filter's own time is the difference of theirs, roughly."""
    scenes, seconds = (QUICK_SCENES, QUICK_SECONDS) if options.quick else (SCENES, SECONDS)
    engines = {"filter": controller_config(), "no filter": unfiltered_config()}
    for kind in ADVERSARIES:
        for engine, config in engines.items():
            outcomes = [fly(kind, index, seconds, config) for index in range(scenes)]
            times = np.array([outcome.step_ms for outcome in outcomes])
            work = f"adversary {kind}, {scenes} scenes of {seconds:g} s"
            p50, p99 = float(np.median(times)), float(np.percentile(times, 99))
            yield Row(work, engine, 1, 1, 1, p50, p99, None, describe(outcomes), summarise(outcomes))


def fly(kind: str, index: int, seconds: float, config: ControllerConfig) -> Outcome:
    """The adversary through the ``index``-th scene, until the time is up, something is hit or the controller lands."""
    scene = SCENE.scene(SEED, index)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence([SEED, index]).spawn(4)]
    world = World(scene, streams)
    pilot = pilot_in_hover(Adversary(kind, index), world, scene, config)
    low, high = np.array(config.safety.fence_low), np.array(config.safety.fence_high)
    nearest = inside = height = np.inf
    changed = steps = 0
    until, began = world.t + seconds, perf_counter()
    while world.t < until and min(nearest, inside, height) > 0.0 and not pilot.state.failure:
        step = control(pilot, world, scene.goal)
        steps += 1
        changed += step.filtered is not None and step.filtered.intervened
        world.advance(step.setpoint.command)
        pos = world.truth.pos
        nearest = min(nearest, clearance(pos, world.obstacles))
        inside = min(inside, float((pos - low).min()), float((high - pos).min()))
        height = min(height, float(pos[2]))
    spent = 1e3 * (perf_counter() - began)
    return Outcome(nearest, inside, height, changed / steps, pilot.state.failure, spent / steps)


def summarise(outcomes: list[Outcome]) -> dict[str, float]:
    """The flights in numbers."""
    return {
        "scenes": len(outcomes),
        "collisions": sum(outcome.clearance < 0.0 for outcome in outcomes),
        "breaches": sum(outcome.inside < 0.0 for outcome in outcomes),
        "crashes": sum(outcome.height <= 0.0 for outcome in outcomes),
        "landings": sum(outcome.failure != "" for outcome in outcomes),
        "min_clearance_m": min(outcome.clearance for outcome in outcomes),
        "min_inside_m": min(outcome.inside for outcome in outcomes),
        "overruled": float(np.mean([outcome.overruled for outcome in outcomes])),
    }


def describe(outcomes: list[Outcome]) -> str:
    """The flights in one line."""
    s = summarise(outcomes)
    return (
        f"{s['collisions']:g} collisions, {s['breaches']:g} out of the fence, {s['crashes']:g} on the ground, "
        f"{s['landings']:g} landed by safety; nearest {1e3 * s['min_clearance_m']:.0f} mm, "
        f"fence {1e3 * s['min_inside_m']:.0f} mm; {100.0 * s['overruled']:.0f} % of the commands changed"
    )
