"""A WebSocket client that writes bytes and reads frames: for what no library would send."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Self

LOCALHOST = Path(__file__).parent / "localhost.pem"  #: key and certificate; known to everybody

REQUEST = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, bits: int = 0) -> bytes:
    """A client's frame; ``bits`` are the reserved ones."""
    first = (0x80 if fin else 0) | bits << 4 | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8, "big")
    mask = b"\x37\xfa\x21\x3d"
    key = (mask * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return head + mask + body


def client_tls() -> ssl.SSLContext:
    """Trusts the certificate of tests/support."""
    return ssl.create_default_context(cafile=str(LOCALHOST))


class Raw:
    """One TCP or TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int):
        self.reader = reader
        self.writer = writer
        self.host = f"localhost:{port}"

    @classmethod
    async def dial(cls, port: int, tls: ssl.SSLContext | None = None) -> Self:
        name = None if tls is None else "localhost"
        opened = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
        return cls(*opened, port)

    @classmethod
    async def upgraded(cls, port: int, tls: ssl.SSLContext | None = None) -> Self:
        self = await cls.dial(port, tls)
        self.say(self.request())
        assert (await self.head()).startswith(b"HTTP/1.1 101 ")
        return self

    def request(self) -> bytes:
        return REQUEST.format(host=self.host).encode()

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame, which is whole and has no reserved bit."""
        first, size = await self.reader.readexactly(2)
        assert first & 0xF0 == 0x80, hex(first)
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        return first & 0x0F, await self.reader.readexactly(size)

    async def until_close(self) -> tuple[int, str]:
        """Code and reason; 1005 for an empty close."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                return code, payload[2:].decode()

    async def end(self) -> bytes:
        """What comes before the server ends its half."""
        return await self.reader.read()

    def close(self) -> None:
        self.writer.transport.abort()
