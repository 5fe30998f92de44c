"""A listening socket, and uvicorn on it: what every server on one port needs.

Owner: the loop that :meth:`HttpServer.serve` runs on, which is the app's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Generator
from typing import Any, Final

import uvicorn

from .patience import HEAD_TIME, Http, WebSocket

__all__ = ["HEAD_TIME", "HttpServer", "open_socket", "server_config", "tls_context", "url_of"]

NOTSENT_LOWAT: Final = 25  # TCP_NOTSENT_LOWAT on Linux; not in the socket module
UNSENT: Final = 64 * 1024  # what the kernel may hold unsent for one client
GRACE: Final = 5  # seconds for requests that still run when the server goes
BACKLOG: Final = 2048


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # clients' sockets inherit it
            sock.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT)
    return sock


def is_unix(sock: socket.socket) -> bool:
    """Whether it is bound to a path, or to a name, instead of an address and a port."""
    return not isinstance(sock.getsockname(), tuple)


def url_of(sock: socket.socket, host: str, *, tls: bool = False) -> str:
    """Where a browser on this machine finds the socket that listens on ``host``."""
    if is_unix(sock):
        return f"unix:{sock.getsockname()}"
    port: int = sock.getsockname()[1]
    scheme = "https" if tls else "http"
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 -- only how it is shown
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def tls_context(cert: str, key: str | None = None) -> ssl.SSLContext:
    """TLS with a certificate chain and its private key, both PEM; ``key`` may be in ``cert``.

    Raises OSError (``ssl.SSLError`` is one).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_config(application: Any, max_frame_in: int) -> uvicorn.Config:
    """Uvicorn as we want it; ``max_frame_in`` is of the settings."""
    return uvicorn.Config(
        application,
        http=Http,
        ws=WebSocket,  # websockets-sansio, held to its word
        ws_per_message_deflate=False,  # patches are small; compressing them costs more than bytes
        # Above ours, so that it is we who refuse, with a gr:close.
        ws_max_size=2 * max_frame_in + 65_536 if max_frame_in else sys.maxsize,
        ws_ping_interval=None,  # the protocol has its own, with a deadline
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # Settings.trusted_proxies
        timeout_graceful_shutdown=GRACE,
    )


class HttpServer(uvicorn.Server):
    """uvicorn, with a word in what a connection begins with, and without handlers for signals.

    ``protocol`` makes what a connection begins with, given this server; without it that is
    uvicorn's own.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        protocol: Callable[[HttpServer], asyncio.Protocol] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(config)
        self._protocol = protocol
        self._tls = tls
        self.ready = asyncio.Event()  #: set when it listens

    def http(self) -> asyncio.Protocol:
        """Uvicorn's protocol for one connection."""
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        return made

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        protocol = self._protocol
        make = self.http if protocol is None else lambda: protocol(self)
        loop = asyncio.get_running_loop()
        self.servers = [
            await (loop.create_unix_server if is_unix(sock) else loop.create_server)(
                make,
                sock=sock,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HEAD_TIME,
            )
            for sock in sockets or ()
        ]
        self.started = True
        self.ready.set()

    def stop_listening(self) -> None:
        """Close the listening sockets: their port is free. Connections that are open go on."""
        for server in self.servers:
            server.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
