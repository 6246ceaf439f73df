"""Names of robots: prefixes of ROS names, and so of their form."""

from __future__ import annotations

import re

from deq_mpc_core.errors import UserError

_TOKEN = "[A-Za-z_][A-Za-z0-9_]*"
_NAME = re.compile(f"{_TOKEN}(/{_TOKEN})*")


def check_robot_name(name: str) -> None:
    """Refuse what no topic can begin with; ``cf231/deq_mpc``, beside Crazyswarm2, is a name, too.

    Raises:
        UserError: with what a name is made of.
    """
    if _NAME.fullmatch(name) is None:
        raise UserError(
            f"{name!r} is no name of a robot; use letters, digits and underscores, not beginning with a digit, as cf231"
        )
