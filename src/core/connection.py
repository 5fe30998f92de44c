"""A connection: one transport's life, from its first packet to its end.

Owner: the app's loop; adapters call :meth:`receive`, :meth:`drained` and :meth:`eof` there and
nowhere else. None of them raises or blocks. What runs for every packet is compiled: ``_route.pyx``.

A connection has no link until its hello is answered. It then carries packets for exactly one link;
a link has at most one connection, and what still arrives on a replaced one is discarded. Every
hello, the further ones too, is answered within ``Settings.hello_timeout``. Cut in the middle: while
a hello is being answered (a verifier may await) the end of the transport cancels the answer;
afterwards the link is detached and keeps its stream for ``Settings.window``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ._route import ConnectionCore
from .hello import Close, Hello, LinkError, Profile, make_close, parse_hello
from .link import ServerLink
from .types import Packet, Transport

if TYPE_CHECKING:
    from .app import App
    from .links import Links

__all__ = ["Connection"]

BROKEN: Final = 1011  # the close code of a transport that failed
RETRY_AFTER: Final = 1.0  # seconds


class Connection(ConnectionCore):
    """The server's end of one transport. Made by :meth:`App.connect`."""

    __slots__ = (
        "__weakref__",
        "_opening",
        "_waiting",
        "app",
        "binding",
        "cookies",
        "generation",
        "headers",
        "peer",
        "profile",
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
        super().__init__(transport, app.reception.outlet)
        self.headers = headers
        self.cookies = cookies
        self.userinfo = userinfo
        self.peer = peer
        self.binding = binding
        self.profile = profile
        self.number = number
        self.generation = 0  # of the session's tokens, when this connection was welcomed
        self.asked = app.clock.time()
        self._waiting = True  # for its first welcome
        self.watched: Any = None  # owned by Deadlines
        self._opening: asyncio.Task[None] | None = None

    # -- what the adapter calls ---------------------------------------------------------------

    def refuse(self, code: str, message: str) -> None:
        """A packet has arrived that cannot be taken: end with the close of that code."""
        self.app.counts.received += 1
        if self.closed:
            self.app.counts.discarded += 1
            return
        self.app.counts.bad += 1
        if self._opening is not None:
            self._opening.cancel()
        self.lost(make_close(code, message))

    def eof(self) -> None:
        """The transport has ended; nothing more arrives and nothing more leaves."""
        if self.closed:
            return
        self._end("eof")
        if self._opening is not None:
            self._opening.cancel()
        self._detach()

    # -- what the app calls -------------------------------------------------------------------

    def lost(self, close: Close) -> None:
        """The link wants this connection to end."""
        self.end(close)
        self._detach()

    def end(self, close: Close) -> None:
        """Say why, and close the transport after what was sent."""
        if self.closed:
            return
        try:
            if close.packet is not None:
                self.transport.send([close.packet])
        except Exception as error:  # noqa: BLE001 - it breaks its contract, we keep ours
            self.failed(error)
            return
        self._end(close.code)
        self._hang_up(close.ws_code, close.reason)

    def failed(self, error: BaseException) -> None:
        """Its transport raised, which none may do: it has ended, whatever it thinks itself."""
        self.app.log.exception("a transport failed", error)
        self.eof()
        self._hang_up(BROKEN, "")

    def _hang_up(self, code: int, reason: str) -> None:
        try:
            self.transport.close(code, reason)
        except Exception as error:
            self.app.log.exception("a transport failed", error)

    def gone(self) -> bool:
        """Whether its transport has ended meanwhile."""
        return self.closed

    def deadline(self) -> float | None:
        """A connection must say hello in time, and a verifier must answer in time."""
        limit = self.app.settings.hello_timeout
        if self.closed or not limit or (self.link is not None and self._opening is None):
            return None
        return self.asked + limit

    def due(self, now: float) -> None:
        """No hello came in time, or nobody answered it."""
        if self._opening is None:
            self.end(make_close("bad_frame", "no hello arrived in time"))
        else:
            self._opening.cancel()
            why = "the hello was not answered in time"
            self.lost(make_close("busy", why, after=RETRY_AFTER, retry="resume"))

    # -- inside -------------------------------------------------------------------------------

    def _end(self, code: str) -> None:
        self.closed = True
        self._no_longer_waiting()
        self.app.reception.disconnected(self, code)

    def _no_longer_waiting(self) -> None:
        if self._waiting:
            self._waiting = False
            self.app.reception.peers.waited(self.peer)

    def _detach(self) -> None:
        """Its link, if it has one, waits for its client's return."""
        links, link = self.links, self.link
        self.let_go()
        if link is not None and links is not None:
            links.detach(link, self)

    def let_go(self) -> None:
        """It carries no link any more: whoever still holds the connection holds no session."""
        self.links = self.link = None

    def first(self, packet: Packet, now: float) -> None:
        counts = self.app.counts
        counts.received += 1
        if self._opening is not None:
            counts.bad += 1
            self._opening.cancel()
            self.end(make_close("bad_frame", "a frame before gr:welcome: wait for it"))
            return
        try:
            hello = parse_hello(packet)
        except LinkError as error:
            counts.bad += 1
            self.end(error.close)
            return
        counts.hellos += 1
        self._begin(hello)

    def _begin(self, hello: Hello) -> None:
        hellos = self.app.reception.hellos
        hellos["received"] += 1
        hellos["pending"] += 1
        opening = self._open(hello)
        if not self.app.sync_opening:
            self._opening = self.app.start_task(opening)
            self._opening.add_done_callback(self._never_began)
            return
        try:
            opening.send(None)
        except StopIteration:
            return
        raise AssertionError("opening a session waited although there was nothing to wait for")

    async def _open(self, hello: Hello) -> None:
        reception = self.app.reception
        end = "abandoned"
        try:
            if await reception.welcome(self, hello):
                end = "welcomed"
        except LinkError as error:
            end = ""
            reception.refused[error.code] += 1
            self.end(error.close)
            self._detach()  # from the link of an earlier hello
        finally:
            self._opening = None
            self._answered(end)

    def _never_began(self, task: asyncio.Task[None]) -> None:
        if self._opening is task:  # cancelled before its first step
            self._opening = None
            self._answered("abandoned")

    def _answered(self, end: str) -> None:
        hellos = self.app.reception.hellos
        hellos["pending"] -= 1
        if end:
            hellos[end] += 1

    def attached(self, links: Links, link: ServerLink) -> None:
        """Hello is answered: this connection carries ``link`` from now on, and no other."""
        self._no_longer_waiting()
        if self.link is not link:
            self._detach()
        self.links = links
        self.link = link

    def again(self, hello: Hello) -> None:
        """A second hello on an open connection."""
        if self._opening is None:
            self.asked = self.app.clock.time()
            self._begin(hello)
            self.app.deadlines.watch(self)
