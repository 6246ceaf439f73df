"""The container files name what exists. No engine runs here: their text is read, not built."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))
MANIFESTS = sorted((ROOT / "ros2_ws/src").glob("*/package.xml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def instructions(name: str) -> list[str]:
    found = re.findall(rf"^{name} +(.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert found, f"no {name} in docker/Dockerfile"
    return found


def test_what_is_copied_exists() -> None:
    for copied in instructions("COPY"):
        *sources, _ = shlex.split(copied)
        for source in sources:
            assert (ROOT / source).exists(), source


def test_each_package_is_copied_for_its_rosdep_keys() -> None:
    assert MANIFESTS
    for manifest in MANIFESTS:
        assert f"COPY {manifest.relative_to(ROOT)} " in DOCKERFILE


def test_make_is_asked_for_targets_it_has() -> None:
    commands = [*instructions("RUN"), *(service["command"] for service in COMPOSE["services"].values())]
    targets = re.findall(r"(?:^|&& )make ([\w./]+)", "\n".join(commands), flags=re.MULTILINE)
    assert {"setup", "fly", "test"} <= set(targets)
    for target in targets:
        rule = target.replace(".venv/.stamps", "$(STAMPS)")
        assert re.search(rf"^{re.escape(rule)}:", MAKEFILE, flags=re.MULTILINE), target


def test_the_entry_point_is_executable() -> None:
    (path,) = yaml.safe_load(instructions("ENTRYPOINT")[0])
    entry_point = ROOT / Path(path).relative_to("/deq-mpc")
    assert entry_point.stat().st_mode & 0o111


def test_compose_builds_from_files_that_exist() -> None:
    build = COMPOSE["x-image"]["build"]
    context = (ROOT / "docker" / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()
    assert list(build["args"]) == re.findall(r"^ARG (\w+)=", DOCKERFILE, flags=re.MULTILINE)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_manifests_are_what_colcon_and_rosdep_expect(manifest: Path) -> None:
    package = ElementTree.parse(manifest).getroot()
    assert package.findtext("name") == manifest.parent.name
    assert package.findtext("export/build_type") == "ament_python"
    maintainer = package.find("maintainer")
    assert maintainer is not None
    assert re.fullmatch(r"[\w.-]+@[\w-]+(\.[\w-]+)+", maintainer.attrib["email"])
    keys = [dependency.text for dependency in package.iterfind("exec_depend")]
    assert len(keys) == len(set(keys)) > 0
