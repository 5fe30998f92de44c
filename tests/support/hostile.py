"""A client that keeps to no rule: a raw socket, bytes in and bytes out, for both adapters.

Nothing is read unless a test asks for it, so a client that never asks is a stalled reader. Frames
may be anything: :func:`ws_frame` builds wrong ones as gladly as right ones.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Self

__all__ = ["CLOSE", "HELLO", "PING", "TEXT", "Ended", "Hostile", "event", "hello", "ws_frame"]

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

MASK: Final = b"\x37\xfa\x21\x3d"
PATIENCE: Final = 20.0  # seconds; only a test that fails waits for so long


def ws_frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """A WebSocket frame of a client; ``length`` may lie about the payload."""
    size = len(payload) if length is None else length
    head = bytes([fin << 7 | reserved << 4 | opcode])
    mask = masked << 7
    if size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += struct.pack(">BH", mask | 126, size)
    else:
        head += struct.pack(">BQ", mask | 127, size)
    if not masked:
        return head + payload
    whole, rest = divmod(len(payload), 4)
    key = int.from_bytes(MASK * whole + MASK[:rest], "big")
    return head + MASK + (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")


def text(frame: Any) -> bytes:
    """A frame of ours: bytes as they are, else as JSON."""
    return frame if isinstance(frame, bytes) else json.dumps(frame).encode()


def hello(**data: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"protocol": 1, "token": None, "link": None, "seq": 0, "label": "main"}
    return {"type": "gr:hello", "data": given | {"binary": False} | data}


HELLO: Final = hello()


def event(number: int, type: str = "add", data: Any = 1) -> dict[str, Any]:
    return {"type": type, "id": number, "data": data}


class Ended(NamedTuple):
    """How a connection ended."""

    close: dict[str, Any] | None  #: the data of gr:close, where there was one
    code: int | None  #: of the WebSocket close frame, where there was one

    @property
    def why(self) -> str | None:
        return None if self.close is None else str(self.close["code"])


class Gone(Exception):
    """The server has closed its end."""


class Hostile:
    """One connection. ``sent`` and ``taken`` count the bytes of both directions."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = 0
        self.taken = 0
        self.welcome: dict[str, Any] = {}
        self._buffer = bytearray()
        self._waiting: list[dict[str, Any]] = []  # frames that came with others

    # -- coming and going ---------------------------------------------------------------------

    @classmethod
    async def dial(cls, port: int, *, receive_buffer: int = 0) -> Self:
        """Connect, and say nothing."""
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    @classmethod
    async def upgrade(
        cls,
        port: int,
        *,
        receive_buffer: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Connect and finish the handshake, but say no hello."""
        self = await cls.dial(port, receive_buffer=receive_buffer)
        await self.write(handshake(port, headers))
        head = await self.head()
        assert head.startswith(b"HTTP/1.1 101"), head
        assert b"sec-websocket-extensions" not in head.lower(), head
        return self

    @classmethod
    async def open(cls, port: int, frame: Any = HELLO, **options: Any) -> Self:
        """Connect, shake hands, say hello and take the welcome."""
        self = await cls.upgrade(port, **options)
        await self.say(frame)
        self.welcome = (await self.until("gr:welcome"))["data"]
        return self

    def cut(self) -> None:
        """Gone, with a reset."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.cut()

    # -- saying -------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Bytes as they are. Raises OSError when the server has gone."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)
        self.sent += len(data)

    async def say(self, *frames: Any) -> None:
        """Frames of our protocol, each as one WebSocket message, all in one write."""
        await self.write(b"".join(ws_frame(text(frame)) for frame in frames))

    async def shout(self, data: bytes, *, step: int = 1 << 16) -> bool:
        """Write until the server has gone or all is written: true when it is."""
        try:
            for start in range(0, len(data), step):
                await self.write(data[start : start + step])
        except OSError:
            return False
        return True

    # -- listening ----------------------------------------------------------------------------

    async def _more(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                part = await loop.sock_recv(self.sock, 1 << 16)
        except ConnectionError:
            part = b""
        if not part:
            raise Gone
        self.taken += len(part)
        self._buffer += part

    async def head(self) -> bytes:
        """The head of an HTTP response."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._more()
        head = bytes(self._buffer[: end + 4])
        del self._buffer[: end + 4]
        return head

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        try:
            while True:
                await self._more()
        except Gone:
            return bytes(self._buffer)

    async def message(self) -> tuple[int, bytes]:
        """The next WebSocket frame: opcode and payload. Raises :class:`Gone`."""
        while True:
            found = self._parse()
            if found is not None:
                return found
            await self._more()

    def _parse(self) -> tuple[int, bytes] | None:
        data = self._buffer
        if len(data) < 2:
            return None
        size, at = data[1], 2
        assert size < 128, "a server masks nothing"
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        if len(data) < at + size:
            return None
        opcode, payload = data[0] & 0x0F, bytes(data[at : at + size])
        del data[: at + size]
        return opcode, payload

    async def frame(self) -> dict[str, Any]:
        """The next frame of our protocol. Raises :class:`Gone`."""
        while not self._waiting:
            opcode, payload = await self.message()
            if opcode == CLOSE:
                raise Gone(int.from_bytes(payload[:2], "big"))
            if opcode == TEXT:
                self._waiting.extend(flat(json.loads(payload)))
        return self._waiting.pop(0)

    async def until(self, type: str, number: int | None = None) -> dict[str, Any]:
        """The next frame of that type, and of that id."""
        while True:
            frame = await self.frame()
            if frame["type"] == type and (number is None or frame.get("id") == number):
                return frame
            if frame["type"] == "gr:close":
                raise AssertionError(f"closed instead of {type}: {frame}")

    async def answer(self, number: int) -> dict[str, Any]:
        """The result or error of that id."""
        while True:
            frame = await self.frame()
            if frame.get("id") == number and frame["type"] in ("gr:result", "gr:error"):
                return frame
            if frame["type"] == "gr:close":
                raise AssertionError(f"closed instead of an answer: {frame}")

    async def skip(self, *markers: bytes) -> None:
        """Take messages without a look at them, until these bytes have come, one by one."""
        left = list(markers)
        while left:
            opcode, payload = await self.message()
            if opcode == CLOSE:
                raise Gone(int.from_bytes(payload[:2], "big"))
            while left and left[0] in payload:
                del left[0]

    async def ended(self) -> Ended:
        """Read until the server closes; how it did."""
        close: dict[str, Any] | None = None
        try:
            while True:
                frame = await self.frame()
                if frame["type"] == "gr:close":
                    close = frame["data"]
        except Gone as gone:
            code = gone.args[0] if gone.args else None
        return Ended(close, code)


def flat(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if frame["type"] == "gr:batch":
        yield from frame["data"]
    else:
        yield frame


def handshake(port: int, headers: Mapping[str, str] | None = None) -> bytes:
    """A WebSocket handshake that a browser could send."""
    lines = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    } | dict(headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET /ws HTTP/1.1\r\n{head}\r\n".encode()
