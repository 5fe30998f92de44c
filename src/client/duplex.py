"""What carries a client's frames, and how one is dialled.

A :class:`Duplex` is any two-way line of packets. A :class:`WebSocket` is one; so is what
``greenroom.adapters.memory.connect(app)`` returns, and a pipe to a child process can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from ..core.types import Packet
from .codec import pack, unpack

__all__ = ["Dialer", "Duplex", "Ended", "WebSocket", "dialer_of", "refused_for_good"]


class Ended(NamedTuple):
    """How a line ended: a WebSocket close code (1006: cut) and a reason."""

    code: int
    reason: str


class _Ended(Protocol):
    @property
    def code(self) -> int: ...


class Duplex(Protocol):
    """A line of packets. Used on one loop only."""

    @property
    def ended(self) -> _Ended | None:
        """How it ended, once it has."""
        ...

    def send(self, *packets: Packet) -> None:
        """Send them, in order. Never blocks, never raises; after the end they are dropped."""
        ...

    async def receive(self) -> Packet:
        """The next packet. Raises EOFError after the last one."""
        ...

    def close(self) -> None:
        """End it, after what was sent."""
        ...


Dialer = Callable[[], Duplex | Awaitable[Duplex]]


def dialer_of(target: str | Dialer) -> Dialer:
    """A dialer as it is; a URL (ws, wss, http, https) as one that opens a WebSocket.

    ``http://host:port`` alone is what ``greenroom run`` prints: its WebSocket is at ``/ws``.
    """
    if not isinstance(target, str):
        return target
    url = target
    if target.startswith("http"):
        parts = urlsplit("ws" + target.removeprefix("http"))
        url = (parts._replace(path="/ws") if parts.path in ("", "/") else parts).geturl()
    if not url.startswith(("ws://", "wss://")):
        raise ValueError(f"a URL of a server begins with ws://, wss:// or http, got {target!r}")
    return lambda: WebSocket.dial(url)


#: HTTP statuses that another attempt at the same address will not change.
WRONG: Final = frozenset((400, 401, 403, 404, 405, 410, 426))


def refused_for_good(error: Exception) -> bool:
    """Whether a dialler failed because there is no WebSocket for us at that address."""
    return getattr(getattr(error, "response", None), "status_code", None) in WRONG


class WebSocket:
    """A WebSocket by the ``websockets`` package. Made by :meth:`dial`."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._queue: asyncio.Queue[Packet | None] = asyncio.Queue()
        self._writer = asyncio.get_running_loop().create_task(self._write())
        self.ended: Ended | None = None

    @classmethod
    async def dial(cls, url: str) -> WebSocket:
        try:
            from websockets.asyncio.client import connect
        except ImportError:
            raise ImportError("the Python client needs `pip install websockets`") from None
        # Pings and their deadline are the link's; the size of a snapshot is the server's affair.
        return cls(await connect(url, compression=None, ping_interval=None, max_size=None))

    def send(self, *packets: Packet) -> None:
        for packet in packets:
            self._queue.put_nowait(packet)

    async def receive(self) -> Packet:
        from websockets.exceptions import ConnectionClosed

        try:
            return unpack(await self._socket.recv())
        except ConnectionClosed as error:
            close = error.rcvd
            self.ended = Ended(close.code, close.reason) if close else Ended(1006, "")
            self._writer.cancel()
            raise EOFError(f"the connection ended with {self.ended.code}") from None

    def close(self) -> None:
        self._queue.put_nowait(None)

    async def closed(self) -> None:
        """Wait until what was sent and the close have left."""
        await asyncio.wait([self._writer])

    async def _write(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while (packet := await self._queue.get()) is not None:
                await self._socket.send(pack(packet))
            await self._socket.close()
        except ConnectionClosed:
            pass  # the reader hears of it and says how
