"""An echo in the app's place: an adapter's own handshake and frames, for suites from outside.

::

    python -m greenroom.testing.echo --adapter asgi --port 9001
    greenroom.testing.echo: asgi on ws://127.0.0.1:9001/ws

Whatever message arrives is sent back as it came: text or binary, whole or in fragments, empty or of
up to 16 MiB. What is refused, and how, is the adapter's doing, exactly as under ``greenroom run``:
only the link is missing, and the form that its binary messages have. Port 0 takes any free one;
SIGTERM or Ctrl-C ends it.

It serves one loop and keeps what a client does not read: a tool for tests, not for strangers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, SimpleNamespace
from typing import Any, ClassVar, Final

import uvicorn

from ..adapters import asgi, asgi_socket
from ..adapters.guard import is_loopback
from ..core.settings import Settings
from ..core.types import Packet, Transport

__all__ = ["ADAPTERS", "LIMIT", "EchoHost", "config", "main"]

LIMIT: Final = 16 * 1024 * 1024  #: bytes of the largest message that is sent back
PATH: Final = "/ws"


class Echo:
    """The app's end of one connection: what arrives, leaves."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.closed = False

    def receive(self, packet: Packet) -> None:
        self.transport.send([packet])

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
        self.views: Mapping[str, Any] = {}
        self.handlers: Any = SimpleNamespace(names={}, left_out=[])

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def start(self) -> None:
        """It runs."""

    async def stop(self, drain: float | None = None) -> None:
        """There is nothing to stop."""

    def connect(self, transport: Transport, **_facts: Any) -> Echo:
        return Echo(transport)


# -- the adapters -------------------------------------------------------------------------------


class AsgiSocket(asgi_socket.Socket):
    """A WebSocket of an ASGI server whose binary messages have no form."""

    __slots__ = ()

    @staticmethod
    def decode(message: bytes) -> Packet:
        return Packet(b"", (message,))

    @staticmethod
    def encode(packet: Packet) -> bytes:
        return packet.buffers[0]


class AsgiApplication(asgi.Application):
    socket_type: ClassVar[type[asgi_socket.Socket]] = AsgiSocket


def on_asgi(host: EchoHost, bind: str) -> tuple[Any, dict[str, Any]]:
    return AsgiApplication(host, None, bind, "echo"), asgi.uvicorn_options(host.settings)


#: By name: what is served, and how uvicorn is told to.
ADAPTERS: Final[Mapping[str, Callable[[EchoHost, str], tuple[Any, dict[str, Any]]]]] = {
    "asgi": on_asgi,
}


def config(adapter: str, bind: str = "127.0.0.1") -> uvicorn.Config:
    """A uvicorn that serves the echo on ``adapter`` as ``greenroom run`` would serve an app."""
    application, options = ADAPTERS[adapter](EchoHost(bind), bind)
    return uvicorn.Config(
        application,
        **options,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


# -- the command --------------------------------------------------------------------------------


class Server(uvicorn.Server):
    """Says where it is."""

    def __init__(self, made: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(made)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def leave(_number: int, _frame: FrameType | None) -> None:
    """A signal: the server has closed its clients by now, or has none yet."""
    sys.exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m greenroom.testing.echo",
        description="An echo on an adapter's own frame handling, for conformance suites.",
    )
    parser.add_argument("--adapter", choices=sorted(ADAPTERS), default="asgi")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port (default: any free one)")
    args = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    with contextlib.closing(socket.create_server((args.host, args.port), family=family)) as sock:
        shown = f"[{args.host}]" if ":" in args.host else args.host
        url = f"ws://{shown}:{sock.getsockname()[1]}{PATH}"

        def ready() -> None:
            sys.stdout.write(f"greenroom.testing.echo: {args.adapter} on {url}\n")
            sys.stdout.flush()

        Server(config(args.adapter, args.host), ready).run(sockets=[sock])
    return 0


if __name__ == "__main__":
    sys.exit(main())
