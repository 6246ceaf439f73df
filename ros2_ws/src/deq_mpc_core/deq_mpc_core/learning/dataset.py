"""Training samples from recorded flights: where the vehicle was, what it knew, and where the expert went from there."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.errors import UserError
from deq_mpc_core.learning.bag_report import BagReport
from deq_mpc_core.learning.bags import BagConfig, find_bags, read_flights
from deq_mpc_core.learning.recorded_vehicle import integer_thrust
from deq_mpc_core.learning.sampling import FlightSamples, SampleConfig, SampleSpec, sample_flight
from deq_mpc_core.learning.track import hermite
from deq_mpc_core.models.crazyflie import nominal_params

Float32 = NDArray[np.float32]
Int = NDArray[np.int32]
FORMAT = 3
"""Of the cached file and of everything that decides its content; raise it with each change of either."""
_ANY_INTEGER = 30_000.0
"""A setpoint's: its thrust stands for the whole map, which is linear."""


class DatasetConfig(BagConfig, SampleConfig):
    """``config/dataset.yaml``."""

    validation_fraction: float

    def of_bags(self, vehicle: Mapping[str, str | None], remaps: Sequence[str]) -> DatasetConfig:
        """This configuration for bags of another ``vehicle`` (fields of `RecordedVehicle` that are known), remapped.

        Raises:
            UserError: if a remap is none.
        """
        known = {name: value for name, value in vehicle.items() if value is not None}
        topics = self.topics.of_robot(known.get("robot", self.robot), self.robot).remapped(remaps)
        return self.model_copy(update={**known, "topics": topics})


