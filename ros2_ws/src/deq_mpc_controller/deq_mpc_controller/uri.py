"""URIs of Crazyflies: over radio, over the USB cable, or over UDP to one in software."""

from __future__ import annotations

import re

from deq_mpc_core.errors import UserError

_EXAMPLES = "radio://0/80/2M/E7E7E7E7E7, usb://0 or udp://127.0.0.1:19850"
_CHANNEL_MAX, _PORT_MAX = 125, 65535
_RADIO = re.compile(
    r"radio://(\d{1,9}|[0-9A-F]{10})(/(?P<channel>\d{1,3})(/(250K|1M|2M)(/[0-9A-F]{1,10})?)?)?(\?.*)?", re.I
)
_USB = re.compile(r"usb://\d+")
_UDP = re.compile(r"udp://(\[[0-9a-fA-F:]+\]|[^/:@\[\]\s]+):(?P<port>\d{1,5})")


def check_uri(uri: str) -> None:
    """Refuse what is no URI of a Crazyflie, before anything tries to connect to it.

    Raises:
        UserError: with examples.
    """
    radio, udp = _RADIO.fullmatch(uri), _UDP.fullmatch(uri)
    if radio is not None and int(radio["channel"] or 0) > _CHANNEL_MAX:
        raise UserError(f"uri {uri!r}: radio channels end at {_CHANNEL_MAX}; correct the one after the first slash")
    if udp is not None and not 0 < int(udp["port"]) <= _PORT_MAX:
        raise UserError(f"uri {uri!r}: UDP ports are 1..{_PORT_MAX}; correct the port")
    if radio is None and udp is None and _USB.fullmatch(uri) is None:
        raise UserError(f"uri {uri!r} is none of a Crazyflie; write it like {_EXAMPLES}")
