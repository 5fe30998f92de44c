"""Clients that cost little: a WebSocket protocol of the bare minimum, and servers to talk to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import orjson

from ..core.stage import hello

__all__ = ["Client", "Server", "clients", "servers"]

ROOT: Final = Path(__file__).parent.parent.parent
RESULT: Final = re.compile(rb'"gr:result","seq":(\d+),"id":(\d+)')
ACK_EVERY: Final = 128  # frames; what our clients do


class Server:
    """One of server.py's servers, in a process of its own."""

    def __init__(self, kind: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.load.server", kind],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of all its threads so far. Linux only."""
        return time.clock_gettime((~self.process.pid << 3) | 2)  # see clock_getcpuclockid(3)

    def resident(self) -> int:
        """Bytes of memory it occupies. Linux only."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.asynccontextmanager
async def servers(*kinds: str) -> AsyncGenerator[list[Server]]:
    """Start servers, and stop them."""
    running: list[Server] = []
    try:
        running.extend(Server(kind) for kind in kinds)
        yield running
    finally:
        for server in running:
            server.stop()


class Client(asyncio.Protocol):
    """One connection. ``ask`` sends an event and waits until its result is there."""

    def __init__(self, greeting: bool) -> None:
        self.greeting = greeting  # it is a Greenroom server: say hello
        self.buffer = b""
        self.open = False
        self.last = b""  # the message that held the last result
        self.patch = b""  # the message that held the last patch
        self.number = 0
        self.seq = 0
        self.acked = 0
        self.waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        host = transport.get_extra_info("peername")
        transport.write(
            f"GET /ws HTTP/1.1\r\nHost: localhost:{host[1]}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        if not self.open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.buffer = head
                return
            assert b" 101 " in head, head
            self.open = True
            if self.greeting:
                self.write(hello())
            else:
                self.waiter.set_result(b"")
        at = 0
        while len(data) >= at + 2:
            size = data[at + 1]
            start = at + 2
            if size == 126:
                if len(data) < at + 4:
                    break
                (size,) = struct.unpack_from(">H", data, at + 2)
                start += 2
            if len(data) < start + size:
                break
            opcode = data[at] & 0x0F
            if opcode == 8:  # the server goes
                return
            assert opcode == 1, data
            self.message(data[start : start + size])
            at = start + size
        self.buffer = data[at:]

    def message(self, text: bytes) -> None:
        if b"gr:snapshot" in text:
            self.seq = 1
            self.waiter.set_result(text)
            return
        assert b"gr:close" not in text, text
        assert b"gr:error" not in text, text
        if b'"gr:state"' in text:
            self.patch = text
        found = RESULT.search(text)
        if found is not None:
            self.seq = int(found[1])
            self.last = text
            assert int(found[2]) == self.number, text
            self.waiter.set_result(text)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.waiter.done():
            self.waiter.set_exception(ConnectionError("the server has gone"))

    def write(self, text: bytes) -> None:
        size = len(text)
        head = struct.pack(">BB", 0x81, 0x80 | size) if size < 126 else (
            struct.pack(">BBH", 0x81, 0xFE, size)
        )  # fmt: skip
        self.transport.write(head + b"\0\0\0\0" + text)  # masked with zeros

    async def ask(self, event: str, payload: Any) -> bytes:
        self.number += 1
        self.waiter = asyncio.get_running_loop().create_future()
        self.write(
            b'{"type":"%b","id":%d,"data":%b}'
            % (event.encode(), self.number, orjson.dumps(payload))
        )
        answer = await self.waiter
        if self.greeting and self.seq - self.acked >= ACK_EVERY:
            self.acked = self.seq
            self.write(b'{"type":"gr:ack","data":{"seq":%d}}' % self.seq)
        return answer

    def check(self, payload: int) -> None:
        """The last answer told that the state's ``n`` is ``payload`` now."""
        frame = json.loads(self.last)
        if not self.greeting:
            assert frame["data"] == {"n": payload}, frame
            return
        frames = frame["data"]  # a ping may have come between
        if frame["type"] != "gr:batch":  # two messages in one write
            frames = [json.loads(self.patch), frame]
        told = {part["type"]: part["data"] for part in frames}
        assert told["gr:state"] == {"=": {"/n": payload}}, frame
        assert told["gr:result"] is None, frame


async def clients(
    server: Server, count: int, *, greeting: bool, kind: type[Client] = Client
) -> list[Client]:
    """Connect, and wait until everybody may speak."""
    loop = asyncio.get_running_loop()
    made: list[Client] = []
    for _ in range(count):
        _, client = await loop.create_connection(lambda: kind(greeting), "127.0.0.1", server.port)
        await client.waiter
        made.append(client)
    return made
