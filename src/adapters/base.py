"""What an adapter is: the whole contract, to be read in one sitting.

An adapter makes transports of one kind and attaches them to an app. It knows sockets, pipes or
comms; it knows nothing of sessions, turns or frames. For every client that arrives it does this,
on the app's loop:

1. It decides whether the client may come at all (origin, host, permissions of a pipe), and tells
   the app of one that may not: ``app.turned_away("origin")`` counts it.
2. ``connection = app.connect(transport, headers=..., cookies=..., peer=..., binding=...,
   profile=...)``. This raises ``Busy`` or ``Closed``: the client is refused before anything is
   agreed with it. The :class:`~greenroom.core.hello.Profile` says what a link must know of this
   kind of transport: whether strangers can reach it, whether a silent peer is dead, whether it
   can join messages in one write, and how large one may be.
3. Every packet that arrives: ``connection.receive(packet)``, in order, whole, once.
   A packet above ``settings.max_frame_in`` is not handed over: ``connection.refuse("too_large",
   why)`` ends the connection and counts it. What still arrives after a close is read and thrown
   away.
4. When the end has come, from whichever side: ``connection.eof()``, once.

The app in turn calls the transport (:class:`~greenroom.core.types.Transport`), on its loop only:

``send(packets)``
    One write for all of them. It returns at once: what cannot leave yet is kept by the transport,
    in order. It never raises: a transport that has ended takes packets and drops them, the link
    keeps what a client has not acknowledged.
``buffered``
    How many bytes of it have not left this process. The app hands over nothing while it is above
    :data:`ROOM`; when it falls below again the adapter calls ``connection.drained()``.
``close(code, reason)``
    What was sent leaves first, then the transport closes; where it has close codes, with this one
    (:func:`legal_close`). A client that does not take it is abandoned after :data:`CLOSE_GRACE`.

No verb of a connection and none of a transport blocks or raises, so a
slow client costs one bounded queue and nobody's time. ``greenroom.testing.adapter_conformance``
proves a transport against this page.

Adapters are imported by name, or found by :func:`find` among the entry points of the group
``greenroom.adapters``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol

from ..core.hello import Profile, make_close
from ..core.settings import Settings
from ..core.types import Packet, Transport

__all__ = [
    "CLOSE_GRACE",
    "ROOM",
    "Connection",
    "Host",
    "Packet",
    "Profile",
    "Transport",
    "close_with",
    "find",
    "legal_close",
    "packet_size",
]

ROOM: Final = 64 * 1024  #: bytes; with more buffered a transport is handed nothing
CLOSE_GRACE: Final = 2.0  #: seconds without progress after which a closing client is abandoned

ENTRY_POINTS: Final = "greenroom.adapters"


class Connection(Protocol):
    """The app's end of one transport: what an adapter may call."""

    @property
    def closed(self) -> bool:
        """Whether it has ended; it then discards what it is given."""
        ...

    def receive(self, packet: Packet) -> None: ...
    def refuse(self, code: str, message: str) -> None: ...
    def drained(self) -> None: ...
    def eof(self) -> None: ...


class Host(Protocol):
    """The part of an app that adapters use."""

    @property
    def settings(self) -> Settings: ...
    @property
    def running(self) -> bool: ...

    async def start(self) -> None: ...
    async def stop(self, drain: float | None = None) -> None: ...

    def turned_away(self, reason: str) -> None: ...

    def connect(
        self,
        transport: Transport,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        userinfo: Mapping[str, Any] | None = None,
        peer: str | None = None,
        binding: str | None = None,
        profile: Profile | None = None,
    ) -> Connection: ...


# -- packets ------------------------------------------------------------------------------------


def packet_size(packet: Packet) -> int:
    """Bytes of its JSON and its buffers."""
    data, buffers = packet
    return len(data) + sum(map(len, buffers)) if buffers else len(data)


# -- closing ------------------------------------------------------------------------------------


def legal_close(code: int, reason: str) -> tuple[int, str]:
    """A close code and reason that may go on the wire: some servers send whatever they are given.

    The reason is cut to 123 bytes of UTF-8 between two characters. Codes that only describe what
    was seen (1005, 1006, 1015), reserved and unknown ones become 1000.
    """
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        code = 1000
    raw = reason.encode("utf-8", "replace")
    return code, raw[:123].decode("utf-8", "ignore")


def close_with(transport: Transport, code: str, message: str) -> None:
    """Say why, and close: what an app's connection does when it is told to ``refuse``."""
    close = make_close(code, message)
    if close.packet is not None:
        transport.send([close.packet])
    transport.close(close.ws_code, close.reason)


# -- entry points -------------------------------------------------------------------------------


def installed() -> dict[str, EntryPoint]:
    """The adapters that installed distributions announce, by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def find(name: str) -> Any:
    """Load the adapter called ``name``. Raises LookupError that names those there are."""
    points = installed()
    if name not in points:
        known = ", ".join(sorted(points)) or "none"
        raise LookupError(
            f"no adapter {name!r} is installed (there are: {known}). An adapter announces itself "
            f"in the entry-point group {ENTRY_POINTS!r} of its distribution"
        )
    return points[name].load()
