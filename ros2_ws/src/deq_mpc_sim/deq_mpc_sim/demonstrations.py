"""Flights to learn from: which scenes, who flies them, and what of them is kept.

Scenes, radii and speeds are a pure function of (seed, index), in a domain of seeds of their own (``TRAINING_DOMAIN``),
so no evaluation ever meets them. A bag without plans shows the expert's own undisturbed flight; where somebody else
flew, or noise did, the expert's plans are written into the bag (``relabel.py``).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deq_mpc_core.config import Config, parse_config
from deq_mpc_core.errors import UserError
from deq_mpc_sim.campaign import TRAINING_DOMAIN, Flight, SceneArguments, fly
from deq_mpc_sim.episode import Episode
from deq_mpc_sim.exploration import ExplorationNoise
from deq_mpc_sim.relabel import RelabelTask, try_relabel

EXPERT = "expert"
SCENES = {
    "clutter": ("clutter", "static"),
    "clutter-moving": ("clutter", "moving"),
    "gate": ("gate", "static"),
    "pocket": ("pocket", "static"),
    "gate-moving": ("gate", "moving"),
    "pocket-moving": ("pocket", "moving"),
}
"""Names in a mix: kind and motion."""
DEFAULT_MIX = {"clutter": 0.3, "clutter-moving": 0.3, "gate": 0.2, "pocket": 0.2}
RADII = (0.08, 0.25)
"""Of the spheres in a clutter [m]; uniform."""
SPEEDS = (0.2, 0.6)
"""Of the fastest moving sphere [m/s]; uniform."""
FAILED = ".failed"
"""Folder of the expert's flights that did not reach the goal; hidden, so that training does not read it."""
_FLYING = ".flying"
_MANIFEST = "expert.json"
_STREAM = 0xDE40
_GOLDEN = 0.6180339887498949


class Collection(Config):
    """What decides the flights of a folder, but for their number.

    Attributes:
        policy: who flies.
        seed: of scenes and disturbances.
        mix: shares of the scenes, by their names in ``SCENES``.
        noise: share of the flights with noise on the commands.
    """

    policy: str
    seed: int
    mix: dict[str, float]
    noise: float


@dataclass(frozen=True)
class Demonstration:
    """One flight to learn from; ``flight.bag`` is where it is kept."""

    flight: Flight
    labelled: bool


