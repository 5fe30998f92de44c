"""A real client on a raw socket, that reads only when it is told to: a reader that can stall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.hostile import CLOSE, TEXT, Gone, Hostile, ws_frame
from tests.support.visitor import Visitor

from greenroom.core.types import Packet

__all__ = ["Reader"]


class Reader:
    """A :class:`Visitor` and its socket."""

    def __init__(self, port: int, visitor: Visitor, *, receive_buffer: int = 4096) -> None:
        self.port = port
        self.visitor = visitor
        self.connections = 0
        self._receive_buffer = receive_buffer
        self._sock: Hostile | None = None

    async def connect(self) -> None:
        """Dial, and read until welcome; not a byte more."""
        self._sock = await Hostile.upgrade(self.port, receive_buffer=self._receive_buffer)
        self.connections += 1
        self.visitor.opened()
        await self.say()
        while not self.visitor.live:
            await self.read()

    async def say(self) -> None:
        """Send what the client has to say."""
        packets = self.visitor.link.take()
        if packets and self._sock is not None:
            await self._sock.write(b"".join(ws_frame(packet.data) for packet in packets))

    async def read(self) -> None:
        """Read one message."""
        assert self._sock is not None
        opcode, payload = await self._sock.message()
        if opcode == CLOSE:
            raise Gone(int.from_bytes(payload[:2], "big"))
        if opcode == TEXT:
            self.visitor.received(Packet(payload))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Read, answer, and come back when cut off, until something is so."""
        while not condition():
            try:
                if self._sock is None:
                    await self.connect()
                await self.read()
                await self.say()
            except (Gone, OSError) as gone:
                self.cut(gone.args[0] if isinstance(gone, Gone) and gone.args else 1006)
                assert not self.visitor.over, self.visitor.closes

    def cut(self, code: int = 1006) -> None:
        if self._sock is not None:
            self._sock.cut()
            self._sock = None
            self.visitor.ended(code)
