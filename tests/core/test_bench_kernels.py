"""Operations are counted right, and every part of the Newton step gets a row."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from deq_mpc_core.bench import kernels
from deq_mpc_core.bench.operations import Counted, Tally, count_operations
from deq_mpc_core.bench.row import BenchOptions

PARTS = ["linearise", "factor", "substitute", "slope", "lagrangian"]


def test_every_operation_counts_once_and_gives_what_floats_give() -> None:
    a, b = Counted(3.0), Counted(4.0)
    before = Tally.total
    assert [a + b, 1.0 + b, a - b, 1.0 - b, a * b, 2.0 * b, a / b, 1.0 / b, a**2] == [
        7,
        5,
        -1,
        -3,
        12,
        8,
        0.75,
        0.25,
        9,
    ]
    assert Tally.total - before == 9
    assert -a < 0.0 < abs(-a)
    assert Tally.total - before == 9


def test_the_count_of_a_product_is_that_of_the_textbook() -> None:
    n = 6
    matrix, vector = (np.array([Counted(1.0)] * size, object) for size in (n * n, n))
    before = Tally.total
    matrix.reshape(n, n) @ vector
    assert Tally.total - before == n * (2 * n - 1)


def test_the_work_of_a_newton_step_grows_with_the_knots_alone() -> None:
    counts = [count_operations("pendulum", horizon, 0) for horizon in (3, 5, 7)]
    assert list(counts[0]) == PARTS
    for part in PARTS:
        assert counts[2][part] - counts[1][part] == pytest.approx(counts[1][part] - counts[0][part], rel=0.2)
        assert counts[2][part] > counts[0][part] > 0


@cache
def per_knot(name: str, spheres: int) -> dict[str, float]:
    return kernels.operations_per_knot(name, spheres)


QUOTED = re.findall(
    r"^\| (\w+), (\w+), (\d+) spheres.* (\d+) operations",
    (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)
"""(part, model, spheres, operations a knot)"""


def test_every_part_of_both_works_is_quoted() -> None:
    works = [(part, name, str(spheres)) for name, spheres in kernels._WORKS for part in PARTS]
    assert [quoted[:3] for quoted in QUOTED] == works


@pytest.mark.parametrize(("part", "name", "spheres", "operations"), QUOTED)
def test_the_document_quotes_what_is_counted(part: str, name: str, spheres: str, operations: str) -> None:
    """Else `deq-mpc bench kernels` has to run again."""
    assert per_knot(name, int(spheres))[part] == pytest.approx(float(operations), rel=0.03)


def test_only_parts_that_see_the_spheres_work_on_them() -> None:
    """A sphere costs these parts at least a squared distance, 3 + 2 + 3 operations, and the others nothing."""
    free, crowded = per_knot("crazyflie", 0), per_knot("crazyflie", 40)
    for part in PARTS:
        if part in ("linearise", "lagrangian"):
            assert 8.0 * 40 < crowded[part] - free[part] < 40.0 * 40, part
        else:
            assert crowded[part] == free[part], part


def test_every_part_has_a_row_with_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_WORKS", (("pendulum", 0),))
    rows = list(kernels.suite(BenchOptions(quick=True)))
    assert [row.work.split(",")[0] for row in rows] == PARTS
    assert sum(row.ratio or 0.0 for row in rows) == pytest.approx(1.0)
    assert all("operations" in row.note and "GFLOP/s" in row.note for row in rows)
