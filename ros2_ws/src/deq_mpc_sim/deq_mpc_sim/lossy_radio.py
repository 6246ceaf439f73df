"""The radio of a flight in lockstep: packets are lost with one probability, each for itself, in both directions.

Up goes one setpoint a control step. The vehicle follows the last that arrived, as its firmware does: level once that is
0.5 s old, motors off after 2 s. What a link sends between two setpoints (``setpoint_stream``) is never due here, where
no control step is late. Down comes a report every ``link.log_period``.
"""

from __future__ import annotations

import numpy as np

from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.vehicle_io import NO_COMMAND
from deq_mpc_core.policy.interface import Command
from deq_mpc_sim.parameters import RadioConfig
from deq_mpc_sim.supervisor import LEVEL_AFTER, STOP_AFTER

_ROUNDING = 1e-9  # s


class LossyRadio:
    """Seeded losses of one flight; times must not decrease."""

    def __init__(self, config: RadioConfig, rng: np.random.Generator, held: Command) -> None:
        """A radio through which ``held`` has just arrived."""
        self._loss = config.packet_loss
        self._rng = rng
        self._command, self._received = held, 0.0
        self._period = controller_config().link.log_period
        self._reports = 0
        self._reported = 0.0

    def fly(self, t: float, command: Command) -> Command:
        """What the vehicle follows from ``t`` [s] on, when ``command`` is sent then."""
        if self._arrives():
            self._command, self._received = command, t
        age = t - self._received
        if age > STOP_AFTER:
            return NO_COMMAND
        return self._command if age <= LEVEL_AFTER else NO_COMMAND._replace(thrust=self._command.thrust)

    def report_age(self, t: float) -> float:
        """Age of the vehicle's last report that arrived by ``t`` [s]; the first is taken to have arrived at 0."""
        while (self._reports + 1) * self._period <= t + _ROUNDING:
            self._reports += 1
            if self._arrives():
                self._reported = self._reports * self._period
        return t - self._reported

    def _arrives(self) -> bool:
        return bool(self._rng.random() >= self._loss)