def parse_mix(text: str) -> dict[str, float]:
    """Shares such as ``clutter=2,gate=1``, scaled to a sum of 1.

    Raises:
        UserError: for an unknown scene or a share that is none.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        if name not in SCENES:
            raise UserError(f"unknown scene {name!r} in the mix; choose among {', '.join(SCENES)}")
        try:
            shares[name] = float(share)
        except ValueError:
            raise UserError(f"{part!r} is no share; write SCENE=NUMBER, for example {name}=0.5") from None
        if not 0.0 <= shares[name] < np.inf:
            raise UserError(f"share {share} of {name} is out of range; choose 0 or more")
    total = sum(shares.values())
    if not 0.0 < total < np.inf:
        raise UserError(f"the shares of the mix add up to {total}; give shares whose sum is above 0 and finite")
    return {name: share / total for name, share in shares.items()}


def choose_scene(mix: dict[str, float], seed: int, index: int) -> SceneArguments:
    """Arguments of the ``index``-th scene; the kinds alternate so that any number of flights has about their shares."""
    names, shares = list(mix), np.cumsum(list(mix.values()))
    at = (0.5 + index * _GOLDEN) % 1.0  # a golden-ratio sequence fills [0, 1) evenly
    kind, motion = SCENES[names[min(int(np.searchsorted(shares, at, side="right")), len(names) - 1)]]
    rng = np.random.default_rng([TRAINING_DOMAIN + seed, index, _STREAM])
    radius, speed = rng.uniform(*RADII), rng.uniform(*SPEEDS)
    return SceneArguments(kind, motion, float(radius), float(speed))


def plan_demonstrations(collection: Collection, count: int, folder: Path) -> list[Demonstration]:
    """The first ``count`` flights of a collection, to be kept in ``folder``."""
    return [_plan_one(collection, index, folder) for index in range(count)]


def _plan_one(collection: Collection, index: int, folder: Path) -> Demonstration:
    scene = choose_scene(collection.mix, collection.seed, index)
    rng = np.random.default_rng([TRAINING_DOMAIN + collection.seed, index, _STREAM, 1])
    noise = ExplorationNoise() if rng.random() < collection.noise else None
    bag = folder / scene.name(collection.seed, index)
    flight = Flight(collection.policy, scene, TRAINING_DOMAIN + collection.seed, index, bag, noise, filtered=False)
    return Demonstration(flight, labelled=noise is not None or collection.policy != EXPERT)


def remaining(demonstrations: Iterable[Demonstration]) -> list[Demonstration]:
    """Those that have not been flown yet."""
    return [one for one in demonstrations if not (_kept_at(one).exists() or _failed_at(one).exists())]


def failures(demonstrations: Iterable[Demonstration]) -> list[Demonstration]:
    """Those whose flight was put aside."""
    return [one for one in demonstrations if _failed_at(one).exists()]


def demonstrate(one: Demonstration) -> Episode:
    """Fly, record, label, and keep or put aside; the bag appears when it is complete.

    The expert's failures are put aside. A learner's are kept: the expert's answers to them are what it has to learn.
    """
    kept = _kept_at(one)
    flying = kept.parent / _FLYING / kept.name
    shutil.rmtree(flying, ignore_errors=True)
    episode = fly(replace(one.flight, bag=flying))
    if not episode.success and one.flight.policy == EXPERT:
        _put_aside(flying, one)
        return episode
    if not one.labelled:
        flying.replace(kept)
        return episode
    if try_relabel(RelabelTask(flying, kept)) is None:
        shutil.rmtree(flying)
    else:  # too short, or no safe way from any of its states: nothing to learn from
        _put_aside(flying, one)
    return episode


def _put_aside(bag: Path, one: Demonstration) -> None:
    failed = _failed_at(one)
    failed.parent.mkdir(exist_ok=True)
    bag.replace(failed)


def _kept_at(one: Demonstration) -> Path:
    assert one.flight.bag is not None
    return one.flight.bag


def _failed_at(one: Demonstration) -> Path:
    kept = _kept_at(one)
    return kept.parent / FAILED / kept.name


def open_folder(folder: Path, collection: Collection) -> None:
    """Make the folder, or check that it belongs to the same collection.

    Raises:
        UserError: if it holds other flights or cannot be written.
    """
    manifest = folder / _MANIFEST
    try:
        if manifest.exists():
            found = parse_config(json.loads(manifest.read_text(encoding="utf-8")), Collection, str(manifest))
        elif folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} holds something else; choose an empty folder")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f".{_MANIFEST}.partial"
            partial.write_text(json.dumps(collection.model_dump(), indent=1) + "\n", encoding="utf-8")
            partial.replace(manifest)
            found = collection
    except OSError as error:
        raise UserError(f"{folder}: cannot be used ({error.strerror}); choose another folder") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{manifest}: is not valid JSON; choose another folder") from error
    if found != collection:
        changed = [name for name in Collection.model_fields if getattr(found, name) != getattr(collection, name)]
        raise UserError(f"{folder} has flights of another {' and '.join(changed)}; choose another folder")
    (folder / _FLYING).mkdir(exist_ok=True)


def close_folder(folder: Path) -> None:
    """Remove what only flights under way need."""
    flying = folder / _FLYING
    if flying.is_dir() and not any(flying.iterdir()):
        flying.rmdir()


def count_scenes(demonstrations: Sequence[Demonstration]) -> dict[str, int]:
    """How many flights there are of each kind of scene."""
    counts: dict[str, int] = {}
    for one in demonstrations:
        name = f"{one.flight.scene.kind} {one.flight.scene.motion}"
        counts[name] = counts.get(name, 0) + 1
    return counts
