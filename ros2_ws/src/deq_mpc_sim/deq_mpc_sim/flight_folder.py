"""The folder of one flight: bag, picture and verdict, each of them whole or not there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from deq_mpc_core.errors import UserError
from deq_mpc_sim.bag_writer import BagFile
from deq_mpc_sim.flight_watch import FlightWatch
from deq_mpc_sim.referee import Verdict

BAG, PICTURE, VERDICT = "bag", "flight.png", "verdict.json"


class FlightFolder:
    """``path`` with the open ``bag`` of a flight in it."""

    def __init__(self, path: Path) -> None:
        """Make the folder.

        Raises:
            UserError: if it holds a flight already or cannot be written.
        """
        self.path = path
        self.bag = BagFile(path / BAG)

    def keep(self, watch: FlightWatch, caption: str) -> Verdict:
        """Close the bag, draw the picture, write the verdict; the verdict comes last, when all else is there."""
        from deq_mpc_sim.report import save_report  # matplotlib takes a second to load: not before the flight

        self.bag.close()
        verdict = watch.verdict(str(self.path / BAG), str(self.path / PICTURE))
        save_report(self.path / PICTURE, watch.record(), verdict, caption)
        partial = self.path / f".{VERDICT}.partial"
        partial.write_text(verdict.to_json() + "\n", encoding="utf-8")
        partial.replace(self.path / VERDICT)
        return verdict

    def discard(self) -> None:
        """Leave nothing, of a flight that did not take place."""
        self.bag.discard()
        with suppress(OSError):  # something else is in the folder: it stays
            self.path.rmdir()


def read_verdict(path: Path) -> Verdict | None:
    """The verdict in a flight's folder, None if there is none.

    Raises:
        UserError: if the file is not a verdict.
    """
    try:
        return Verdict.from_json((path / VERDICT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path / VERDICT}: is not the verdict of a flight; remove it") from error
