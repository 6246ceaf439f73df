"""The controller's services under Crazyswarm2's names, with its types where its interface package is installed.

Each is offered under the robot's name and under ``/all``; beside a Crazyswarm2 server, which has them already, below
these in the namespace ``deq_mpc``. Without ``crazyflie_interfaces`` they are of std_srvs' types,
which carry no height, no duration and no point: take-off and landing are then the usual ones, and there is no ``go_to``
(a pose on the goal topic says the same). What of a request this controller cannot follow:

    group_mask      ignored: every vehicle counts
    takeoff.height  in the world frame, straight up; 0: to the start of the scene, or as high as usual
    duration        a least time for take-off and landing, never faster than they usually are; ignored by ``go_to``,
                    because the policy flies at its own speed
    land.height     ignored: it lands on what it took off from
    go_to.yaw       ignored: the policy keeps its heading
    go_to.relative  to where the vehicle is now
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from std_srvs.srv import Empty, SetBool, Trigger

from deq_mpc_controller.flight import Request
from deq_mpc_controller.manoeuvres import Manoeuvre

Array = NDArray[np.float64]

ALL = "all"
"""Prefix of the services that mean every vehicle."""
OWN_NAMESPACE = "deq_mpc"
"""Of the services beside a Crazyswarm2 server, whose own have the same names."""
PACKAGE = "crazyflie_interfaces.srv"
EMERGENCY_TYPES = {"emergency": Empty}
"""Name and type of what nothing may keep waiting, see ``ros_emergency``."""


@dataclass(frozen=True)
class Order:
    """What a service call asks for.

    Attributes:
        request: see ``flight.Request``.
        manoeuvre: of a take-off or landing.
        point: (3,) of a go_to [m], as it came; relative: to where the vehicle is.
    """

    request: Request
    manoeuvre: Manoeuvre = field(default_factory=Manoeuvre)
    point: Array | None = None
    relative: bool = False


Handler = Callable[[Order], str]
"""Takes an order and says why it refuses it, or ""."""


def crazyswarm_types() -> dict[str, Any]:
    """Crazyswarm2's service types by the services' names; empty without its interface package."""
    try:
        srv = import_module(PACKAGE)
    except ImportError:
        return {}
    types = {"arm": "Arm", "takeoff": "Takeoff", "land": "Land", "go_to": "GoTo"}
    types["notify_setpoints_stop"] = "NotifySetpointsStop"
    return {name: getattr(srv, kind) for name, kind in types.items() if hasattr(srv, kind)}


def standard_types() -> dict[str, Any]:
    """The types without it."""
    return {"arm": SetBool, "takeoff": Trigger, "land": Trigger, "notify_setpoints_stop": Trigger}


def step_types() -> dict[str, Any]:
    """Name and type of the services whose orders wait for the next control step."""
    return standard_types() | crazyswarm_types()


def service_types() -> dict[str, Any]:
    """Name and type of every service that can be offered here."""
    return step_types() | EMERGENCY_TYPES


def read_order(name: str, request: Any) -> Order:
    """What a request to the service ``name`` asks for, whichever of the two types it is of."""
    if name == "arm":
        wanted = request.arm if hasattr(request, "arm") else request.data
        return Order(Request.ARM if wanted else Request.DISARM)
    if name == "takeoff":
        height = float(getattr(request, "height", 0.0))
        return Order(Request.TAKEOFF, Manoeuvre(None if height == 0.0 else height, _duration(request)))
    if name == "land":
        return Order(Request.LAND, Manoeuvre(duration=_duration(request)))
    if name == "go_to":
        goal = request.goal
        return Order(Request.GO_TO, point=np.array([goal.x, goal.y, goal.z]), relative=bool(request.relative))
    return Order(Request(name))


def offer(node: Any, types: Mapping[str, Any], robot: str, handler: Handler, namespace: str = "") -> None:
    """Create services of ``robot`` on a node, in a namespace below its name; their calls go to ``handler``."""
    below = f"{namespace}/" if namespace else ""
    for name, kind in types.items():
        for prefix in (robot, ALL):
            node.create_service(kind, f"/{prefix}/{below}{name}", _callback(name, handler))


def _callback(name: str, handler: Handler) -> Callable[[Any, Any], Any]:
    def serve(request: Any, response: Any) -> Any:
        refused = handler(read_order(name, request))
        if hasattr(response, "success"):
            response.success, response.message = not refused, refused
        return response

    return serve


def _duration(request: Any) -> float:
    """Seconds of a request's duration; 0 without one."""
    duration = getattr(request, "duration", None)
    return 0.0 if duration is None else float(duration.sec + 1e-9 * duration.nanosec)
