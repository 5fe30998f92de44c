"""One WebSocket of an ASGI server, as a transport: the app's side is sync, the server's side async.

Owner: the loop that the server calls us on, which is the app's. One connection is two tasks: the
server's, which reads, and one of ours, which writes. A turn never waits for a socket: when nothing
is waiting to be written the server's ``send`` takes its first step at once, with the writer as the
current task, and nearly always that step is all; when ``send`` suspends the writer goes on with
it, and packets that come meanwhile wait in the queue of a :class:`Socket`.

What servers do differently, and what is done about it, once and for all of them: an exception
after accept cuts the connection without a close frame on some, so we always close ourselves and
return; ``send`` blocks while a client does not read, and so does ``close``, so a writer that makes
no progress is abandoned by cancelling it and returning; what is buffered below us cannot be seen,
so our own queue is the bound; ``send`` to a client that has gone raises one thing or another, or
nothing, so any exception is the end; the close code in ``disconnect`` is not to be relied on and
not looked at; messages carry ``text``, ``bytes``, or both with one of them None; a message may
be as large as the server's own limit, so we check ours.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage]
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, MutableMapping, Sequence
from contextvars import copy_context
from types import CoroutineType, coroutine
from typing import Any, Final, TypeGuard

from ..core.packet import decode_binary, encode_binary
from ..core.types import Packet
from .base import CLOSE_GRACE, ROOM, Connection, legal_close, packet_size

__all__ = ["Message", "Receive", "Scope", "Send", "Socket"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

logger = logging.getLogger("greenroom.asgi")

new_packet: Callable[..., Packet] = getattr(tuple, "__new__")  # noqa: B009  # Packet(...) without a Python call
NOT_JSON: Final = Packet(b"")  # stands for a message that is no packet; the link refuses it


class Socket:
    """The transport of one WebSocket.

    ``send`` and ``close`` only note and wake; ``_write`` is the one place that awaits the server.
    Cut in the middle: whatever ends first (the reader by a disconnect, the writer by an error or
    after the close, the timer because nothing moves), :meth:`run` returns once and for all.
    """

    __slots__ = (
        "_abandoned",
        "_close",
        "_connection",
        "_context",
        "_ended",
        "_failure",
        "_full",
        "_loop",
        "_queue",
        "_reader",
        "_rest",
        "_rest_size",
        "_seen",
        "_send",
        "_stall",
        "_timer",
        "_wake",
        "_writer",
        "_writing",
        "_written",
        "buffered",
        "over",
    )

    def __init__(self, stall: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall = stall  # seconds without progress after which a client is given up
        self._queue: deque[Packet] = deque()
        self.buffered = 0
        self._full = False  # the app hands over nothing more until it hears `drained`
        self._close: tuple[int, str] | None = None
        self._wake: asyncio.Future[None] | None = None  # the idle writer waits for it
        self._writing = False  # somebody is inside the server's send
        self._rest: Awaitable[None] | None = None  # a send that was begun, for the writer
        self._rest_size = 0
        self._failure: Exception | None = None  # what such a send raised in its first step
        self._context = copy_context()  # the writer's
        self._written = 0  # messages, to see progress
        self._seen = -1
        self._timer: asyncio.TimerHandle | None = None
        self._abandoned = False
        self._ended = False
        self._reader: asyncio.Task[Any] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._send: Send | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()

    # -- the app's side -----------------------------------------------------------------------

    def send(self, packets: Sequence[Packet]) -> None:
        if self._close is not None or self._abandoned:
            return
        wake = self._wake
        if wake is not None and len(packets) == 1:
            data, buffers = packets[0]
            if not buffers and self._step(data.decode(), wake):
                return
        self._queue.extend(packets)
        for packet in packets:
            self.buffered += packet_size(packet) if packet[1] else len(packet[0])
        if self.buffered > ROOM:
            self._full = True
        if wake is not None:
            self._wake = None
            wake.set_result(None)
        elif self._writing and self._timer is None:
            self._watch(self._stall)

    def _step(self, text: str, wake: asyncio.Future[None]) -> bool:
        """Write a message while the writer has nothing to do; it goes on if that takes longer.

        False: not now, because some task is running.
        """
        loop, writer, send = self._loop, self._writer, self._send
        assert send is not None
        assert writer is not None
        try:
            _enter_task(loop, writer)
        except RuntimeError:
            return False
        try:
            sending: Any = send({"type": "websocket.send", "text": text})
            if _is_coroutine(sending):
                sending = _ride(sending, self._context.run(sending.send, None))
        except StopIteration:
            self._written += 1
            return True
        except Exception as error:  # noqa: BLE001 -- the writer judges it
            self._failure = error
        else:
            self._rest = sending
            self._rest_size = len(text)
            self.buffered += self._rest_size
            self._full = self.buffered > ROOM
            self._writing = True
        finally:
            _leave_task(loop, writer)
        self._wake = None
        wake.set_result(None)
        return True

    def close(self, code: int, reason: str) -> None:
        if self._close is not None or self._abandoned:
            return
        self._close = legal_close(code, reason)
        if self._wake is not None:
            self._wake.set_result(None)
            self._wake = None
        self._watch(CLOSE_GRACE)

    # -- the server's side --------------------------------------------------------------------

    async def run(self, connection: Connection, receive: Receive, send: Send, limit: int) -> None:
        """Accept, then read until the end."""
        self._connection = connection
        try:
            await send({"type": "websocket.accept"})
        except Exception:  # noqa: BLE001 -- whatever a server raises here: there is no client
            self._abandoned = True
            return
        self._send = send
        task = self._reader = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        writer = self._writer = self._loop.create_task(self._write(), context=self._context)
        try:
            await self._read(receive, limit)
        except asyncio.CancelledError:
            if not self._abandoned or task.uncancel() > before:
                raise
        finally:
            self._abandoned = True
            self._reader = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not writer.done():
                writer.cancel()
                await asyncio.wait([writer], timeout=CLOSE_GRACE)

    async def _read(self, receive: Receive, limit: int) -> None:
        connection = self._connection
        assert connection is not None
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            if self._close is not None:
                continue  # thrown away: a reset could overtake the close
            text = message.get("text")
            if text is not None:
                data = text.encode("utf-8", "surrogatepass")
                size = len(data)
                packet = new_packet(Packet, (data, ()))
            else:
                raw = message.get("bytes") or b""
                size = len(raw)
                try:
                    packet = self.decode(raw)
                except ValueError:
                    packet = NOT_JSON
            if limit and size > limit:
                connection.refuse("too_large", f"a frame is larger than {limit} bytes")
            else:
                connection.receive(packet)

    async def _write(self) -> None:
        send, queue = self._send, self._queue
        connection = self._connection
        assert send is not None
        assert connection is not None
        try:
            while True:
                while queue:
                    packet = queue.popleft()
                    data, buffers = packet
                    self._writing = True
                    if buffers:
                        await send({"type": "websocket.send", "bytes": self.encode(packet)})
                        self.buffered -= packet_size(packet)
                    else:
                        await send({"type": "websocket.send", "text": data.decode()})
                        self.buffered -= len(data)
                    self._writing = False
                    self._written += 1
                    self._room(connection)
                if self._close is not None:
                    break
                self._wake = self._loop.create_future()
                await self._wake
                if self._failure is not None:
                    raise self._failure
                rest, self._rest = self._rest, None
                if rest is not None:
                    await rest
                    self.buffered -= self._rest_size
                    self._writing = False
                    self._written += 1
                    self._room(connection)
            code, reason = self._close
            await send({"type": "websocket.close", "code": code, "reason": reason})
            self._written += 1  # from here on the client has CLOSE_GRACE to answer
        except Exception as error:  # noqa: BLE001 -- every server has its own; all say "gone"
            logger.debug("a WebSocket ended while it was written to: %r", error)
            self._abandon()

    def _room(self, connection: Connection) -> None:
        if self._full and self.buffered <= ROOM:
            self._full = False
            connection.drained()

    @staticmethod
    def decode(message: bytes) -> Packet:
        """A binary message as a packet. An echo that stands in for the app has its own form."""
        return decode_binary(message)

    @staticmethod
    def encode(packet: Packet) -> bytes:
        """The reverse of :meth:`decode`."""
        return encode_binary(packet)

    # -- time ---------------------------------------------------------------------------------

    def _watch(self, seconds: float) -> None:
        """Look in a while whether anything has moved."""
        if self._timer is not None:
            self._timer.cancel()
        self._seen = self._written
        self._timer = self._loop.call_later(seconds, self._look, seconds)

    def _look(self, seconds: float) -> None:
        self._timer = None
        if not self._writing and self._close is None:
            return
        if self._written != self._seen:
            self._watch(seconds)
        else:
            self._abandon()

    def _abandon(self) -> None:
        """Give the client up: the app hears of it, and :meth:`run` returns."""
        if not self._abandoned:
            self._abandoned = True
            self._queue.clear()
            self.buffered = 0
            if self._connection is not None:
                self.end(self._connection)
            if self._reader is not None:
                self._reader.cancel()

    def let_go(self) -> None:
        """Hold neither the app's side nor the server's any more: they hold this one."""
        self._connection = self._send = self._writer = None
        self._failure = None  # its traceback holds frames of ours, and those hold us

    def end(self, connection: Connection) -> None:
        """Tell the app, once, that nothing moves any more."""
        if not self._ended:
            self._ended = True
            connection.eof()


def _is_coroutine(value: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    return type(value) is CoroutineType


@coroutine
def _ride(coro: Coroutine[Any, Any, None], waits: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that has taken its first step, and waits for ``waits``."""
    try:
        while True:
            try:
                sent = yield waits
            except BaseException as error:  # noqa: BLE001 -- it is the coroutine's to judge
                waits = coro.throw(error)
            else:
                waits = coro.send(sent)
    except StopIteration:
        pass
