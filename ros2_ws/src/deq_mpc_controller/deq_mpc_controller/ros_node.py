"""What the project's nodes share: parameters from a table, and a main that stops and fails the same way everywhere."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from deq_mpc_controller.node_parameters import Parameter, Value
from deq_mpc_core.errors import UserError

_BIG = 1e300
_BACKLOG, _SHORT = 4, 1e-4
"""Messages handled although there is no time, and the wait for each of them [s]."""


def declare_parameters(node: Node, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Declare a table's parameters, read-only, and give their values.

    Raises:
        UserError: for a value of the wrong type, out of bounds or not among the choices.
    """
    return {parameter.name: _declare(node, parameter) for parameter in parameters}


def _declare(node: Node, parameter: Parameter) -> Value:
    descriptor = ParameterDescriptor(description=parameter.description, read_only=True)
    if parameter.low is not None or parameter.high is not None:
        low = -_BIG if parameter.low is None else parameter.low
        high = _BIG if parameter.high is None else parameter.high
        if isinstance(parameter.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(min(high, 2**62)), step=1)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    try:
        value: Any = node.declare_parameter(parameter.name, parameter.default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        wanted = f"{parameter.type_name} {parameter.range_text}".strip()
        raise UserError(f"parameter {parameter.name!r} has a value that is no {wanted}; correct it") from error
    parameter.check(value)
    return value


def low_latency_executor() -> Any:
    """The executor with the best latency for timed ``spin_once`` calls that this ROS has."""
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:  # ROS 2 Humble and Jazzy
        return SingleThreadedExecutor()
    return EventsExecutor()


def spin_until(executor: Any, due: float) -> None:
    """Handle what comes in until ``due`` (of ``time.monotonic``).

    A node that is behind handles some of what waits all the same: deaf, it would never catch up.
    """
    if time.monotonic() >= due:
        for _ in range(_BACKLOG):
            executor.spin_once(timeout_sec=_SHORT)
    while (left := due - time.monotonic()) > 0.0:
        executor.spin_once(timeout_sec=left)


class Interrupts:
    """Counts SIGINT and SIGTERM instead of dying of them; the loop that runs the node looks at ``count``."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


NodeT = TypeVar("NodeT", bound=Node)


def run_node(make: Callable[[], NodeT], run: Callable[[NodeT, Interrupts], int]) -> NoReturn:
    """``main`` of a node: initialise ROS, make and run it, exit with its status; a UserError is one line and status 2.

    Python's own way out frees every module first. On a busy machine that takes seconds, in which a signal kills the
    process as if it had failed. So this process ends as soon as the node has left the ROS graph.
    """
    interrupts = Interrupts()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = make()
        status = run(node, interrupts)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        status = 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
