"""An ASGI application around an app: mount it in FastAPI or Starlette, or serve it alone.

::

    fastapi_app = FastAPI(lifespan=asgi.lifespan(app))
    fastapi_app.mount("/live", asgi.application(app))

Below the mount are ``/ws``, ``/greenroom.js`` and ``/greenroom/`` (the client), ``/view/<label>``
for the pages of ``app.show``, ``/healthz``, ``/metrics`` when asked for, and at ``/`` the public
folder where one is given.

Owner: the loop that the server calls us on, which is the app's. What one WebSocket does is in
``asgi_socket.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from ..core.errors import Busy, Closed
from ..core.files import Files
from . import file_routes
from .asgi_socket import Receive, Scope, Send, Socket
from .base import Connection, Host, Profile, Transport
from .guard import Head, host_allowed, is_loopback, origin_allowed
from .operations import HEALTH, METRICS, Operated, health, metrics
from .pages import CHUNK, Answer, Handlers, Pages, View, plain

__all__ = ["Application", "application", "lifespan"]

SOCKET: Final = "/ws"
# Two messages cannot be sent as one; files have an address beside the socket.
PROFILE: Final = Profile(limited=True, batching=True, http=True)


class AnySocket(Transport, Protocol):
    """A transport that says when it has ended."""

    over: asyncio.Future[None]


class AsgiHost(Host, Operated, Protocol):
    """What we use of an app beyond what every adapter does."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...
    def turned_away(self, reason: str) -> None: ...
    @property
    def listeners(self) -> list[Callable[[], object]]: ...
    @property
    def views(self) -> Mapping[str, View]: ...
    @property
    def handlers(self) -> Handlers: ...
    @property
    def files(self) -> Files: ...


def application(
    app: AsgiHost,
    *,
    public: str | Path | None = None,
    bind: str | None = None,
    title: str = "Greenroom",
) -> Application:
    """An ASGI application that serves ``app``.

    ``public`` is the folder served at ``/``; only that folder, no dotfiles, no links out of it.
    ``bind`` is the address the server listens on, where that is known: it decides which Host
    headers are answered (see ``Settings.hosts``). ``title`` heads the page that an app without any
    shows in ``Settings.debug``.

    The app is started at the first request, unless it runs already; to have it start and stop with
    the server give :func:`lifespan` to the outer application.
    """
    return Application(app, None if public is None else Path(public), bind, title)


def lifespan(app: Host) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """The lifespan of an outer application: ``FastAPI(lifespan=asgi.lifespan(app))``.

    Servers end lifespans after they have closed the sockets. To let clients hear of a shutdown,
    ``await app.stop()`` before the server goes, as ``greenroom run`` does.
    """

    @contextlib.asynccontextmanager
    async def run(_outer: Any) -> AsyncGenerator[None]:
        await app.start()
        try:
            yield
        finally:
            await app.stop()

    return run


