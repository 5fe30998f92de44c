"""The fast server: one port, pages by uvicorn, ``/ws`` by picows.

::

    async with websocket.Server(app, port=8000, public="public") as server:
        print(server.url)
        await server.wait()

    server = await websocket.serve(app, "0.0.0.0", 443, ssl=websocket.tls_context("cert.pem"))
    ...
    await server.stop()

A connection begins with a :class:`Switch`, which reads the head of the first request. One that
asks for a WebSocket at ``/ws`` is answered here, by the rules of the ASGI application; everything
else goes to uvicorn with all that was read, and so does a request for a WebSocket on a connection
that has served pages before: it works there too, only slower.

Owner: the loop, which is the app's. Cut in the middle: a connection that ends before its head is
whole leaves a cancelled timer and nothing else. What happens to a WebSocket is in ``wire.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Final, Self

from ..core.packet import decode_binary, encode_binary
from ..core.types import Packet
from .asgi import SOCKET, Application, AsgiHost, application
from .base import Connection, Profile
from .frames import BINARY, TEXT, encode_head
from .guard import Head
from .handshake import END, Refused, accepted, parse, respond, wants_websocket
from .pages import Answer, plain
from .serving import HEAD_TIME, HttpServer, is_unix, open_socket, server_config, tls_context, url_of
from .wire import Wire

if TYPE_CHECKING:
    import socket

__all__ = ["Server", "serve", "switch", "tls_context"]

HEAD_BYTES: Final = 64 * 1024
PATH: Final = SOCKET.encode()
PROFILE: Final = Profile(limited=True, http=True)

logger = logging.getLogger("greenroom.websocket")

new_packet: Callable[..., Packet] = getattr(tuple, "__new__")  # noqa: B009  # Packet(...) without a Python call
NOT_JSON: Final = Packet(b"")  # stands for a message that is no packet; the link refuses it
SHORT: Final = tuple(encode_head(TEXT, size) for size in range(126))


class Socket(Wire):
    """The transport of one WebSocket: packets above, messages below."""

    __slots__ = ("_connection",)

    def __init__(self, limit: int, stall: float) -> None:
        super().__init__(limit, stall)
        self._connection: Connection | None = None

    @staticmethod
    def decode(message: bytes) -> Packet:
        """A binary message as a packet. An echo that stands in for the app has its own form."""
        return decode_binary(message)

    @staticmethod
    def encode(packet: Packet) -> bytes:
        """The reverse of :meth:`decode`."""
        return encode_binary(packet)

    def attached(self, connection: Connection) -> None:
        self._connection = connection

    # -- the app's side -----------------------------------------------------------------------

    def send(self, packets: Sequence[Packet]) -> None:
        pieces: list[bytes] = []
        for packet in packets:
            data, buffers = packet
            if buffers:
                data = self.encode(packet)
                pieces += (encode_head(BINARY, len(data)), data)
            else:
                size = len(data)
                pieces += (SHORT[size] if size < 126 else encode_head(TEXT, size), data)
        if pieces:
            self.write(b"".join(pieces))

    # -- the client's side --------------------------------------------------------------------

    def message(self, opcode: int, payload: bytes) -> None:
        connection = self._connection
        if connection is None:
            return
        if opcode == TEXT:
            connection.receive(new_packet(Packet, (payload, ())))
            return
        try:
            packet = self.decode(payload)
        except ValueError:
            packet = NOT_JSON
        connection.receive(packet)

    def broken(self, code: int, reason: str) -> None:
        connection = self._connection
        if connection is not None:
            if code == 1009:
                connection.refuse("too_large", f"a frame is larger than {self._limit} bytes")
            elif code == 1007:
                connection.refuse("not_utf8", reason)
        self.refuse(code, reason)

    def drained(self) -> None:
        if self._connection is not None:
            self._connection.drained()

    def ended(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.eof()


class Switch(asyncio.Protocol):
    """The beginning of a connection: whose is it?"""

    __slots__ = ("_application", "_head", "_server", "_timer", "_transport", "_type")

    def __init__(self, application: Application, kind: type[Socket], server: HttpServer) -> None:
        self._application = application
        self._type = kind
        self._server = server
        self._head = bytearray()
        self._transport: Any = None  # an asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        connections: set[Any] = self._server.server_state.connections
        connections.add(self)
        self._timer = asyncio.get_running_loop().call_later(HEAD_TIME, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()

    def _let_go(self) -> Any:
        transport, self._transport = self._transport, None
        connections: set[Any] = self._server.server_state.connections
        connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return transport

    def shutdown(self) -> None:
        """The server goes. uvicorn calls this."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = self._head
        begin = max(0, len(head) - 3)
        head += data
        if not 65 <= head[0] <= 90:  # no method begins so: uvicorn has an answer to nonsense
            self._hand_over()
            return
        end = END.search(head, begin)
        if (len(head) if end is None else end.start()) > HEAD_BYTES:
            self._turn_away("head", plain(431, f"the head is larger than {HEAD_BYTES} bytes"))
        elif end is not None:
            whole, rest = bytes(head[: end.start()]), bytes(head[end.end() :])
            if wants_websocket(whole, PATH):
                self._websocket(whole, rest)
            else:
                self._hand_over()

    def _hand_over(self) -> None:
        """To uvicorn, with all that was read."""
        transport = self._let_go()
        protocol = self._server.http()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(bytes(self._head))

    def _too_late(self) -> None:
        self._turn_away("head", plain(408, "the head of the request took too long"))

    def _turn_away(self, reason: str, answer: Answer) -> None:
        self._application.app.turned_away(reason)
        self._refuse(answer)

    def _refuse(self, answer: Answer) -> None:
        transport = self._let_go()
        if transport is not None:
            transport.write(respond(answer.status, answer.headers, answer.body))
            transport.close()

    def _websocket(self, head: bytes, rest: bytes) -> None:
        application, transport = self._application, self._transport
        try:
            request = parse(head)
            response = accepted(request)
        except Refused as refused:
            answer = plain(refused.status, refused.text, refused.headers)
            self._turn_away("handshake", answer)
            return
        tls = transport.get_extra_info("sslcontext") is not None
        here: object = transport.get_extra_info("sockname")
        there: object = transport.get_extra_info("peername")
        scope: dict[str, Any] = {
            "scheme": "wss" if tls else "ws",
            "path": SOCKET,
            "headers": request.headers,
            "server": here if isinstance(here, tuple) else None,  # a Unix socket has a path
            "client": there if isinstance(there, tuple) else None,
        }
        socket = self._type(application.app.settings.max_frame_in, application.stall)
        connection = application.attach(socket, Head.of(scope), PROFILE)
        if isinstance(connection, Answer):
            self._refuse(connection)
            return
        socket.attached(connection)
        self._let_go()
        connections: set[Any] = self._server.server_state.connections
        connections.add(socket)
        socket.over.add_done_callback(lambda _: connections.discard(socket))
        socket.open(transport, response, rest)


