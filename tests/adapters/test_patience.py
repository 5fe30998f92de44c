"""uvicorn's protocols, held to an end: sockets that take nothing, and bodies that make no sense."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

import greenroom as gr
from greenroom.adapters import websocket
from greenroom.adapters.patience import _Watch  # pyright: ignore[reportPrivateUsage]
from greenroom.adapters.wire import Wire


class Loop:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.due: list[Timer] = []

    def call_later(self, _seconds: float, fn: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(self, fn, args)
        self.due.append(timer)
        return timer

    def pass_time(self) -> None:
        """Everything that was asked for comes due."""
        due, self.due = self.due, []
        for timer in due:
            timer.fn(*timer.args)


class Timer:
    def __init__(self, loop: Loop, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.loop, self.fn, self.args = loop, fn, args

    def cancel(self) -> None:
        if self in self.loop.due:
            self.loop.due.remove(self)


class Transport:
    """A socket with so much in its buffer."""

    def __init__(self) -> None:
        self.size = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


def test_pages_and_files_a_slow_reader_is_left_alone() -> None:
    loop, transport = Loop(), Transport()
    watch = _Watch(transport, loop)  # type: ignore[arg-type]
    for size in (100, 200, 300, 300, 400):  # full at every look, and emptied in between
        transport.size = size
        watch.pause()
        loop.pass_time()
        assert not transport.aborted
        watch.resume()
    watch.pause()
    for size in (400, 300, 200):  # it reads, though never enough for more to be written
        transport.size = size
        loop.pass_time()
        assert not transport.aborted
    loop.pass_time()
    assert transport.aborted


def test_websocket_a_slow_reader_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    monkeypatch.setattr(
        asyncio, "get_running_loop", lambda: loop
    )  # of the wire only: nothing here waits
    monkeypatch.setattr(loop, "create_future", lambda: None, raising=False)
    wire, transport = Wire(0, 5.0), Transport()
    wire._transport = transport  # pyright: ignore[reportPrivateUsage]
    wire._size = transport.get_write_buffer_size  # pyright: ignore[reportPrivateUsage]
    for size in (100, 200, 300):
        transport.size = size * 1024
        wire.pause_writing()  # full; and at once emptied, and full again
        transport.size = 0
        wire.resume_writing()
        transport.size = (size + 50) * 1024
        wire.pause_writing()
        transport.size -= 1  # it takes a little
        loop.pass_time()
        assert not transport.aborted
        transport.size = 0
        wire.resume_writing()
        loop.pass_time()
    transport.size = 100 * 1024
    wire.pause_writing()
    loop.pass_time()
    assert transport.aborted


def test_a_body_that_makes_no_sense_is_400_and_no_traceback(
    caplog: pytest.LogCaptureFixture, arun: Callable[..., None]
) -> None:
    async def story() -> None:
        async with websocket.Server(gr.App(), port=0) as server:
            head = (
                f"POST /file/x HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                "Transfer-Encoding: chunked\r\n\r\n"
            ).encode()
            # At once, so that the application has not answered yet; and after it has begun to.
            for status, pieces in {400: [head + b"zz\r\n"], 404: [head, b"zz\r\n"]}.items():
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                answer = b""
                for piece in pieces:
                    writer.write(piece)
                    if len(pieces) > 1 and not answer:
                        answer = await reader.readuntil(b"\r\n\r\n")
                answer += await reader.read()
                assert answer.startswith(f"HTTP/1.1 {status} ".encode())
                writer.close()
                await writer.wait_closed()

    with caplog.at_level(logging.WARNING):
        arun(story)
    assert not [record.getMessage() for record in caplog.records if record.exc_info]
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]
