"""A client and an app in the same loop, with nothing in between: for tests and for embedding.

Owner: the app's loop; nothing here may be called from another thread.

:func:`connect` gives the client's end of a :class:`Line`. What one side sends is there for the
other after the running callback has ended, never inside it, and in one piece; nothing depends on
time, so a test tells the same story every time it runs. And the line can do what networks do:

=====================  ==========================================================================
``line.stall()``       the client stops reading; ``line.resume()`` goes on
``line.cut()``         both ends hear of the end; what is on its way is lost
``line.cut_after(n)``  the same after ``n`` more bytes towards the client or the app: a packet
                       that does not fit whole is lost, as it is on a real line
``line.single = True`` packets that were sent together arrive one by one, each in its own callback
=====================  ==========================================================================
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..core.types import Packet
from .base import ROOM, Connection, Host, Profile, legal_close, packet_size

__all__ = ["Ended", "Line", "connect"]


class Ended(NamedTuple):
    """How a line ended: the app's close code and reason; 1006 after a cut, 1000 after ours."""

    code: int
    reason: str


class _Flow:
    """Packets on their way in one direction, handed on by one callback per burst."""

    __slots__ = ("budget", "handover", "held", "line", "packets", "scheduled", "size")

    def __init__(self, line: Line, handover: Callable[[Packet], None]) -> None:
        self.line: Line | None = line
        self.handover: Callable[[Packet], None] | None = handover
        self.packets: deque[Packet] = deque()
        self.size = 0
        self.held = False
        self.budget: int | None = None
        self.scheduled = False

    @property
    def moving(self) -> bool:
        return bool(self.packets) and not self.held

    def put(self, packets: Sequence[Packet]) -> None:
        self.packets.extend(packets)
        self.size += sum(map(packet_size, packets))
        self.wake()

    def wake(self) -> None:
        if self.line is not None and not self.scheduled and not self.held:
            self.scheduled = True
            self.line.loop.call_soon(self.run)

    def run(self) -> None:
        self.scheduled = False
        line, handover = self.line, self.handover
        if line is None or handover is None:
            return
        count = 1 if line.single else len(self.packets)
        while count and self.packets and not self.held and not line.over:
            count -= 1
            packet = self.packets.popleft()
            size = packet_size(packet)
            self.size -= size
            if self.budget is not None:
                if size > self.budget:
                    line.cut()
                    return
                self.budget -= size
            handover(packet)
        if self.packets and not line.over:
            self.wake()
        else:
            line.settle()

    def end(self) -> None:
        """Nothing moves any more; what was on its way is lost, and the line is let go."""
        self.packets.clear()
        self.size = 0
        self.line = self.handover = None


class _MemoryTransport:
    """The app's view of a line; of one that has ended it holds nothing."""

    __slots__ = ("line",)

    def __init__(self, line: Line) -> None:
        self.line: Line | None = line

    @property
    def buffered(self) -> int:
        return 0 if self.line is None else self.line.towards_client.size

    def send(self, packets: Sequence[Packet]) -> None:
        if self.line is not None:
            self.line.sent(packets)

    def close(self, code: int, reason: str) -> None:
        if self.line is not None:
            self.line.closing(code, reason)


