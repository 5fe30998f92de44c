"""The reception: which transports may connect, who may come in, and who is flushed when.

Owner: the app's loop. No session exists before the verifiers said yes; a token opens the session it
names and nothing else. Verifiers run where handlers do: coroutines here, plain functions on worker
threads, of which they may take half at a time. Every refused hello is counted, once, by whoever
sends its close. Cut in the middle: a transport that ends while its hello is being answered cancels
the answer (a verifier on a thread runs on, and nobody hears it), and a session that was opened for
nobody is closed again. What was looked at before a verifier was asked is looked at again after it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ._route import Outlet
from .connection import Connection
from .errors import Busy, Closed
from .hello import GOING, Hello, LinkError, Profile, Retry, make_close
from .peers import Peers, stranger
from .plans import Injected, describe
from .token import Tokens
from .types import Transport

if TYPE_CHECKING:
    from .app import App
    from .session import Session

__all__ = ["Reception"]

COME_BACK = 5.0  # seconds; what somebody hears who was refused because there are too many


class Reception:
    """The connections of an app, and the questions at its door."""

    __slots__ = (
        "_answering",
        "_app",
        "_asking",
        "_tokens",
        "closes",
        "connections",
        "counters",
        "handshakes",
        "hellos",
        "outlet",
        "peers",
        "refused",
        "wall",
    )

    def __init__(self, app: App) -> None:
        self._app = app
        secret = app.settings.secret or secrets.token_urlsafe(32)
        self._tokens = Tokens(secret, app.settings.token_ttl)
        self.wall: Callable[[], float] = time.time  # tokens outlive the process and its clock
        self.peers = Peers()
        self._answering = 0  # hellos
        self._asking: asyncio.Semaphore  # for verifiers on worker threads
        self.outlet = Outlet(app.scheduler, app.counts)
        self.connections: set[Connection] = set()
        self.counters = {"connections_opened": 0, "connections_refused": 0}
        self.hellos = {"received": 0, "welcomed": 0, "abandoned": 0, "pending": 0}
        self.refused: Counter[str] = Counter()  # hellos, by code
        self.handshakes: Counter[str] = Counter()  # that an adapter refused, by reason
        self.closes: Counter[str] = Counter()  # how connections ended; "eof": their transport did

    def start(self) -> None:
        """The app starts, on the running loop."""
        # The other half of the threads is for those who are in.
        self._asking = asyncio.Semaphore(max(1, self._app.settings.workers_max // 2))

    # -- transports ---------------------------------------------------------------------------

    def connect(
        self,
        transport: Transport,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        userinfo: Mapping[str, Any] | None,
        peer: str | None,
        binding: str | None,
        profile: Profile,
    ) -> Connection:
        """A transport has connected. Raises :class:`Busy` when there are too many already."""
        settings, address = self._app.settings, stranger(peer)
        limit = settings.max_connections
        if limit and len(self.connections) >= limit:
            self.counters["connections_refused"] += 1
            raise Busy(f"max_connections ({limit}) is reached", retry_after=COME_BACK)
        if self.peers.crowded(address, settings.max_waiting_per_peer):
            self.counters["connections_refused"] += 1
            raise Busy(
                "too many connections from this address have not said hello", retry_after=COME_BACK
            )
        self.counters["connections_opened"] += 1
        number = self.counters["connections_opened"]
        connection = Connection(
            self._app, transport, headers, cookies, userinfo, address, binding, profile, number
        )
        self.peers.wait(address)
        self.connections.add(connection)
        self._app.deadlines.watch(connection)
        return connection

    def disconnected(self, connection: Connection, code: str) -> None:
        """A connection has ended: by a close with that code, or ``eof``."""
        self.connections.discard(connection)
        self.closes[code] += 1

    def turn_away(self, after: Callable[[], float]) -> None:
        """The server goes: tell those who have no link yet when to come back."""
        for connection in tuple(self.connections):
            if connection.link is None:
                connection.end(make_close("draining", GOING, after=after(), retry="fresh"))

    # -- hellos -------------------------------------------------------------------------------

    def make_token(self, session: Session, binding: str | None) -> tuple[str, float]:
        """A token that opens ``session`` for another ``token_ttl``, and when it expires."""
        return self._tokens.sign(session.id, binding, self.wall(), session.generation)

    async def welcome(self, connection: Connection, hello: Hello) -> bool:
        """Answer a hello: find or open the session, attach the link. Raises LinkError.

        False: its transport has ended meanwhile.
        """
        limit = self._app.settings.max_hellos
        if limit and self._answering >= limit:
            after = spread(COME_BACK)
            raise LinkError("busy", "too many are at the door", after=after, retry="resume")
        self._answering += 1
        try:
            return await self._answer(connection, hello)
        finally:
            self._answering -= 1

    async def _answer(self, connection: Connection, hello: Hello) -> bool:
        session: Session | None = None
        if hello.token is not None:
            session = self._find(hello.token, connection)
        carried = connection.link  # of an earlier hello; without this each would be a new one
        if carried is not None and (session is None or hello.link != carried.id):
            raise LinkError("bad_frame", "a further hello resumes its link: it names it")
        if session is None:
            self._admit(connection)
        generation = 0 if session is None else session.generation
        userinfo = await self._verify(connection, session)
        if connection.gone():
            return False
        if session is None:
            session = await self._open(connection, userinfo)
            if connection.gone():
                session.close("its client left before it was opened")
                return False
        else:
            _check(session, generation)
            session.userinfo.update(userinfo)
        session.attach(connection, hello)
        return True

    def _find(self, token: str, connection: Connection) -> Session:
        """The session a token opens. Raises LinkError ``unauthorized``."""
        claims = self._tokens.verify(token, connection.binding, self.wall())
        session = self._app.sessions.get(claims.session)
        if session is None:
            raise LinkError("unauthorized", "this session is gone")
        _check(session, claims.generation)
        if connection.links is not None and connection.links.session is not session:
            raise LinkError("unauthorized", "a token of another session")
        return session

    def _admit(self, connection: Connection) -> None:
        """Whether there may be another session. Raises LinkError ``busy``."""
        app = self._app
        limit = app.settings.max_sessions_per_peer
        if not self.peers.newcomer(connection.peer, limit, app.clock.time()):
            raise LinkError("busy", "too many new sessions from this address", after=60.0)
        try:
            app.check_room()
        except (Busy, Closed) as error:
            raise LinkError("busy", str(error), after=spread(COME_BACK)) from None

    async def _open(self, connection: Connection, userinfo: dict[str, Any]) -> Session:
        try:
            session = await self._app.open_session_async(
                connection.headers, connection.cookies, userinfo
            )
        except (Busy, Closed) as error:
            raise LinkError("busy", str(error), after=spread(COME_BACK)) from None
        except Exception as error:
            self._app.log.exception("a session could not be opened", error)
            raise LinkError(
                "unauthorized", "the session could not be opened", retry="never"
            ) from None
        session.by_hello = True
        return session

    async def _verify(self, connection: Connection, session: Session | None) -> dict[str, Any]:
        userinfo = dict(connection.userinfo or {})
        for verifier in self._app.verifiers:
            try:
                verdict = await self._ask(verifier, connection, session)
            except Exception as error:
                self._app.log.exception(
                    f"the session verifier {describe(verifier.fn)} failed", error
                )
                verdict = False
            if isinstance(verdict, Mapping):
                userinfo.update(cast("Mapping[str, Any]", verdict))
            elif verdict is not True:
                if verdict is not False:
                    self._app.log.error(
                        f"the session verifier {describe(verifier.fn)} returned {verdict!r:.200}, "
                        "which lets nobody in: return True, False or a dict for session.userinfo",
                        kind=f"{describe(verifier.fn)} returned no verdict",
                    )
                retry: Retry = "never" if session is None else "fresh"
                raise LinkError("unauthorized", "the session verifier said no", retry=retry)
        return userinfo

    async def _ask(
        self, verifier: Injected, connection: Connection, session: Session | None
    ) -> Any:
        call = partial(
            verifier, cookies=connection.cookies, headers=connection.headers, session=session
        )
        if verifier.is_async:
            return await call()
        await self._asking.acquire()
        asking = self._app.start_task(self._app.call(call))
        # Not when its client leaves: the thread is taken until the verifier has ended.
        asking.add_done_callback(lambda _: self._asking.release())
        return await asyncio.shield(asking)


def _check(session: Session, generation: int) -> None:
    """Whether a token of that generation opens the session. Raises LinkError."""
    if session.ended:
        raise LinkError("unauthorized", "this session is gone")
    if generation != session.generation:
        raise LinkError("unauthorized", "this token has been revoked")


def spread(seconds: float) -> float:
    """About so many seconds: who was refused together should not come back together."""
    return round(random.uniform(seconds / 2, seconds * 3 / 2), 3)  # noqa: S311 - it hides nothing
