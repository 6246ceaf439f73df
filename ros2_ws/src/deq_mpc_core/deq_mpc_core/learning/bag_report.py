"""What became of each bag: used or dropped, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table


@dataclass
class BagOutcome:
    """One bag's line: ``samples`` taken, ``dropped`` the reason if the whole bag was, ``notes`` on the rest."""

    bag: str
    samples: int
    dropped: str | None
    notes: list[str]


class BagReport:
    """Collects the outcomes of all bags in the order of reading."""

    def __init__(self) -> None:
        self._outcomes: dict[str, BagOutcome] = {}

    def _of(self, bag: Path) -> BagOutcome:
        return self._outcomes.setdefault(str(bag), BagOutcome(str(bag), 0, None, []))

    def use(self, bag: Path, samples: int) -> None:
        """``samples`` of ``bag`` are used."""
        self._of(bag).samples += samples

    def drop(self, bag: Path, reason: str) -> None:
        """Nothing of ``bag`` is used."""
        self._of(bag).dropped = reason

    def note(self, bag: Path, reason: str) -> None:
        """A part of ``bag`` is left out, or concluded."""
        notes = self._of(bag).notes
        if reason not in notes:
            notes.append(reason)

    @property
    def outcomes(self) -> list[BagOutcome]:
        """All bags."""
        return list(self._outcomes.values())

    @property
    def used(self) -> list[BagOutcome]:
        """Bags that gave samples."""
        return [outcome for outcome in self.outcomes if outcome.dropped is None]

    @property
    def dropped(self) -> list[BagOutcome]:
        """Bags that gave none."""
        return [outcome for outcome in self.outcomes if outcome.dropped is not None]

    def to_json(self) -> list[dict[str, Any]]:
        """As plain data."""
        return [asdict(outcome) for outcome in self.outcomes]

    @classmethod
    def from_json(cls, raw: list[dict[str, Any]]) -> BagReport:
        """The inverse of ``to_json``."""
        report = cls()
        report._outcomes = {entry["bag"]: BagOutcome(**entry) for entry in raw}
        return report

    def _rows(self) -> Iterator[tuple[str, str, list[BagOutcome]]]:
        yield "used", "", self.used
        for label, kind in (("noted", "notes"), ("dropped", "dropped")):
            by_reason: dict[str, list[BagOutcome]] = {}
            for outcome in self.used if kind == "notes" else self.dropped:
                for reason in outcome.notes if kind == "notes" else [outcome.dropped or ""]:
                    by_reason.setdefault(reason, []).append(outcome)
            for reason, outcomes in sorted(by_reason.items(), key=lambda item: -len(item[1])):
                yield label, reason, outcomes

    def table(self) -> Table:
        """Counts by reason, each with one example."""
        table = Table(title="Rosbags", title_justify="left")
        for header, justify in (
            ("", "left"),
            ("bags", "right"),
            ("samples", "right"),
            ("why", "left"),
            ("e.g.", "left"),
        ):
            table.add_column(header, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for label, reason, outcomes in self._rows():
            samples = sum(outcome.samples for outcome in outcomes)
            example = "/".join(Path(outcomes[0].bag).parts[-2:]) if reason else ""  # each flight has a `bag` of its own
            table.add_row(label, str(len(outcomes)), str(samples), reason, example)
        return table
