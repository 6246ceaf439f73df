"""Whether the vehicle follows its commands: roll and pitch that they must have led to, by the model alone.

    phi_dd = a phi + b phi_d + c phi_cmd

No measurement corrects it, so it knows nothing of a dead motor, a lost propeller or a firmware that does something
else. The model forgets within 0.2 s how it began.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deq_mpc_core.models import crazyflie as cf
from deq_mpc_core.policy.interface import Command

Array = NDArray[np.float64]

_STEP = 0.005  # s: an eighth of the model's fastest time constant
_LONGEST = 0.5  # s: after a longer silence only the end counts


class AttitudeReference:
    """Roll and pitch by the commands that were sent."""

    def __init__(self) -> None:
        params = cf.nominal_params()
        self._a, self._b, self._c = (float(p) for p in params[2:5])
        self.reset()

    def reset(self) -> None:
        """Level and still."""
        self._angle, self._rate = np.zeros(2), np.zeros(2)
        self._t: float | None = None
        self._command = np.zeros(2)

    def send(self, t: float, command: Command) -> None:
        """``command`` leaves at ``t`` [s], after the one before has acted until then."""
        elapsed = 0.0 if self._t is None else min(max(t - self._t, 0.0), _LONGEST)
        steps = int(np.ceil(elapsed / _STEP))
        for _ in range(steps):
            self._rate += elapsed / steps * (
                self._a * self._angle + self._b * self._rate + self._c * self._command
            )  # fmt: skip
            self._angle += elapsed / steps * self._rate
        self._t = t
        self._command = np.array(command[:2], dtype=np.float64)

    def error(self, rpy: Array) -> float:
        """Largest difference [rad] of the angles rpy (3,) of now to the reference's at the last `send`."""
        return float(np.max(np.abs(rpy[:2] - self._angle)))
