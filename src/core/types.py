"""The vocabulary: plain values that cross the walls between files. Imports nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple, Protocol, Self

__all__ = [
    "DEFAULT_LABEL",
    "EVENT_NAME",
    "HANDLER_NAME",
    "LABEL_NAME",
    "MAX_DEPTH",
    "PROTOCOL_VERSION",
    "Bytes",
    "Clock",
    "FileRef",
    "Lane",
    "Packet",
    "Place",
    "Slot",
    "Timer",
    "Transport",
]

PROTOCOL_VERSION: Final = 1
MAX_DEPTH: Final = 100  # nesting of values, on receipt, on assignment and in patches
DEFAULT_LABEL: Final = "main"

LABEL_NAME: Final = re.compile(r"[A-Za-z][\w-]{0,63}\Z", re.ASCII)
EVENT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*:[A-Za-z][\w-]*(:[\w-]+)?\Z", re.ASCII)
HANDLER_NAME: Final = re.compile(r"[^\W_]\w*(\.[^\W_]\w*)*\Z")


class Lane(IntEnum):
    """The lanes of a mailbox, first served first."""

    CONTROL = 0  # close
    INTERACTIVE = 1  # events of clients
    NORMAL = 2  # tell, ask, signals, queries, session.turn()
    BACKGROUND = 3  # timers


class Place(IntEnum):
    """Where a message's turn runs."""

    INLINE = 0  # on the loop, by a direct call: sync handlers of a few microseconds
    LOOP = 1  # on the loop, as a coroutine that is stepped eagerly
    WORKER = 2  # on a worker thread


class Slot(IntEnum):
    """What can be injected into a handler by parameter name."""

    STATE = 0
    PAYLOAD = 1  # also named ``data``
    CONTEXT = 2
    SESSION = 3
    APP = 4
    EVENT_TYPE = 5
    LABEL = 6


class Packet(NamedTuple):
    """What a transport moves: one frame's JSON in UTF-8, and the buffers it refers to."""

    data: bytes
    buffers: tuple[bytes, ...] = ()


class Bytes(bytes):
    """Bytes with a media type and a file name, as they travel: ``{"$bytes", "mime", "name"}``."""

    mime: str
    name: str

    def __new__(cls, raw: bytes = b"", mime: str = "", name: str = "") -> Self:
        self = super().__new__(cls, raw)
        self.mime = mime
        self.name = name
        return self

    def __repr__(self) -> str:
        return f"Bytes({len(self)} bytes, mime={self.mime!r}, name={self.name!r})"

    def read(self) -> bytes:
        """These bytes: what a file input sends is read the same way, small or uploaded."""
        return self


class FileRef(NamedTuple):
    """The name of a file that travels beside the stream: ``{"$file", "name", "mime", "size"}``."""

    id: str
    name: str = ""
    mime: str = ""
    size: int = 0


class Timer(Protocol):
    """A call that is due later. ``cancel`` may be called any number of times."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Where time comes from: the loop's, or a test's. Used on the app's loop only."""

    def time(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def call_at(self, when: float, callback: object, *args: object) -> Timer:
        """Call ``callback(*args)`` on the loop at ``when``."""
        ...


class Transport(Protocol):
    """The port every adapter fills: moves packets for one connection.

    Called on the app's loop only. No method blocks or raises.
    """

    @property
    def buffered(self) -> int:
        """Bytes taken by :meth:`send` that have not left this process yet."""
        ...

    def send(self, packets: Sequence[Packet]) -> None:
        """Send all of them, in order, in one write."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close after what was sent has left. ``code`` is a WebSocket close code."""
        ...
