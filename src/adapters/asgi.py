"""An ASGI application around an app: mount it in FastAPI or Starlette, or serve it alone.

::

    fastapi_app = FastAPI(lifespan=asgi.lifespan(app))
    fastapi_app.mount("/live", asgi.application(app))

Below the mount are ``/ws``, ``/greenroom.js`` and its siblings, ``/view/<label>`` for the pages of
``app.show``, and at ``/`` the public folder where one is given.

Owner: the loop that the server calls us on, which is the app's. One connection is two tasks: the
server's, which reads, and one of ours, which writes. A turn never waits for a socket: when nothing
is waiting to be written the server's ``send`` takes its first step at once, with the writer as the
current task, and nearly always that step is all; when ``send`` suspends the writer goes on with
it, and packets that come meanwhile wait in the queue of a :class:`_Socket`.

What servers do differently, and what is done about it, once and for all of them: an exception
after accept cuts the connection without a close frame on some, so we always close ourselves and
return; ``send`` blocks while a client does not read, and so does ``close``, so a writer that makes
no progress is abandoned by cancelling it and returning; what is buffered below us cannot be seen,
so our own queue is the bound; ``send`` to a client that has gone raises one thing or another, or
nothing, so any exception is the end; the close code in ``disconnect`` is not to be relied on and
not looked at; messages carry ``text``, ``bytes``, or both with one of them None; a message may
be as large as the server's own limit, so we check ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage]
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from pathlib import Path
from types import CoroutineType, coroutine
from typing import Any, Final, Protocol, TypeGuard

from ..core.errors import Busy, Closed
from ..core.packet import decode_binary, encode_binary
from ..core.types import Packet
from .base import (
    CLOSE_GRACE,
    ROOM,
    Connection,
    Host,
    Profile,
    legal_close,
    packet_size,
    refuse_oversize,
)
from .guard import Head, host_allowed, is_loopback, origin_allowed
from .pages import CHUNK, Answer, Handlers, Pages, View, plain

__all__ = ["Application", "application", "lifespan"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

logger = logging.getLogger("greenroom.asgi")

SOCKET: Final = "/ws"
PROFILE: Final = Profile(limited=True, batching=True)  # two messages cannot be sent as one
new_packet: Callable[..., Packet] = getattr(tuple, "__new__")  # noqa: B009  # Packet(...) without a Python call
NOT_JSON: Final = Packet(b"")  # stands for a message that is no packet; the link refuses it


class AsgiHost(Host, Protocol):
    """What we use of an app beyond what every adapter does."""

    @property
    def phase(self) -> str: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...
    @property
    def views(self) -> Mapping[str, View]: ...
    @property
    def handlers(self) -> Handlers: ...


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
        self._sockets: set[_Socket] = set()
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
            await self._started()
        if kind == "http":
            await self._http(head, str(scope["method"]), send)
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

    async def _started(self) -> None:
        """Start the app at the first request. Requests that come meanwhile wait."""
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
                    await self._started()
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

    async def _http(self, head: Head, method: str, send: Send) -> None:
        if not self._host_allowed(head):
            await respond(send, _WRONG_HOST, with_body=method != "HEAD")
        elif head.path == SOCKET:
            answer = plain(426, "this is a WebSocket", [("upgrade", "websocket")])
            await respond(send, answer, with_body=method != "HEAD")
        else:
            await respond(send, await asyncio.to_thread(self.pages.answer, method, head))

    # -- websocket ----------------------------------------------------------------------------

    async def _websocket(self, head: Head, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        settings = self.app.settings
        refusal: Answer | None = None
        if not self._host_allowed(head):
            refusal = _WRONG_HOST
        elif head.path != SOCKET:
            refusal = plain(404, "the WebSocket is at /ws")
        elif not origin_allowed(head, settings):
            refusal = plain(403, "this page may not connect here (see Settings.origins)")
        if refusal is not None:
            await deny(scope, send, refusal)
            return
        if self.app.running and self.app.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "the app runs on another loop than the server that was asked to serve it: give "
                "asgi.lifespan(app) to the outer application, and start the app nowhere else"
            )
        socket = _Socket(settings.ping + settings.dead or 30.0)
        try:
            connection = self.app.connect(
                socket,
                headers=head.headers,
                cookies=head.cookies,
                peer=head.peer(settings),
                binding=head.binding(),
                profile=PROFILE,
            )
        except (Busy, Closed) as error:
            after = getattr(error, "retry_after", 1.0)
            retry = [("retry-after", str(max(1, round(after))))]
            await deny(scope, send, plain(503, str(error), retry))
            return
        self._sockets.add(socket)
        try:
            await socket.run(connection, receive, send, settings.max_frame_in)
        finally:
            self._sockets.discard(socket)
            socket.end(connection)
            socket.let_go()
            socket.over.set_result(None)


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


class _Socket:
    """The transport of one WebSocket: the app's side is sync, the server's side async.

    ``send`` and ``close`` only note and wake; ``_write`` is the one place that awaits the server.
    Cut in the middle: whatever ends first (the reader by a disconnect, the writer by an error or
    after the close, the timer because nothing moves), :meth:`run` returns once and for all.
    """

    __slots__ = (
        "_abandoned",
        "_close",
        "_connection",
        "_context",
        "_ended",
        "_failure",
        "_full",
        "_loop",
        "_queue",
        "_reader",
        "_rest",
        "_rest_size",
        "_seen",
        "_send",
        "_stall",
        "_timer",
        "_wake",
        "_writer",
        "_writing",
        "_written",
        "buffered",
        "over",
    )

    def __init__(self, stall: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall = stall  # seconds without progress after which a client is given up
        self._queue: deque[Packet] = deque()
        self.buffered = 0
        self._full = False  # the app hands over nothing more until it hears `drained`
        self._close: tuple[int, str] | None = None
        self._wake: asyncio.Future[None] | None = None  # the idle writer waits for it
        self._writing = False  # somebody is inside the server's send
        self._rest: Awaitable[None] | None = None  # a send that was begun, for the writer
        self._rest_size = 0
        self._failure: Exception | None = None  # what such a send raised in its first step
        self._context = copy_context()  # the writer's
        self._written = 0  # messages, to see progress
        self._seen = -1
        self._timer: asyncio.TimerHandle | None = None
        self._abandoned = False
        self._ended = False
        self._reader: asyncio.Task[Any] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._send: Send | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()

    # -- the app's side -----------------------------------------------------------------------

    def send(self, packets: Sequence[Packet]) -> None:
        if self._close is not None or self._abandoned:
            return
        wake = self._wake
        if wake is not None and len(packets) == 1:
            data, buffers = packets[0]
            if not buffers and self._step(data.decode(), wake):
                return
        self._queue.extend(packets)
        for packet in packets:
            self.buffered += packet_size(packet) if packet[1] else len(packet[0])
        if self.buffered > ROOM:
            self._full = True
        if wake is not None:
            self._wake = None
            wake.set_result(None)
        elif self._writing and self._timer is None:
            self._watch(self._stall)

    def _step(self, text: str, wake: asyncio.Future[None]) -> bool:
        """Write a message while the writer has nothing to do; it goes on if that takes longer.

        False: not now, because some task is running.
        """
        loop, writer, send = self._loop, self._writer, self._send
        assert send is not None
        assert writer is not None
        try:
            _enter_task(loop, writer)
        except RuntimeError:
            return False
        try:
            sending: Any = send({"type": "websocket.send", "text": text})
            if _is_coroutine(sending):
                sending = _ride(sending, self._context.run(sending.send, None))
        except StopIteration:
            self._written += 1
            return True
        except Exception as error:  # noqa: BLE001 -- the writer judges it
            self._failure = error
        else:
            self._rest = sending
            self._rest_size = len(text)
            self.buffered += self._rest_size
            self._writing = True
        finally:
            _leave_task(loop, writer)
        self._wake = None
        wake.set_result(None)
        return True

    def close(self, code: int, reason: str) -> None:
        if self._close is not None or self._abandoned:
            return
        self._close = legal_close(code, reason)
        if self._wake is not None:
            self._wake.set_result(None)
            self._wake = None
        self._watch(CLOSE_GRACE)

    # -- the server's side --------------------------------------------------------------------

    async def run(self, connection: Connection, receive: Receive, send: Send, limit: int) -> None:
        """Accept, then read until the end."""
        self._connection = connection
        try:
            await send({"type": "websocket.accept"})
        except Exception:  # noqa: BLE001 -- whatever a server raises here: there is no client
            self._abandoned = True
            return
        self._send = send
        task = self._reader = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        writer = self._writer = self._loop.create_task(self._write(), context=self._context)
        try:
            await self._read(receive, limit)
        except asyncio.CancelledError:
            if not self._abandoned or task.uncancel() > before:
                raise
        finally:
            self._abandoned = True
            self._reader = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not writer.done():
                writer.cancel()
                await asyncio.wait([writer], timeout=CLOSE_GRACE)

    async def _read(self, receive: Receive, limit: int) -> None:
        connection = self._connection
        assert connection is not None
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            if self._close is not None:
                continue  # thrown away: a reset could overtake the close
            text = message.get("text")
            if text is not None:
                data = text.encode("utf-8", "surrogatepass")
                size = len(data)
                packet = new_packet(Packet, (data, ()))
            else:
                raw = message.get("bytes") or b""
                size = len(raw)
                try:
                    packet = decode_binary(raw)
                except ValueError:
                    packet = NOT_JSON
            if limit and size > limit:
                refuse_oversize(self, limit)
            else:
                connection.receive(packet)

    async def _write(self) -> None:
        send, queue = self._send, self._queue
        connection = self._connection
        assert send is not None
        assert connection is not None
        try:
            while True:
                while queue:
                    packet = queue.popleft()
                    data, buffers = packet
                    self._writing = True
                    if buffers:
                        await send({"type": "websocket.send", "bytes": encode_binary(packet)})
                        self.buffered -= packet_size(packet)
                    else:
                        await send({"type": "websocket.send", "text": data.decode()})
                        self.buffered -= len(data)
                    self._writing = False
                    self._written += 1
                    self._room(connection)
                if self._close is not None:
                    break
                self._wake = self._loop.create_future()
                await self._wake
                if self._failure is not None:
                    raise self._failure
                rest, self._rest = self._rest, None
                if rest is not None:
                    await rest
                    self.buffered -= self._rest_size
                    self._writing = False
                    self._written += 1
                    self._room(connection)
            code, reason = self._close
            await send({"type": "websocket.close", "code": code, "reason": reason})
            self._written += 1  # from here on the client has CLOSE_GRACE to answer
        except Exception as error:  # noqa: BLE001 -- every server has its own; all say "gone"
            logger.debug("a WebSocket ended while it was written to: %r", error)
            self._abandon()

    def _room(self, connection: Connection) -> None:
        if self._full and self.buffered <= ROOM:
            self._full = False
            connection.drained()

    # -- time ---------------------------------------------------------------------------------

    def _watch(self, seconds: float) -> None:
        """Look in a while whether anything has moved."""
        if self._timer is not None:
            self._timer.cancel()
        self._seen = self._written
        self._timer = self._loop.call_later(seconds, self._look, seconds)

    def _look(self, seconds: float) -> None:
        self._timer = None
        if not self._writing and self._close is None:
            return
        if self._written != self._seen:
            self._watch(seconds)
        else:
            self._abandon()

    def _abandon(self) -> None:
        """Give the client up: the app hears of it, and :meth:`run` returns."""
        if not self._abandoned:
            self._abandoned = True
            self._queue.clear()
            self.buffered = 0
            if self._connection is not None:
                self.end(self._connection)
            if self._reader is not None:
                self._reader.cancel()

    def let_go(self) -> None:
        """Hold neither the app's side nor the server's any more: they hold this one."""
        self._connection = self._send = self._writer = None

    def end(self, connection: Connection) -> None:
        """Tell the app, once, that nothing moves any more."""
        if not self._ended:
            self._ended = True
            connection.eof()


def _is_coroutine(value: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    return type(value) is CoroutineType


@coroutine
def _ride(coro: Coroutine[Any, Any, None], waits: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that has taken its first step, and waits for ``waits``."""
    try:
        while True:
            try:
                sent = yield waits
            except BaseException as error:  # noqa: BLE001 -- it is the coroutine's to judge
                waits = coro.throw(error)
            else:
                waits = coro.send(sent)
    except StopIteration:
        pass