@dataclass(frozen=True)
class Dataset:
    """N samples as arrays; world frame, SI. Obstacles are stored once per flight where they do not move.

    Attributes:
        spec: the times of labels and next states.
        x: states (N, 13). x_next: (N, steps, 13), the states ``dt_control`` apart that followed.
        goal: (N, 3).
        label: (N, label_knots, 6) positions and velocities at t + k dt, k = 0, 1, ...
        obstacle_sets: (S, K, 7), zero beyond each set's ``obstacle_count`` (S,).
        obstacle_set: (N,) the set of each sample.
        flight: (N,) index into ``sources``. t: (N,) seconds from the flight's first pose.
        sources: the bag of each flight.
    """

    spec: SampleSpec
    x: Float32
    x_next: Float32
    goal: Float32
    label: Float32
    obstacle_sets: Float32
    obstacle_count: Int
    obstacle_set: Int
    flight: Int
    t: Float32
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def fingerprint(self) -> str:
        """Of the samples, wherever their bags lie."""
        digest = hashlib.sha256(json.dumps(asdict(self.spec)).encode())
        for name in ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, name)).data)
        return digest.hexdigest()

    def obstacles(self, index: NDArray[np.integer]) -> tuple[Float32, Int]:
        """Obstacles (B, K, 7), zero-padded, and their numbers (B,) of the samples ``index`` (B,)."""
        sets = self.obstacle_set[index]
        return self.obstacle_sets[sets], self.obstacle_count[sets]

    def label_from(self, index: NDArray[np.integer], delay: float) -> Float32:
        """Labels (B, horizon, 6) of the samples ``index``, starting ``delay`` [s] after them."""
        first, dt = math.floor(delay / self.spec.dt + 1e-9), self.spec.dt
        label = self.label[index].astype(np.float64)
        a, b = label[:, first : first + self.spec.horizon], label[:, first + 1 : first + 1 + self.spec.horizon]
        fraction = delay / dt - first
        if a.shape[1] < self.spec.horizon or (fraction > 1e-6 and b.shape != a.shape):
            raise ValueError(f"labels of {self.spec.label_knots} knots do not reach {delay} s beyond the horizon")
        if fraction <= 1e-6:
            return a.astype(np.float32)
        later = hermite(a[..., :3], a[..., 3:], b[..., :3], b[..., 3:], fraction, dt)
        return np.concatenate(later, axis=-1, dtype=np.float32)

    def split(self, validation_fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Sample indices for training and validation; a flight's samples stay together."""
        flights = np.random.default_rng(seed).permutation(len(self.sources))
        count = round(validation_fraction * len(flights))
        if validation_fraction > 0.0 and len(flights) > 1:
            count = min(max(count, 1), len(flights) - 1)
        validation = np.isin(self.flight, flights[:count])
        return np.flatnonzero(~validation), np.flatnonzero(validation)


def build_dataset(
    bags: Sequence[Path],
    config: DatasetConfig,
    spec: SampleSpec,
    tau_thrust: float,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> tuple[Dataset, BagReport]:
    """Read all ``bags``; ``progress`` wraps their iteration, e.g. ``rich.progress.track``.

    Raises:
        UserError: if no bag gives a sample.
    """
    report = BagReport()
    sources: list[str] = []
    flights: list[FlightSamples] = []
    for log in read_flights(progress(bags), config, report):
        samples = sample_flight(log, config, spec, tau_thrust, report)
        if samples is None:
            report.drop(log.source, f"no sample with a whole label of {spec.label_knots} knots")
        else:
            report.use(log.source, len(samples.x))
            sources.append(str(log.source))
            flights.append(samples)
    if not flights:
        first = report.dropped[0]
        raise UserError(f"none of {len(bags)} bags is usable; the first, {first.bag}: {first.dropped}")
    return _join(sources, flights, spec), report


def _join(sources: Sequence[str], flights: Sequence[FlightSamples], spec: SampleSpec) -> Dataset:
    sets = [obstacles for samples in flights for obstacles in samples.obstacle_sets]
    widest = max((len(obstacles) for obstacles in sets), default=0)
    padded = np.zeros((len(sets), widest, 7), np.float32)
    for i, obstacles in enumerate(sets):
        padded[i, : len(obstacles)] = obstacles
    first_set = np.cumsum([0, *(len(samples.obstacle_sets) for samples in flights[:-1])])
    return Dataset(
        spec=spec,
        x=np.concatenate([samples.x for samples in flights]),
        x_next=np.concatenate([samples.x_next for samples in flights]),
        goal=np.concatenate([samples.goal for samples in flights]),
        label=np.concatenate([samples.label for samples in flights]),
        obstacle_sets=padded,
        obstacle_count=np.array([len(obstacles) for obstacles in sets], np.int32),
        obstacle_set=np.concatenate(
            [first + samples.obstacle_set for first, samples in zip(first_set, flights, strict=True)], dtype=np.int32
        ),
        flight=np.repeat(np.arange(len(flights), dtype=np.int32), [len(samples.x) for samples in flights]),
        t=np.concatenate([samples.t for samples in flights]),
        sources=tuple(sources),
    )


ARRAYS = ("x", "x_next", "goal", "label", "obstacle_sets", "obstacle_count", "obstacle_set", "flight", "t")


def save_dataset(path: Path, dataset: Dataset, report: BagReport) -> None:
    """Write an .npz with the samples and the report; the file appears whole or not at all."""
    meta = {"spec": asdict(dataset.spec), "sources": dataset.sources, "report": report.to_json()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            np.savez(file, meta=np.array(json.dumps(meta)), **{name: getattr(dataset, name) for name in ARRAYS})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_dataset(path: Path) -> tuple[Dataset, BagReport]:
    """Read what ``save_dataset`` wrote."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        arrays = {name: file[name] for name in ARRAYS}
    spec = SampleSpec(**meta["spec"])
    return Dataset(spec=spec, sources=tuple(meta["sources"]), **arrays), BagReport.from_json(meta["report"])


def _fingerprint(bags: Sequence[Path], config: DatasetConfig, spec: SampleSpec, tau_thrust: float) -> str:
    files = sorted(file for bag in bags for file in ([bag] if bag.is_file() else bag.iterdir()) if file.is_file())
    thrust_of = integer_thrust(config)
    vehicle = [nominal_params().tolist(), None if thrust_of is None else thrust_of(_ANY_INTEGER)]
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    content = json.dumps([FORMAT, config.model_dump(), asdict(spec), tau_thrust, vehicle, stats], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def prepare_dataset(
    roots: Sequence[Path],
    config: DatasetConfig,
    spec: SampleSpec,
    tau_thrust: float,
    cache_dir: Path | None = None,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> tuple[Dataset, BagReport]:
    """The dataset of all bags below ``roots``, from ``cache_dir`` if neither the bags nor the arguments changed.

    Raises:
        UserError: if there is no bag, or none is usable.
    """
    bags = find_bags(roots)
    if cache_dir is None:
        return build_dataset(bags, config, spec, tau_thrust, progress)
    path = cache_dir / f"dataset-{_fingerprint(bags, config, spec, tau_thrust)}.npz"
    if path.exists():
        with suppress(OSError, EOFError, ValueError, KeyError, BadZipFile):  # a damaged cache is made again
            return load_dataset(path)
    dataset, report = build_dataset(bags, config, spec, tau_thrust, progress)
    save_dataset(path, dataset, report)
    return dataset, report
