"""uvicorn's two protocols, with an end to their patience: where ours is the server.

uvicorn waits for ever for the head of a request, for a client to read its response, and for one to
read what is left at a close; it answers every ping into a buffer that nobody may be reading, and
keeps an object for each fragment of a message. Each of these costs a stranger one socket and us
memory without bounds. Here they end:

- A head is complete ``HEAD_TIME`` seconds after its first byte (of a connection: after it was
  made), or the answer is 408.
- A socket that is to take something and takes nothing between two looks, ``LOOK`` seconds apart,
  is aborted: while its buffer is full, and while it is being closed.
- A WebSocket that is over has CLOSE_GRACE to take its close.
- When the server goes, a client that has all it asked for is waited for FAREWELL seconds. Over TLS
  it would be asked for a goodbye first, which browsers do not say.
- Pongs are not added to a buffer that is full. A message in fragments is one buffer.

Owner: the loop. Cut in the middle: the timers end with the connection, whoever ended it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.frames import Frame

from .base import CLOSE_GRACE, ROOM
from .uvicorn_frames import FrameProtocol

__all__ = ["HEAD_TIME", "LOOK", "Http", "WebSocket"]

HEAD_TIME: Final = 10.0  #: seconds for a TLS handshake, and for the head of a request
LOOK: Final = 10.0
FAREWELL: Final = 0.2

_LATE: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Watch:
    """Aborts a transport that is to take something and does not."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._left: int | None = None  # to be taken, at the last look, and nothing taken since
        self._full = False
        self._timer = loop.call_later(LOOK, self._look)

    def pause(self) -> None:
        """The buffer is full."""
        self._full = True

    def resume(self) -> None:
        """Much was taken. What fills the buffer again is new, and may be more than there was."""
        self._full = False
        self._left = None

    def _look(self) -> None:
        transport = self._transport
        size = transport.get_write_buffer_size()
        if not size or not (self._full or transport.is_closing()):
            self._left = None
        elif self._left is not None and size >= self._left:
            transport.abort()
            return
        else:
            self._left = size
        self._timer = self._loop.call_later(LOOK, self._look)

    def end(self) -> None:
        self._timer.cancel()


class Http(H11Protocol):
    """HTTP/1.1 for clients that may never come to the point."""

    _watch: _Watch
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch = _Watch(transport, self.loop)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: Any = self.cycle  # None before the first request
        if self.transport.get_protocol() is not self:  # it is a WebSocket now
            self._end()
        elif cycle is not None and not cycle.response_complete:
            self._waited()
        elif self._late is None and not self.transport.is_closing():
            self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._waited()  # the next request may take its time to begin, which uvicorn limits

    def send_400_response(self, msg: str) -> None:
        """What came cannot be read on: whoever was answering has nobody to answer any more.

        uvicorn would let the application write into a connection that is over, and log how that
        fails: a traceback for every stranger who wants one.
        """
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:  # there is no second answer
                self.transport.close()
                return
        super().send_400_response(msg)

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self._waited()
            self._late = self.loop.call_later(FAREWELL, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._late = self.loop.call_later(HEAD_TIME, self._too_late)

    def _waited(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.write(_LATE)
            self.transport.close()

    def _end(self) -> None:
        self._waited()
        self._watch.end()


class WebSocket(FrameProtocol):
    """A WebSocket for clients that may send pings, fragments and nothing else, and never read."""

    _watch: _Watch
    _over: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._watch = _Watch(self.transport, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.end()
        if self._over is not None:
            self._over.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch.resume()

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > ROOM:
            self.conn.data_to_send()  # the pong: a peer that does not read has no use for it
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        parts: list[Any] = self.frames
        if not isinstance(parts[0], bytearray):
            parts[0] = bytearray(parts[0])
        parts[0] += event.data
        if event.fin:
            parts[0] = bytes(parts[0])
            self.send_receive_event_to_app()

    async def run_asgi(self) -> None:
        try:
            await super().run_asgi()
        finally:
            if not self.disconnected:
                self._over = self.loop.call_later(CLOSE_GRACE, self.transport.abort)