def switch(
    application: Application, socket_type: type[Socket] = Socket
) -> Callable[[HttpServer], asyncio.Protocol]:
    """What connections of an :class:`~.serving.HttpServer` begin with."""
    return partial(Switch, application, socket_type)


# -- embedding ----------------------------------------------------------------------------------


class Server:
    """Serves one app on one port of the running loop."""

    def __init__(
        self,
        app: AsgiHost,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        public: str | Path | None = None,
        title: str = "Greenroom",
        ssl: SSLContext | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        """``host`` and ``port``: where to listen; port 0 is any free one.

        ``public`` and ``title`` as for :func:`.asgi.application`. ``ssl``: serve https and wss,
        see :func:`tls_context`. ``sock``: a listening socket to use, TCP or Unix; ``host`` is then
        only what decides which Host headers are answered. It is closed with the server.
        """
        self.app = app
        self.host = host
        self.application = application(app, public=public, bind=host, title=title)
        self._port = port
        self._ssl = ssl
        self._sock = sock
        self._url = ""
        self._server: HttpServer | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it is: ``http://127.0.0.1:8000``, ``unix:/run/app``. Empty before :meth:`start`."""
        return self._url

    @property
    def port(self) -> int:
        """The port it listens on; 0 for a Unix socket."""
        return self._port

    async def start(self) -> None:
        """Start the app, unless it runs, and listen. Returns when clients may come.

        Raises OSError when the address cannot be listened on.
        """
        if self._serving is not None:
            raise RuntimeError("a server is started once: make another")
        sock = open_socket(self.host, self._port) if self._sock is None else self._sock
        try:
            await self.application.started()
        except BaseException:
            sock.close()
            raise
        self._port = 0 if is_unix(sock) else sock.getsockname()[1]
        self._url = url_of(sock, self.host, tls=self._ssl is not None)
        config = server_config(self.application, self.app.settings.max_frame_in)
        server = HttpServer(config, protocol=switch(self.application), tls=self._ssl)
        self._server = server
        self._serving = asyncio.create_task(server.serve(sockets=[sock]))
        ready = asyncio.ensure_future(server.ready.wait())
        await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._serving
        self.app.listeners.append(server.stop_listening)

    async def stop(self, drain: float | None = None) -> None:
        """Stop listening, then the app, which tells every client when to come back, then the rest.

        ``drain``: seconds; None is ``Settings.drain``. May be called any number of times.
        """
        server = self._server
        if server is not None:
            server.stop_listening()
        await self.app.stop(drain)
        if server is not None and self._serving is not None:
            for connection in tuple(server.server_state.connections):
                connection.shutdown()  # whom the app has not closed
            await self.application.closed()
            server.should_exit = True
            await self._serving

    async def wait(self) -> None:
        """Until the server has stopped."""
        if self._serving is not None:
            await asyncio.shield(self._serving)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def serve(
    app: AsgiHost,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    public: str | Path | None = None,
    title: str = "Greenroom",
    ssl: SSLContext | None = None,
    sock: socket.socket | None = None,
) -> Server:
    """Start a :class:`Server`; takes the same arguments. ``await server.stop()`` ends it."""
    server = Server(app, host, port, public=public, title=title, ssl=ssl, sock=sock)
    await server.start()
    return server
