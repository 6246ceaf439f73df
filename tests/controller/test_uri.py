"""URIs: what cflib connects to passes, everything else is refused with a line that helps."""

import pytest

from deq_mpc_controller.uri import check_uri
from deq_mpc_core.errors import UserError


@pytest.mark.parametrize(
    "uri",
    [
        "radio://0/80/2M/E7E7E7E7E7",
        "radio://0/80/250K/e7e7e7e701",
        "radio://0/125/1M",
        "radio://1/0",
        "radio://0",
        "radio://7D92E2D1A0/80/2M/E7E7E7E7E7",
        "radio://0/80/2M/E7E7E7E7E7?rate_limit=100",
        "usb://0",
        "udp://127.0.0.1:19850",
        "udp://localhost:19851",
        "udp://[::1]:19850",
    ],
)
def test_uris_of_crazyflies_pass(uri: str) -> None:
    check_uri(uri)


@pytest.mark.parametrize(
    ("uri", "advice"),
    [
        ("radio://0/126/2M", "radio channels end at 125"),
        ("radio://0/80/3M", "write it like radio://0/80/2M"),
        ("radio://0/80/2M/E7E7E7E7E7E7", "write it like"),
        ("radio:/0/80/2M", "write it like"),
        ("usb://", "write it like"),
        ("usb://x", "write it like"),
        ("udp://127.0.0.1", "udp://127.0.0.1:19850"),
        ("udp://:19850", "write it like"),
        ("udp://127.0.0.1:99999", "UDP ports are 1..65535"),
        ("udp://127.0.0.1:0", "UDP ports are 1..65535"),
        ("tcp://127.0.0.1:5000", "write it like"),
        ("carrier-pigeon://7", "write it like"),
        ("", "write it like"),
    ],
)
def test_others_are_refused_with_advice(uri: str, advice: str) -> None:
    with pytest.raises(UserError, match=advice):
        check_uri(uri)
