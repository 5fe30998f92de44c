"""A line of bytes in memory between a real app and a real client, cut wherever a test wants.

Nothing moves by itself: :meth:`ByteLine.up` and :meth:`ByteLine.down` carry so many bytes towards
the app and the client, and a frame is delivered with its last byte. So a story is what its test
says, byte by byte. A frame is a line of text, as on a pipe.

A real line can be cut for one side before the other hears of it. :meth:`ByteLine.cut` tells both,
:meth:`ByteLine.drop` only the client; the app hears of it by :meth:`ByteLine.lapse`, and until then
what was on its way may still arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.visitor import Visitor

from greenroom import App
from greenroom.adapters.base import ROOM
from greenroom.core.types import Packet


class ByteLine:
    """One transport of an app, and the client at its other end."""

    def __init__(self, app: App, visitor: Visitor | None, **options: Any) -> None:
        self.visitor = visitor
        self.upward = bytearray()
        self.downward = bytearray()
        self.carried_up = 0
        self.carried_down = 0
        self.gone = False  # for the app
        self.closing: tuple[int, str] | None = None
        self._up = bytearray()
        self._down = bytearray()
        self._full = False
        self.frames: list[bytes] = []  # what arrived where there is no visitor
        self.connection = app.connect(self, **options)
        if visitor is not None:
            visitor.hang_up = self.hung_up
            visitor.opened()
            self.pump()

    # -- the app's transport ------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        return len(self.downward)

    def send(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            assert not packet.buffers
            assert b"\n" not in packet.data
            self.downward += packet.data + b"\n"
        self._full = self._full or len(self.downward) > ROOM

    def close(self, code: int, reason: str) -> None:
        self.closing = self.closing or (code, reason)
        if not self.downward:
            self._finish()

    # -- moving bytes -------------------------------------------------------------------------

    def pump(self) -> None:
        """Take what the client has to say."""
        if self.visitor is not None and self.visitor.connected:
            for packet in self.visitor.link.take():
                self.upward += packet.data + b"\n"

    def up(self, count: int | None = None) -> int:
        """Carry bytes towards the app; all there are by default."""
        part = bytes(self.upward[:count])
        del self.upward[: len(part)]
        self.carried_up += len(part)
        self._up += part
        while (end := self._up.find(b"\n")) >= 0:
            frame = bytes(self._up[:end])
            del self._up[: end + 1]
            if not self.gone and self.closing is None:
                self.connection.receive(Packet(frame))
        return len(part)

    def down(self, count: int | None = None) -> int:
        """Carry bytes towards the client; all there are by default."""
        part = bytes(self.downward[:count])
        del self.downward[: len(part)]
        self.carried_down += len(part)
        self._down += part
        while (end := self._down.find(b"\n")) >= 0:
            frame = bytes(self._down[:end])
            del self._down[: end + 1]
            if self.visitor is None:
                self.frames.append(frame)
            elif self.visitor.connected:
                self.visitor.received(Packet(frame))
        self.pump()
        if self._full and len(self.downward) <= ROOM and not self.gone:
            self._full = False
            self.connection.drained()
        if self.closing is not None and not self.downward:
            self._finish()
        return len(part)

    @property
    def quiet(self) -> bool:
        return not self.upward and not self.downward

    # -- ends ---------------------------------------------------------------------------------

    def cut(self) -> None:
        """Both sides hear of the end; what was on its way is lost."""
        self.drop()
        self.lapse()

    def drop(self, code: int = 1006) -> None:
        """Only the client hears of it. What it sent may still arrive (:meth:`up`)."""
        self.downward.clear()
        visitor, self.visitor = self.visitor, None
        if visitor is not None:
            visitor.ended(code)

    def lapse(self) -> None:
        """The app hears of it."""
        if not self.gone:
            self.gone = True
            self.upward.clear()
            self.connection.eof()

    def hung_up(self) -> None:
        """The client closed the transport: what it said before still arrives."""
        visitor, self.visitor = self.visitor, None
        if visitor is not None:
            for packet in visitor.link.take():
                self.upward += packet.data + b"\n"
        self.up()
        self.lapse()

    def _finish(self) -> None:
        assert self.closing is not None
        if not self.gone:
            self.lapse()
            self.drop(self.closing[0])
