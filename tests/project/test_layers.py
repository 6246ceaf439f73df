"""Who may import what, beyond what import-linter's contracts can say; and that it gets installed."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "ros2_ws/src"
PACKAGES = ("deq_mpc_core", "deq_mpc_controller", "deq_mpc_sim")
ROS = {
    "ament_index_python",
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "nav_msgs",
    "rclpy",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "visualization_msgs",
}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((SOURCES / package / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Top-level names of everything a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def is_ros_module(path: Path) -> bool:
    return path.name.endswith("_node.py") or path.name.startswith("ros_")


def test_the_scan_sees_modules_of_each_package() -> None:
    assert {path.relative_to(SOURCES).parts[0] for path in modules()} == set(PACKAGES)


def test_the_scan_sees_imports_of_every_form(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import a.b\nfrom c.d import e\ndef f():\n    import g\nfrom . import h\n", encoding="utf-8")
    assert sorted(imports(path)) == ["a", "c", "g"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCES).as_posix())
def test_ros_is_imported_in_nodes_and_ros_modules_only(path: Path) -> None:
    if not is_ros_module(path):
        assert not ROS & set(imports(path))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_the_sources_import_is_pinned() -> None:
    lines = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "requirements").glob("*.txt"))
    pinned = {canonical(name) for name in re.findall(r"^([\w.-]+)==", lines, flags=re.MULTILINE)}
    distributions = packages_distributions()
    sources = [
        *modules(),
        *SOURCES.glob("*/setup.py"),
        *(ROOT / "scripts").glob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ]
    beside = {path.stem for path in (ROOT / "tests").rglob("*.py")}  # what tests share
    imported = {name for path in sources for name in imports(path)} - {*sys.stdlib_module_names, *PACKAGES, *beside}
    assert {"numpy", "pytest", "torch"} <= imported
    assert [name for name in sorted(imported) if not pinned & set(map(canonical, distributions.get(name, [])))] == []
