"""A link to a vehicle of its own, in simulated time. For the tests of what every link shares."""

from __future__ import annotations

from math import inf

from numpy.typing import ArrayLike

from deq_mpc_controller.settings import controller_config
from deq_mpc_controller.steady_link import ARMED, AUTO_ARM, FLYING, Cancelled, SteadyLink
from deq_mpc_controller.vehicle_io import LinkConfig, Setpoint, SetpointKind, VehicleStatus
from deq_mpc_core.policy.interface import Command

CONFIG = controller_config().link
FLY = Setpoint(SetpointKind.FLY, Command(0.0, 0.0, 0.0, 0.3), arm=True)
ARM = Setpoint(SetpointKind.OFF, arm=True)
TICK = 0.01


class Bench(SteadyLink):
    """A link whose vehicle arms when it is asked, unless it is deaf, and says that it flies until 2 s after thrust."""

    def __init__(self, auto_arm: bool = False, config: LinkConfig = CONFIG) -> None:
        self.t = 0.0
        super().__init__(config, clock=lambda: self.t)
        self.armed, self.auto_arm, self.deaf = auto_arm, auto_arm, False
        self.flew = self.sent_fly = -inf
        self.requests: list[tuple[float, bool]] = []
        self.sent: list[Setpoint] = []

    def run(self, seconds: float, setpoint: Setpoint | None = None) -> None:
        for _ in range(round(seconds / TICK)):
            if setpoint is not None:
                self.send(setpoint)
            self.serve()
            self.t += TICK

    def disarm_requests(self) -> list[float]:
        return [t for t, arm in self.requests if not arm]

    def connect(self, cancelled: Cancelled = lambda: False) -> bool:
        return True

    def _vehicle_status(self) -> VehicleStatus:
        return VehicleStatus(armed=self.armed, age=0.0)

    def _reaches_vehicle(self) -> bool:
        return True

    def _disconnect(self) -> None: ...

    def _bits(self) -> int:
        flying = FLYING if self.t - self.flew < 2.0 else 0
        return flying | (ARMED if self.armed else 0) | (AUTO_ARM if self.auto_arm else 0)

    def _request_arming(self, arm: bool) -> None:
        self.requests.append((self.t, arm))
        self.armed = self.armed if self.deaf else arm

    def _request_emergency(self) -> None: ...

    def _send_stop(self) -> None: ...

    def _send_setpoint(self, setpoint: Setpoint) -> None:
        self.sent.append(setpoint)
        if setpoint.kind is SetpointKind.FLY:
            self.sent_fly = self.t
            self.flew = self.t if self.armed else self.flew

    def _forward_pose(self, pos: ArrayLike, quat: ArrayLike) -> None: ...

    def _tend(self) -> None: ...
