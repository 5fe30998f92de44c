"""The reception: which transports may connect, who may come in, and who is flushed when.

Owner: the app's loop. No session exists before the verifiers said yes; a token opens the session it
names and nothing else. Cut in the middle: a transport that ends while its hello is being answered
cancels the answer, and a session that was opened for nobody is closed again.
"""

from __future__ import annotations

import inspect
import ipaddress
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ._route import Outlet
from .connection import Connection
from .errors import Busy, Closed
from .hello import GOING, Hello, LinkError, Profile, Retry, make_close
from .plans import call_injected
from .token import Tokens
from .types import Transport

if TYPE_CHECKING:
    from .app import App
    from .session import Session

__all__ = ["Reception"]


class Reception:
    """The connections of an app, and the questions at its door."""

    __slots__ = (
        "_app",
        "_minute",
        "_newcomers",
        "_tokens",
        "closes",
        "connections",
        "counters",
        "hellos",
        "outlet",
        "refused",
        "turned_away",
        "wall",
    )

    def __init__(self, app: App) -> None:
        self._app = app
        secret = app.settings.secret or secrets.token_urlsafe(32)
        self._tokens = Tokens(secret, app.settings.token_ttl)
        self.wall: Callable[[], float] = time.time  # tokens outlive the process and its clock
        self._newcomers: Counter[str] = Counter()  # new sessions by peer, in this minute
        self._minute = -1
        self.outlet = Outlet(app.scheduler, app.counts)
        self.connections: set[Connection] = set()
        self.counters = {"connections_opened": 0, "connections_refused": 0}
        self.hellos = {"received": 0, "welcomed": 0, "abandoned": 0, "pending": 0}
        self.refused: Counter[str] = Counter()  # hellos, by code
        self.turned_away: Counter[str] = Counter()  # by an adapter, by reason
        self.closes: Counter[str] = Counter()  # how connections ended; "eof": their transport did

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
        """A transport has connected. Raises :class:`Busy` at ``max_connections``."""
        limit = self._app.settings.max_connections
        if limit and len(self.connections) >= limit:
            self.counters["connections_refused"] += 1
            raise Busy(f"max_connections ({limit}) is reached", retry_after=5.0)
        self.counters["connections_opened"] += 1
        number = self.counters["connections_opened"]
        connection = Connection(
            self._app, transport, headers, cookies, userinfo, peer, binding, profile, number
        )
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
        return self._tokens.sign(session.id, binding, self.wall())

    async def welcome(self, connection: Connection, hello: Hello) -> bool:
        """Answer a hello: find or open the session, attach the link. Raises LinkError.

        False: its transport has ended meanwhile.
        """
        session: Session | None = None
        if hello.token is not None:
            session = self._find(hello.token, connection)
        userinfo = await self._verify(connection, session)
        if connection.gone():
            return False
        if session is None:
            session = await self._open(connection, userinfo)
            if connection.gone():
                session.close("its client left before it was opened")
                return False
        elif session.ended:
            raise LinkError("unauthorized", "this session is gone", retry="fresh")
        elif userinfo:
            session.userinfo.update(userinfo)
        session.attach(connection, hello)
        return True

    def _find(self, token: str, connection: Connection) -> Session:
        """The session a token opens. Raises LinkError ``unauthorized``."""
        claims = self._tokens.verify(token, connection.binding, self.wall())
        session = self._app.sessions.get(claims.session)
        if session is None or session.ended:
            raise LinkError("unauthorized", "this session is gone", retry="fresh")
        if connection.links is not None and connection.links.session is not session:
            raise LinkError("unauthorized", "a token of another session", retry="fresh")
        return session

    async def _open(self, connection: Connection, userinfo: dict[str, Any]) -> Session:
        self._admit(connection.peer)
        try:
            session = await self._app.open_session_async(
                connection.headers, connection.cookies, userinfo
            )
        except (Busy, Closed) as error:
            raise LinkError("busy", str(error), after=5.0) from None
        except Exception as error:
            self._app.log.exception("a session could not be opened", error)
            raise LinkError(
                "unauthorized", "the session could not be opened", retry="never"
            ) from None
        session.by_hello = True
        return session

    async def _verify(self, connection: Connection, session: Session | None) -> dict[str, Any]:
        app = self._app
        userinfo = dict(connection.userinfo or {})
        for verifier in app.verifiers:
            try:
                verdict = call_injected(
                    verifier,
                    cookies=connection.cookies,
                    headers=connection.headers,
                    session=session,
                )
                if inspect.isawaitable(verdict):
                    verdict = await verdict
            except Exception as error:
                app.log.exception("a session verifier failed", error)
                verdict = False
            if isinstance(verdict, Mapping):
                userinfo.update(cast("Mapping[str, Any]", verdict))
            elif verdict is not True:
                retry: Retry = "never" if session is None else "fresh"
                raise LinkError("unauthorized", "the session verifier said no", retry=retry)
        return userinfo

    def _admit(self, peer: str | None) -> None:
        """Count a new session of a peer; ``busy`` above the limit of a minute."""
        limit = self._app.settings.max_sessions_per_peer
        if not limit or peer is None or _is_loopback(peer):
            return
        minute = int(self._app.clock.time() // 60)
        if minute != self._minute:
            self._minute, self._newcomers = minute, Counter()
        self._newcomers[peer] += 1
        if self._newcomers[peer] > limit:
            raise LinkError("busy", "too many new sessions from this address", after=60.0)


def _is_loopback(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
