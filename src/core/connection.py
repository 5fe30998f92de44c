"""A connection: one transport's life, from its first packet to its end.

Owner: the app's loop; adapters call :meth:`receive`, :meth:`drained` and :meth:`eof` there and
nowhere else. None of them raises or blocks.

A connection has no link until its hello is answered. It then carries packets for exactly one link;
a link has at most one connection, and what still arrives on a replaced one is discarded. Cut in
the middle: while a hello is being answered (a verifier may await) the end of the transport cancels
the answer; afterwards the link is detached and keeps its stream for ``Settings.window``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .hello import Close, Hello, LinkError, Profile, make_close, parse_hello
from .link import ServerLink
from .types import Packet, Transport

if TYPE_CHECKING:
    from .app import App
    from .links import Links

__all__ = ["Connection"]

TRANSPORT_ROOM: Final = 64 * 1024  # a transport with more buffered is handed nothing


class Connection:
    """The server's end of one transport. Made by :meth:`App.connect`."""

    __slots__ = (
        "_dirty",
        "_opening",
        "app",
        "binding",
        "closed",
        "cookies",
        "headers",
        "link",
        "links",
        "number",
        "opened",
        "peer",
        "profile",
        "transport",
        "userinfo",
        "watched",
    )

    def __init__(
        self,
        app: App,
        transport: Transport,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        userinfo: Mapping[str, Any] | None,
        peer: str | None,
        binding: str | None,
        profile: Profile,
        number: int,
    ) -> None:
        self.app = app
        self.transport = transport
        self.headers = headers
        self.cookies = cookies
        self.userinfo = userinfo
        self.peer = peer
        self.binding = binding
        self.profile = profile
        self.number = number  # of the connections of this app, in the order they were made
        self.links: Links | None = None
        self.link: ServerLink | None = None
        self.closed = False
        self.opened = app.clock.time()
        self.watched: float | None = None
        self._opening: asyncio.Task[None] | None = None
        self._dirty = False

    # -- what the adapter calls ---------------------------------------------------------------

    def receive(self, packet: Packet) -> None:
        """One packet has arrived."""
        if self.closed:
            return
        link = self.link
        now = self.app.clock.time()
        if link is None:
            self._first(packet, now)
            return
        assert self.links is not None
        for request in link.receive(packet, now):
            self.links.request(link, request, len(packet.data))
        self.app.reception.touch(self)

    def drained(self) -> None:
        """The transport has room again."""
        if not self.closed:
            self.app.reception.touch(self)

    def eof(self) -> None:
        """The transport has ended; nothing more arrives and nothing more leaves."""
        if self.closed:
            return
        self._end()
        if self._opening is not None:
            self._opening.cancel()
        if self.link is not None and self.links is not None:
            self.links.detach(self.link, self)

    # -- what the app calls -------------------------------------------------------------------

    def flush(self) -> None:
        """Hand the transport what its link has ready, in one write, and close if it is over."""
        self._dirty = False
        link = self.link
        if link is None or self.closed:
            return
        room = TRANSPORT_ROOM - self.transport.buffered
        packets = link.take(self.app.clock.time(), room)
        if packets:
            self.transport.send(packets)
        if link.closing is not None:
            self.end(link.closing)
            if self.links is not None:
                self.links.detach(link, self)

    def mark(self) -> bool:
        """True the first time it is marked since the last flush."""
        if self._dirty or self.closed:
            return False
        self._dirty = True
        return True

    def end(self, close: Close) -> None:
        """Say why, and close the transport after what was sent."""
        if self.closed:
            return
        if close.packet is not None:
            self.transport.send([close.packet])
        self._end()
        self.transport.close(close.ws_code, close.reason)

    def deadline(self) -> float | None:
        """A connection without a link must say hello in time."""
        if self.closed or self.link is not None or not self.app.settings.hello_timeout:
            return None
        return self.opened + self.app.settings.hello_timeout

    def due(self, now: float) -> None:
        """No hello came in time."""
        if self._opening is not None:
            self._opening.cancel()
        self.end(make_close("bad_frame", "no hello arrived in time"))

    # -- inside -------------------------------------------------------------------------------

    def _end(self) -> None:
        self.closed = True
        self.app.reception.disconnected(self)

    def _first(self, packet: Packet, now: float) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self.end(make_close("bad_frame", "a frame before gr:welcome: wait for it"))
            return
        try:
            hello = parse_hello(packet)
        except LinkError as error:
            self.end(error.close)
            return
        self._begin(hello)

    def _begin(self, hello: Hello) -> None:
        opening = self._open(hello)
        if not self.app.sync_opening:
            self._opening = self.app.start_task(opening)
            return
        try:
            opening.send(None)
        except StopIteration:
            return
        raise AssertionError("opening a session waited although there was nothing to wait for")

    async def _open(self, hello: Hello) -> None:
        try:
            await self.app.reception.welcome(self, hello)
        except LinkError as error:
            self.end(error.close)
        finally:
            self._opening = None

    def attached(self, links: Links, link: ServerLink) -> None:
        """Hello is answered: this connection carries ``link`` from now on."""
        self.links = links
        self.link = link

    def again(self, hello: Hello) -> None:
        """A second hello on an open connection."""
        if self._opening is None:
            self._begin(hello)
