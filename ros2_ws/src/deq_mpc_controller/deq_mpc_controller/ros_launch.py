"""Starts a launch file on a machine that has no ``ros2 launch``, and watches over its nodes.

Each node is required: the launch ends when one of them does. The others then get SIGINT, the last started first, and
after a while SIGTERM and SIGKILL, the controller not before it can have landed. SIGINT, SIGTERM and SIGHUP to the
launcher do the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import yaml
from ament_index_python.packages import get_package_prefix, get_package_share_directory

from deq_mpc_controller.launch_file import Node
from deq_mpc_controller.manoeuvres import longest_landing
from deq_mpc_controller.settings import controller_config
from deq_mpc_core.errors import UserError

POLL_S = 0.05
PATIENCE_S = ((signal.SIGINT, 15.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""What a node gets on the way out and how long it has after each: to draw a picture."""
LANDED_MARGIN_S = 5.0
"""What a controller has beyond its landing: to disarm, to close the link."""

_CONTROLLER = "controller_node"
_SUFFIX = ".launch.yaml"
_WORKSPACE_PACKAGES = ("deq_mpc_core", "deq_mpc_controller", "deq_mpc_sim")


def use_workspace() -> None:
    """Make the workspace beside this source and the environment's wheels known to ROS, unless a sourced workspace is.

    Raises:
        UserError: if the workspace is not built.
    """
    try:
        get_package_prefix(_WORKSPACE_PACKAGES[1])
    except (LookupError, OSError):  # not found, or no AMENT_PREFIX_PATH at all
        pass
    else:
        return
    install = Path(__file__).resolve().parents[3] / "install"
    prefixes = [install / package for package in _WORKSPACE_PACKAGES]
    if not all(prefix.is_dir() for prefix in prefixes):
        raise UserError(f"{install}: the workspace is not built; run `make setup`, or source one that is")
    known = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    paths = [*map(str, prefixes), sys.prefix, *filter(None, known)]
    os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(dict.fromkeys(paths))


def find_share(package: str) -> Path:
    """Share folder of an installed package.

    Raises:
        UserError: if it is not installed.
    """
    try:
        return Path(get_package_share_directory(package))
    except (LookupError, OSError, ValueError) as error:
        raise UserError(f"package {package!r} is not installed; build the workspace with `make setup`") from error


def find_launch_file(name: str) -> Path:
    """A launch file by its path, or an installed one of the project by its bare name (``fly``).

    Raises:
        UserError: if there is none of that bare name.
    """
    if name.endswith((".yaml", ".yml", ".py", ".xml")) or os.sep in name:
        return Path(name)
    folder = find_share("deq_mpc_controller") / "launch"
    installed = {path.name.removesuffix(_SUFFIX): path for path in sorted(folder.glob(f"*{_SUFFIX}"))}
    if name not in installed:
        raise UserError(f"no launch file {name!r}; installed: {', '.join(installed)}; or give the path of one")
    return installed[name]


def find_executable(node: Node) -> Path:
    """Where colcon put the node's executable.

    Raises:
        UserError: if it is not there.
    """
    try:
        path = Path(get_package_prefix(node.package)) / "lib" / node.package / node.executable
    except (LookupError, OSError, ValueError) as error:
        raise UserError(f"package {node.package!r} is not installed; build the workspace with `make setup`") from error
    if not os.access(path, os.X_OK):
        raise UserError(f"{path}: no such executable; correct the launch file or build the workspace with `make setup`")
    return path


def landing_patience() -> float:
    """How long [s] an interrupted controller has before it is ended: a vehicle in the air falls without it."""
    config = controller_config()
    height = config.safety.fence_high[2] + config.safety.fence_stop - config.safety.fence_low[2]
    return longest_landing(height, config.flight) + LANDED_MARGIN_S


def node_command(node: Node, folder: Path) -> list[str]:
    """Command line of a node; parameters go through a file in ``folder``, so that their types survive."""
    command = [str(find_executable(node)), "--ros-args"]
    if node.name is not None:
        command += ["-r", f"__node:={node.name}"]
    for path in node.parameter_files:
        command += ["--params-file", str(path)]
    if node.parameters:
        path = folder / f"{node.name or node.executable}.yaml"
        content = {"/**": {"ros__parameters": dict(node.parameters)}}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        command += ["--params-file", str(path)]
    return command


@dataclass(frozen=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    may_fly: bool = False

    @property
    def status(self) -> int | None:
        """Exit status as a shell counts it, None while the process runs."""
        code = self.process.poll()
        return 128 - code if code is not None and code < 0 else code


def launch(nodes: Sequence[Node], environment: Mapping[str, str] | None = None, output: int | None = None) -> int:
    """Start ``nodes``, wait until one of them ends, stop the others.

    Args:
        nodes: in the order to start them.
        environment: variables that the nodes get on top of this process's own.
        output: file descriptor that takes the nodes' stdout; default: this process's own stdout.

    Returns:
        The status of the node that ended first, or 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP.

    Raises:
        UserError: if there is no node, or an executable is missing; nothing was started then.
    """
    if not nodes:
        raise UserError("the launch file starts no node; correct it or the arguments")
    with tempfile.TemporaryDirectory(prefix="deq_mpc_launch_") as folder, _interrupts() as interrupts:
        commands = [node_command(node, Path(folder)) for node in nodes]
        children: list[_Child] = []
        try:
            for node, command in zip(nodes, commands, strict=True):
                children.append(_start(node, command, environment or {}, output))
            while not interrupts and all(child.status is None for child in children):
                time.sleep(POLL_S)
            return _verdict(children, interrupts)
        finally:
            _stop(children)


def _start(node: Node, command: Sequence[str], environment: Mapping[str, str], output: int | None) -> _Child:
    # A session of its own: Ctrl-C in the terminal reaches the launcher alone, which stops the nodes in order.
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment, **node.environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        start_new_session=True,
    )
    return _Child(node.name or node.executable, process, may_fly=node.executable == _CONTROLLER)


def _verdict(children: Sequence[_Child], interrupts: Sequence[int]) -> int:
    ended = [(child.name, child.status) for child in children if child.status is not None]
    for name, status in ended:
        if status != 0:
            _log(f"{name} ended with status {status}; stopping the launch")
    if ended:
        return next((status for _, status in ended if status), 0)
    return 128 + interrupts[0]


def _stop(children: Sequence[_Child]) -> None:
    """Stop what still runs, the last started first, each one gone before the next is told."""
    for child in reversed(children):
        if child.status is not None:
            continue
        for signal_number, usual in PATIENCE_S:
            patience = landing_patience() if child.may_fly and signal_number is signal.SIGINT else usual
            child.process.send_signal(signal_number)
            try:
                child.process.wait(patience)
            except subprocess.TimeoutExpired:
                _log(f"{child.name} ignored {signal_number.name} for {patience:g} s")
            else:
                break
        if child.status not in (0, 128 + signal.SIGINT):
            _log(f"{child.name} ended with status {child.status} when told to stop")


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGHUP instead of dying of them."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _log(message: str) -> None:
    sys.stderr.write(f"[launch] {message}\n")
    sys.stderr.flush()