class Application:
    """The ASGI callable. Made by :func:`application`."""

    socket_type: ClassVar[type[Socket]] = Socket

    def __init__(
        self,
        app: AsgiHost,
        public: Path | None,
        bind: str | None,
        title: str,
    ) -> None:
        self.app = app
        self.pages = Pages(public, app, title)
        self._loopback = None if bind is None else is_loopback(bind)
        self._sockets: set[AnySocket] = set()
        self._starting: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
            return
        if kind not in ("http", "websocket"):
            raise NotImplementedError(f"Greenroom serves http and websocket, not {kind!r}")
        head = Head.of(scope)
        if self._starting is None or not self._starting.done():
            await self.started()
        if kind == "http":
            await self._http(head, str(scope["method"]), receive, send)
        else:
            await self._websocket(head, scope, receive, send)

    @property
    def connections(self) -> int:
        """How many WebSockets are open or closing."""
        return len(self._sockets)

    async def closed(self) -> None:
        """Wait until every WebSocket has ended: after ``app.stop()``, before the server goes.

        Clients that do not take their close are given up meanwhile, so this ends by itself.
        """
        if self._sockets:
            await asyncio.wait([socket.over for socket in self._sockets])

    # -- starting -----------------------------------------------------------------------------

    async def started(self) -> None:
        """Start the app, at the first request or before. Who comes meanwhile waits."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        if self.app.phase == "new":  # one that has been stopped stays so
            await self.app.start()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.started()
                except Exception as error:  # noqa: BLE001 -- the server is told, and says it
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.app.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # -- http ---------------------------------------------------------------------------------

    def _host_allowed(self, head: Head) -> bool:
        if head.mount:
            return True  # the outer application's job
        loopback = head.local if self._loopback is None else self._loopback
        return host_allowed(head, self.app.settings, loopback=loopback)

    async def _http(self, head: Head, method: str, receive: Receive, send: Send) -> None:
        if head.path == HEALTH:
            await respond(send, await health(self.app, method), with_body=method != "HEAD")
        elif not self._host_allowed(head):
            await respond(send, _WRONG_HOST, with_body=method != "HEAD")
        elif head.path == SOCKET:
            answer = plain(426, "this is a WebSocket", [("upgrade", "websocket")])
            await respond(send, answer, with_body=method != "HEAD")
        elif head.path == METRICS and (told := metrics(self.app, method, head)) is not None:
            await respond(send, told, with_body=method != "HEAD")
        elif head.path.startswith(file_routes.PREFIX):
            app = self.app
            await file_routes.serve(app.files, app.settings, head, method, receive, send)
        else:
            answer = await asyncio.to_thread(self.pages.answer, method, head)
            if self.app.phase == "draining":  # the next request is for the next process
                answer = answer._replace(headers=[*answer.headers, ("connection", "close")])
            await respond(send, answer)

    # -- websocket ----------------------------------------------------------------------------

    async def _websocket(self, head: Head, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        socket = self.socket_type(self.stall)
        connection = self.attach(socket, head, PROFILE)
        if isinstance(connection, Answer):
            await deny(scope, send, connection)
            return
        try:
            await socket.run(connection, receive, send, self.app.settings.max_frame_in)
        finally:
            socket.end(connection)
            socket.let_go()
            socket.over.set_result(None)

    @property
    def stall(self) -> float:
        """Seconds after which a client that takes nothing of what it is sent is given up."""
        return self.app.settings.ping + self.app.settings.dead or 30.0

    def attach(self, socket: AnySocket, head: Head, profile: Profile) -> Connection | Answer:
        """The app's end of a WebSocket that asks to come in, or the refusal to answer with.

        It counts as open until its ``over`` is done.
        """
        settings = self.app.settings
        if not self._host_allowed(head):
            self.app.turned_away("host")
            return _WRONG_HOST
        if head.path != SOCKET:
            self.app.turned_away("path")
            return plain(404, "the WebSocket is at /ws")
        if not origin_allowed(head, settings):
            self.app.turned_away("origin")
            return plain(403, "this page may not connect here (see Settings.origins)")
        if self.app.running and self.app.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "the app runs on another loop than the server that was asked to serve it: give "
                "asgi.lifespan(app) to the outer application, and start the app nowhere else"
            )
        try:
            connection = self.app.connect(
                socket,
                headers=head.headers,
                cookies=head.cookies,
                peer=head.peer(settings),
                binding=head.binding(),
                profile=profile,
            )
        except (Busy, Closed) as error:
            after = getattr(error, "retry_after", 1.0)
            return plain(503, str(error), [("retry-after", str(max(1, round(after))))])
        self._sockets.add(socket)
        socket.over.add_done_callback(lambda _: self._sockets.discard(socket))
        return connection


_WRONG_HOST: Final = plain(
    400, "this host name is not served here (see Settings.hosts, or GREENROOM_HOSTS)"
)


async def respond(send: Send, answer: Answer, *, with_body: bool = True) -> None:
    """Send a response; a file is read piece by piece on a thread."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.file is not None:
        file = await asyncio.to_thread(answer.file.open, "rb")
        try:
            while piece := await asyncio.to_thread(file.read, CHUNK):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await asyncio.to_thread(file.close)
    body = answer.body if with_body else b""
    await send({"type": "http.response.body", "body": body})


async def deny(scope: Scope, send: Send, answer: Answer) -> None:
    """Refuse a handshake with a status, where the server can, else with its 403."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send(
        {"type": "websocket.http.response.start", "status": answer.status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": answer.body})
