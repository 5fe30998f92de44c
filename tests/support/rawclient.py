"""A client that knows nothing of WebSockets: it sends bytes, in pieces, and reads to the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from tests.reference.frames_model import CLOSE, PONG, Answer

PATIENCE = 10.0  # seconds that anything may take
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOODBYE = b"\x88\x82\0\0\0\0" + (1000).to_bytes(2, "big")


def head(port: int, path: str = "/ws") -> bytes:
    """A handshake."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class RawClient:
    """One connection. What arrives is collected in ``received``; ``ended``: nothing more will."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.received = b""
        self.ended = False
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._loop.sock_recv(self._sock, 65_536):
                self.received += data
                self._news.set()
        self.ended = True
        self._news.set()

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a segment of its own, and the server has read it before the next."""
        for piece in pieces:
            if self.ended:
                return
            with contextlib.suppress(ConnectionError):
                await self._loop.sock_sendall(self._sock, piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def finish(self) -> None:
        """Say that nothing more comes, and go on reading."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for something to arrive."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited for {what}; there is {self.received[-200:]!r}") from None

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self._sock.close()


@contextlib.asynccontextmanager
async def dial(port: int) -> AsyncGenerator[RawClient]:
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    client = RawClient(sock)
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def opened(port: int) -> AsyncGenerator[RawClient]:
    """After the handshake; ``received`` has frames only."""
    async with dial(port) as client:
        await client.send(head(port))
        await client.until(lambda: b"\r\n\r\n" in client.received, "the answer to a handshake")
        answer, _, client.received = client.received.partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        yield client


def bytewise(stream: bytes, edge: int = 64) -> Iterable[bytes]:
    """One byte at a time; of a long stream its beginning and its end."""
    middle = stream[edge:-edge] if len(stream) > 4096 else b""
    if not middle:
        return [stream[at : at + 1] for at in range(len(stream))]
    return [*bytewise(stream[:edge]), middle, *bytewise(stream[-edge:])]


def read_answer(received: bytes) -> Answer:
    """What a server said. Raises AssertionError where it breaks a rule itself."""
    answer = Answer()
    at = 0
    while at < len(received):
        assert answer.close is None, f"bytes after a close: {received[at:]!r}"
        start = at
        first, size = received[at], received[at + 1]
        at += 2
        assert first & 0x80, "a server that fragments"
        if size > 125:
            wide = 2 if size == 126 else 8
            size = int.from_bytes(received[at : at + wide], "big")
            assert size >= (126 if wide == 2 else 65_536), "a length in too many bytes"
            at += wide
        assert at + size <= len(received), f"half a frame: {received[start:]!r}"
        payload = received[at : at + size]
        at += size
        assert first != 0x80 | CLOSE or size <= 125
        if first == 0x80 | CLOSE:
            assert size != 1
            answer.close = int.from_bytes(payload[:2], "big") if payload else 1005
            payload[2:].decode()
        elif first == 0x80 | PONG:
            answer.pongs.append(received[start:at])
        else:
            assert first in (0x81, 0x82), f"opcode {first:#x}"
            if first == 0x81:
                payload.decode()
            answer.data.append(received[start:at])
    return answer


def has_close(received: bytes) -> bool:
    """Whether a whole close frame has arrived."""
    try:
        return read_answer(received).close is not None
    except (AssertionError, IndexError):
        return False
