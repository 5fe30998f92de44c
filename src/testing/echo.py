"""An echo in the app's place: an adapter's own handshake and frames, for suites from outside.

::

    python -m greenroom.testing.echo --adapter websocket --port 9001
    greenroom.testing.echo: websocket on ws://127.0.0.1:9001/ws

Whatever message arrives is sent back as it came: text or binary, whole or in fragments, empty or of
up to 16 MiB. What is refused, and how, is the adapter's doing, exactly as under ``greenroom run``:
only the link is missing, and the form that its binary messages have. Port 0 takes any free one;
SIGTERM or Ctrl-C ends it.

It serves one loop and keeps what a client does not read: a tool for tests, not for strangers.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, SimpleNamespace
from typing import Any, ClassVar, Final

from ..adapters import asgi, asgi_socket, websocket
from ..adapters.base import close_with
from ..adapters.guard import is_loopback
from ..adapters.serving import HttpServer, open_socket, server_config, url_of
from ..core.settings import Settings
from ..core.types import Packet, Transport

__all__ = ["ADAPTERS", "LIMIT", "EchoHost", "main", "server"]

LIMIT: Final = 16 * 1024 * 1024  #: bytes of the largest message that is sent back


class Echo:
    """The app's end of one connection: what arrives, leaves."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.closed = False

    def receive(self, packet: Packet) -> None:
        self.transport.send([packet])

    def refuse(self, code: str, message: str) -> None:
        close_with(self.transport, code, message)

    def drained(self) -> None:
        """There is always more room: see the head of this file."""

    def eof(self) -> None:
        self.closed = True


class EchoHost:
    """Stands in for an app; ``host`` is the address it is served on."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        here = is_loopback(host)
        self.settings = Settings(max_frame_in=LIMIT, hosts=() if here else ("*",))
        self.phase = "running"
        self.running = True
        self.listeners: list[Callable[[], object]] = []
        self.views: Mapping[str, Any] = {}
        self.handlers: Any = SimpleNamespace(names={}, left_out=[])
        self.files: Any = None  # it has no sessions to send any

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def start(self) -> None:
        """It runs."""

    async def stop(self, drain: float | None = None) -> None:
        """There is nothing to stop."""

    def turned_away(self, reason: str) -> None:
        """Nobody counts."""

    def stats(self) -> dict[str, Any]:
        return {}

    async def hears(self, seconds: float = 1.0) -> bool:
        return True

    def connect(self, transport: Transport, **_facts: Any) -> Echo:
        return Echo(transport)


# -- the adapters -------------------------------------------------------------------------------


class Plain:
    """Binary messages without a form: as a packet, and back."""

    __slots__ = ()

    @staticmethod
    def decode(message: bytes) -> Packet:
        return Packet(b"", (message,))

    @staticmethod
    def encode(packet: Packet) -> bytes:
        return packet.buffers[0]


class AsgiSocket(Plain, asgi_socket.Socket):
    __slots__ = ()


class FastSocket(Plain, websocket.Socket):
    __slots__ = ()

    def broken(self, code: int, reason: str) -> None:
        self.refuse(code, reason)  # without the gr:close that a link's client would be sent


class AsgiApplication(asgi.Application):
    socket_type: ClassVar[type[asgi_socket.Socket]] = AsgiSocket


ADAPTERS: Final = ("asgi", "websocket")


def server(adapter: str, bind: str = "127.0.0.1") -> HttpServer:
    """A server of the echo on ``adapter``, made as ``greenroom run`` makes one for an app."""
    application = AsgiApplication(EchoHost(bind), None, bind, "echo")
    protocol = websocket.switch(application, FastSocket) if adapter == "websocket" else None
    return HttpServer(server_config(application, LIMIT), protocol=protocol)


# -- the command --------------------------------------------------------------------------------


async def serve(echo: HttpServer, sock: socket.socket, what: str) -> None:
    """Serve until a signal says otherwise; first print ``what`` that is."""
    loop = asyncio.get_running_loop()

    def leave(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(setattr, echo, "should_exit", True)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    serving = asyncio.create_task(echo.serve(sockets=[sock]))
    await echo.ready.wait()
    sys.stdout.write(f"greenroom.testing.echo: {what}\n")
    sys.stdout.flush()
    await serving


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m greenroom.testing.echo",
        description="An echo on an adapter's own frame handling, for conformance suites.",
    )
    parser.add_argument("--adapter", choices=sorted(ADAPTERS), default="websocket")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port (default: any free one)")
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        sock = open_socket(args.host, args.port)
    except (OSError, UnicodeError) as error:
        parser.error(f"cannot listen on {args.host}:{args.port}: {error}")
    url = url_of(sock, args.host).replace("http", "ws", 1) + asgi.SOCKET
    echo = server(args.adapter, args.host)
    with asyncio.Runner(loop_factory=echo.config.get_loop_factory()) as runner:
        runner.run(serve(echo, sock, f"{args.adapter} on {url}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
