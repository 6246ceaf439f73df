"""Machine code of functions whose callees changed is forgotten by the set-up, which comes by when a source changed."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_numbas_files_are_forgotten_and_no_others(tmp_path: Path) -> None:
    names = ("a.f-1.py311.nbi", "a.f-1.py311.1.nbc", "a.cpython-311.pyc")
    cache = tmp_path / "package" / "__pycache__"
    cache.mkdir(parents=True)
    for folder in (cache, tmp_path / "package"):
        for name in names:
            (folder / name).touch()
    runpy.run_path(str(ROOT / "scripts" / "warm_cache.py"))["forget_machine_code"](tmp_path)
    assert [path.name for path in cache.iterdir()] == ["a.cpython-311.pyc"]
    assert len(list((tmp_path / "package").glob("a.*"))) == 3


def test_every_source_with_compiled_functions_leads_to_compilation() -> None:
    listed = subprocess.run(
        ["make", "--print-data-base", "--question", "help"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    (rule,) = [line for line in listed.splitlines() if line.startswith(".venv/.stamps/warm:")]
    compiled = [path for path in (ROOT / "ros2_ws" / "src").rglob("*.py") if "njit" in path.read_text(encoding="utf-8")]
    assert compiled
    for path in compiled:
        assert str(path.relative_to(ROOT)) in rule.split()
