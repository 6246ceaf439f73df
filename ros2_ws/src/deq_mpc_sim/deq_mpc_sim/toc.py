"""Tables of contents of the virtual Crazyflie: what there is (``config/toc.yaml``), and how the protocol serves it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Literal, get_args
from zlib import crc32

from pydantic import Field

from deq_mpc_core.config import Config, load_config
from deq_mpc_core.errors import UserError
from deq_mpc_sim.crtp import MAX_DATA

TocSize = Literal["small", "full"]
"""``small``: what this stack reads, so that connecting takes no time; ``full``: all that the firmware has."""

Kind = Literal["u8", "u16", "u32", "i8", "i16", "i32", "float"]

CHARACTERS: dict[Kind, str] = {"u8": "B", "u16": "H", "u32": "I", "i8": "b", "i16": "h", "i32": "i", "float": "f"}
"""Types as ``struct`` writes them."""

_GET_ITEM, _GET_INFO = 2, 3
_ITEM_HEADER = 4  # command, index, type


def toc_size(text: str) -> TocSize:
    """The size that ``text`` names.

    Raises:
        UserError: if there is none of that name.
    """
    for size in get_args(TocSize):
        if text == size:
            return size
    raise UserError(f"{text!r} is no size of a table of contents; choose {' or '.join(get_args(TocSize))}")


class SmallConfig(Config):
    """Names of the small tables."""

    log: list[str]
    parameters: list[str]


class TocConfig(Config):
    """``config/toc.yaml``, by group and name: the types of log variables; types, defaults, attributes of parameters."""

    log: dict[str, dict[str, Kind]]
    parameters: dict[str, dict[str, Annotated[list[str | float], Field(min_length=2, max_length=4)]]]
    small: SmallConfig


@cache
def toc_config() -> TocConfig:
    """The shipped ``config/toc.yaml``."""
    return load_config("toc", TocConfig)


class Toc:
    """Names and types of variables, numbered in order."""

    def __init__(self, entries: Sequence[tuple[str, int]], limits: bytes = b"") -> None:
        """A table.

        Args:
            entries: (``group.name``, type byte).
            limits: appended to the information reply.
        """
        self._items = [bytes([code]) + name.replace(".", "\0").encode() + b"\0" for name, code in entries]
        if any(len(item) > MAX_DATA - _ITEM_HEADER + 1 for item in self._items):
            raise ValueError("a name is too long for its packet")
        self._information = struct.pack("<HI", len(entries), crc32(b"".join(self._items))) + limits

    def answer(self, request: bytes) -> bytes | None:
        """Reply to a request on the table's channel; None if there is none."""
        if request[:1] == bytes([_GET_INFO]):
            return request[:1] + self._information
        if request[:1] == bytes([_GET_ITEM]) and len(request) >= 3:
            (index,) = struct.unpack_from("<H", request, 1)
            return request[:3] + self._items[index] if index < len(self._items) else request[:1]
        return None
