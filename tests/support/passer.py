"""Somebody who passes by: a blocking WebSocket client of the bare minimum, a page load, a knock.

They keep nothing and make no garbage, so that thousands of visits measure the server alone.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections import deque
from collections.abc import Generator
from typing import Any

HELLO = {"protocol": 1, "token": None, "link": None, "seq": 0, "label": "main", "binary": False}
PATIENCE = 30.0


@contextlib.contextmanager
def knock(port: int) -> Generator[socket.socket]:
    """A TCP connection that says nothing by itself."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield line


def load(line: socket.socket, port: int, path: str) -> int:
    """Fetch a page over a line that stays open; the status."""
    line.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(line)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    left = next((int(each[15:]) for each in lines if each.startswith(b"content-length:")), 0)
    left -= len(body)
    while left > 0:
        left -= len(_some(line))
    return int(head.split(b" ", 2)[1])


class Passer:
    """A WebSocket that has been opened and has said nothing yet."""

    def __init__(self, line: socket.socket, port: int) -> None:
        self._line = line
        self._data = b""
        self._frames: deque[Any] = deque()
        self._sent = 0
        line.sendall(
            f"GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._data:
            self._data += _some(line)
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        assert b" 101 " in head, head

    def hello(self) -> None:
        """Say hello; returns when the state is here."""
        self._send({"type": "gr:hello", "data": HELLO})
        while self._next()["type"] != "gr:snapshot":
            pass

    def call(self, event: str, data: Any = None) -> Any:
        """Send an event; its result, or the data of its error."""
        self._sent += 1
        self._send({"type": event, "id": self._sent, "data": data})
        while True:
            frame = self._next()
            if frame.get("id") == self._sent:
                return frame["data"]

    def close(self) -> None:
        """Say goodbye as browsers do, and wait for the answer."""
        self._line.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        with contextlib.suppress(EOFError):
            while True:
                self._message()

    def _send(self, frame: dict[str, Any]) -> None:
        data = json.dumps(frame).encode()
        size = len(data)
        length = bytes([128 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
        self._line.sendall(b"\x81" + length + b"\0\0\0\0" + data)  # masked with zeros

    def _next(self) -> Any:
        while not self._frames:
            frame = json.loads(self._message())
            self._frames.extend(frame["data"] if frame["type"] == "gr:batch" else [frame])
        return self._frames.popleft()

    def _message(self) -> bytes:
        while True:
            opcode, data = self._frame()
            if opcode == 8:
                raise EOFError(f"the server closed: {data!r}")
            if opcode in (1, 2):
                return data

    def _frame(self) -> tuple[int, bytes]:
        head = self._take(2)
        size = head[1] & 127
        if size == 126:
            (size,) = struct.unpack(">H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._take(8))
        return head[0] & 15, self._take(size)

    def _take(self, count: int) -> bytes:
        while len(self._data) < count:
            self._data += _some(self._line)
        taken, self._data = self._data[:count], self._data[count:]
        return taken


def _some(line: socket.socket) -> bytes:
    data = line.recv(65536)
    if not data:
        raise EOFError("the server ended the connection")
    return data
