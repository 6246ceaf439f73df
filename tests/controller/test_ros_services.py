"""Services under Crazyswarm2's names: which are offered, with whose types, and what their requests ask for."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import Point
from std_srvs.srv import Empty, SetBool, Trigger

from deq_mpc_controller import ros_services
from deq_mpc_controller.flight import Request
from deq_mpc_controller.manoeuvres import Manoeuvre
from deq_mpc_controller.ros_services import Order, offer, read_order, service_types

NAMES = {"arm", "takeoff", "land", "notify_setpoints_stop", "emergency"}


class FakeNode:
    """Remembers the services that are created on it."""

    def __init__(self) -> None:
        self.services: dict[str, tuple[object, object]] = {}

    def create_service(self, kind: object, name: str, callback: object) -> None:
        self.services[name] = (kind, callback)

    def call(self, name: str, request: object, response: object) -> object:
        return self.services[name][1](request, response)


def seconds(value: float) -> SimpleNamespace:
    return SimpleNamespace(sec=int(value), nanosec=int(1e9 * (value % 1.0)))


@pytest.fixture
def crazyswarm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for Crazyswarm2's interface package."""
    package, srv = ModuleType("crazyflie_interfaces"), ModuleType(ros_services.PACKAGE)
    for name in ("Arm", "Takeoff", "Land", "GoTo", "NotifySetpointsStop", "StartTrajectory"):
        setattr(srv, name, type(name, (), {}))
    monkeypatch.setitem(sys.modules, "crazyflie_interfaces", package)
    monkeypatch.setitem(sys.modules, ros_services.PACKAGE, srv)
    return srv


def test_standard_types_without_the_package() -> None:
    assert service_types() == {
        "arm": SetBool,
        "takeoff": Trigger,
        "land": Trigger,
        "notify_setpoints_stop": Trigger,
        "emergency": Empty,
    }


def test_crazyswarms_types_with_it(crazyswarm: ModuleType) -> None:
    types = service_types()
    assert set(types) == NAMES | {"go_to"}
    assert types["go_to"] is crazyswarm.GoTo
    assert types["emergency"] is Empty
    assert {types[name].__name__ for name in NAMES - {"emergency"}} == {"Arm", "Takeoff", "Land", "NotifySetpointsStop"}


def test_every_service_is_offered_under_the_robots_name_and_for_all() -> None:
    node = FakeNode()
    offer(node, service_types(), "cf7", lambda order: "")
    assert set(node.services) == {f"/{prefix}/{name}" for prefix in ("cf7", "all") for name in NAMES}


def test_calls_reach_the_handler_and_its_refusal_comes_back() -> None:
    node, orders = FakeNode(), []

    def handle(order: Order) -> str:
        orders.append(order)
        return "READY: arm it first" if order.request is Request.TAKEOFF else ""

    offer(node, service_types(), "cf", handle)
    refused = node.call("/cf/takeoff", Trigger.Request(), Trigger.Response())
    assert (refused.success, refused.message) == (False, "READY: arm it first")
    assert node.call("/all/land", Trigger.Request(), Trigger.Response()).success
    node.call("/all/emergency", Empty.Request(), Empty.Response())
    node.call("/cf/arm", SetBool.Request(data=False), SetBool.Response())
    node.call("/cf/notify_setpoints_stop", Trigger.Request(), Trigger.Response())
    wanted = [Request.TAKEOFF, Request.LAND, Request.EMERGENCY, Request.DISARM, Request.HOLD]
    assert [order.request for order in orders] == wanted


@pytest.mark.parametrize(
    ("name", "request_", "order"),
    [
        ("arm", SimpleNamespace(arm=True), Order(Request.ARM)),
        ("arm", SimpleNamespace(arm=False), Order(Request.DISARM)),
        (
            "takeoff",
            SimpleNamespace(group_mask=0, height=0.75, duration=seconds(2.5)),
            Order(Request.TAKEOFF, Manoeuvre(0.75, 2.5)),
        ),
        (
            "takeoff",
            SimpleNamespace(group_mask=0, height=0.0, duration=seconds(0.0)),
            Order(Request.TAKEOFF, Manoeuvre(None, 0.0)),
        ),
        (
            "land",
            SimpleNamespace(group_mask=0, height=0.04, duration=seconds(3.0)),
            Order(Request.LAND, Manoeuvre(None, 3.0)),
        ),
        ("notify_setpoints_stop", SimpleNamespace(group_mask=0, remain_valid_millisecs=100), Order(Request.HOLD)),
    ],
)
def test_what_crazyswarms_requests_ask_for(name: str, request_: SimpleNamespace, order: Order) -> None:
    assert read_order(name, request_) == order


def test_go_to() -> None:
    request = SimpleNamespace(relative=True, goal=Point(x=0.5, y=-0.2, z=0.1), yaw=1.0, duration=seconds(2.0))
    order = read_order("go_to", request)
    assert (order.request, order.relative) == (Request.GO_TO, True)
    np.testing.assert_array_equal(order.point, [0.5, -0.2, 0.1])