class Line:
    """The client's end. Made by :func:`connect`.

    ``send`` and ``close`` are the client's; what arrives is handed to ``on_packet`` when that is
    set, else it waits for :meth:`receive` or :meth:`take`. ``on_end`` is called once at the end.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.loop = asyncio.get_running_loop()
        self.connection: Connection | None = None
        self.over = False  #: nothing moves any more
        self.ended: Ended | None = None  #: how it ended, once the client has heard of it
        self.single = False
        self.on_packet: Callable[[Packet], object] | None = None
        self.on_end: Callable[[Ended], object] | None = None
        self.arrived: deque[Packet] = deque()
        self.transport = _MemoryTransport(self)
        self.towards_client = _Flow(self, self._to_client)
        self.towards_app = _Flow(self, self._to_app)
        self._full = False
        self._leaving = False
        self._closing: Ended | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- the client's verbs -------------------------------------------------------------------

    def send(self, *packets: Packet | bytes) -> None:
        """Send packets to the app. After the end they are lost, as on a real line."""
        if not self.over and not self._leaving:
            self.towards_app.put([p if isinstance(p, Packet) else Packet(p) for p in packets])

    def take(self) -> list[Packet]:
        """What has arrived and was not taken yet."""
        packets = list(self.arrived)
        self.arrived.clear()
        return packets

    async def receive(self) -> Packet:
        """The next packet. Raises EOFError after the last one."""
        while not self.arrived:
            if self.ended is not None:
                raise EOFError(
                    f"the line ended with {self.ended.code} {self.ended.reason}".rstrip()
                )
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.arrived.popleft()

    def close(self) -> None:
        """Leave: what was sent still arrives, then the app hears of the end."""
        if not self.over and not self._leaving:
            self._leaving = True
            self.towards_app.wake()

    # -- what networks do ---------------------------------------------------------------------

    def stall(self) -> None:
        """Stop reading: what the app sends piles up."""
        self.towards_client.held = True

    def resume(self) -> None:
        """Read on."""
        self.towards_client.held = False
        self.towards_client.wake()

    def cut(self) -> None:
        """End at once, for both sides; what is on its way is lost."""
        self._end(Ended(1006, ""))

    def cut_after(self, size: int, direction: Literal["client", "app"] = "client") -> None:
        """Cut at the packet that exceeds ``size`` more bytes towards the client or the app."""
        flow = self.towards_client if direction == "client" else self.towards_app
        flow.budget = size

    async def settled(self) -> None:
        """Wait until nothing is on its way (what the app has yet to say is not known here)."""
        flows = (self.towards_client, self.towards_app)
        while not self.over and any(flow.moving for flow in flows):  # noqa: ASYNC110
            await asyncio.sleep(0)

    # -- the app's verbs, through the transport ------------------------------------------------

    def sent(self, packets: Sequence[Packet]) -> None:
        if self.over or self._closing is not None:
            return
        self.towards_client.put(packets)
        if self.towards_client.size > ROOM:
            self._full = True

    def closing(self, code: int, reason: str) -> None:
        if self.over or self._closing is not None:
            return
        self._closing = Ended(*legal_close(code, reason))
        self.towards_client.wake()

    # -- inside -------------------------------------------------------------------------------

    def _to_client(self, packet: Packet) -> None:
        if self.on_packet is not None:
            self.on_packet(packet)
        else:
            self.arrived.append(packet)
            self._wake()
        if self._full and self.towards_client.size <= ROOM:
            self._full = False
            if self.connection is not None:
                self.connection.drained()

    def _to_app(self, packet: Packet) -> None:
        connection = self.connection
        if connection is None or self._closing is not None:
            return
        limit = self.host.settings.max_frame_in
        if limit and packet_size(packet) > limit:
            connection.refuse("too_large", f"a frame is larger than {limit} bytes")
        else:
            connection.receive(packet)

    def settle(self) -> None:
        """A flow has run dry: an end that waited for it comes now."""
        if self.over:
            return
        if self._closing is not None and not self.towards_client.packets:
            self._end(self._closing)
        elif self._leaving and not self.towards_app.packets:
            self._end(Ended(1000, ""))

    def _end(self, ended: Ended) -> None:
        if self.over:
            return
        self.over = True
        self.ended = ended
        # What holds this line lets it go: it is freed with its last user, not by the collector.
        for flow in (self.towards_client, self.towards_app):
            flow.end()
        self.transport.line = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.eof()
        if self.on_end is not None:
            self.on_end(ended)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def connect(
    host: Host,
    *,
    headers: Mapping[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    userinfo: Mapping[str, Any] | None = None,
    peer: str | None = None,
    binding: str | None = None,
    profile: Profile | None = None,
) -> Line:
    """Connect a client to an app on the running loop, which must be the app's.

    Raises :class:`~greenroom.core.errors.Busy` or :class:`~greenroom.core.errors.Closed`.
    """
    line = Line(host)
    line.connection = host.connect(
        line.transport,
        headers=headers,
        cookies=cookies,
        userinfo=userinfo,
        peer=peer,
        binding=binding,
        profile=profile,
    )
    return line
