"""The checks find what they look for: adapters that break one rule each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from greenroom.adapters import base, memory
from greenroom.core.errors import Busy
from greenroom.core.types import Packet
from greenroom.testing import adapter_conformance
from greenroom.testing import conformance as c


class Peer:
    def __init__(self, line: memory.Line) -> None:
        self.line = line
        line.stall()

    async def send(self, packet: Packet) -> None:
        self.line.send(packet)

    async def receive(self) -> Packet:
        self.line.resume()
        try:
            return await self.line.receive()
        except EOFError:
            raise c.Gone(*(self.line.ended or ())) from None

    async def close(self) -> None:
        self.line.close()

    async def cut(self) -> None:
        self.line.cut()


class Harness:
    """Memory, with a fault built into the line."""

    codes = True

    def __init__(self, fault: Callable[[memory.Line], None] = lambda line: None) -> None:
        self.fault = fault

    @asynccontextmanager
    async def serve(self, host: c.RecordingHost) -> AsyncGenerator[Callable[[], Awaitable[Peer]]]:
        async def connect() -> Peer:
            try:
                line = memory.connect(host)
            except Busy as error:
                raise c.Gone(None, str(error)) from None
            self.fault(line)
            return Peer(line)

        yield connect


def test_a_good_adapter_passes(arun: Callable[..., Any]) -> None:
    arun(lambda: adapter_conformance(Harness()))


def reversed_order(line: memory.Line) -> None:
    sent = line.sent
    line.sent = lambda packets: sent(packets[::-1])  # type: ignore[method-assign]


def deaf_to_the_end(line: memory.Line) -> None:
    class Deaf:
        closed = False
        receive = line.connection and line.connection.receive
        drained = line.connection and line.connection.drained

        def eof(self) -> None: ...

    line.connection = Deaf()  # type: ignore[assignment]


def ends_twice(line: memory.Line) -> None:
    connection = line.connection
    assert connection is not None
    eof = connection.eof
    connection.eof = lambda: (eof(), eof())  # type: ignore[method-assign,assignment]


def never_drained(line: memory.Line) -> None:
    assert line.connection is not None
    line.connection.drained = lambda: None  # type: ignore[method-assign]


def close_overtakes(line: memory.Line) -> None:
    line.closing = lambda code, reason: line._end(memory.Ended(code, reason))  # type: ignore[method-assign]


def any_size(line: memory.Line) -> None:
    line.host = c.RecordingHost()


def loses_buffers(line: memory.Line) -> None:
    sent = line.sent

    def lose(packets: Sequence[Packet]) -> None:
        sent([Packet(p.data) for p in packets])

    line.sent = lose  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fault", "found_by"),
    [
        (reversed_order, c.packets_leave_whole_and_in_order),
        (loses_buffers, c.packets_leave_whole_and_in_order),
        (close_overtakes, c.a_close_comes_after_what_was_sent),
        (deaf_to_the_end, c.the_end_is_told_once),
        (ends_twice, c.the_end_is_told_once),
        (never_drained, c.a_stalled_reader_costs_a_bounded_queue_and_gets_it_all),
        (any_size, c.a_packet_above_the_limit_ends_it),
    ],
    ids=lambda value: value.__name__,
)
def test_a_fault_is_found(
    fault: Callable[[memory.Line], None],
    found_by: c.Check,
    monkeypatch: pytest.MonkeyPatch,
    arun: Callable[..., Any],
) -> None:
    monkeypatch.setattr(c, "PATIENCE", 0.05)

    async def story() -> None:
        with pytest.raises((AssertionError, TimeoutError, c.Gone)):
            await found_by(Harness(fault))
        await asyncio.sleep(0)

    arun(story)


def test_all_failures_are_named(monkeypatch: pytest.MonkeyPatch, arun: Callable[..., Any]) -> None:
    monkeypatch.setattr(c, "PATIENCE", 0.05)

    async def story() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await adapter_conformance(Harness(loses_buffers))
        (failure,) = caught.value.exceptions
        assert "packets_leave_whole_and_in_order" in failure.__notes__[0]

    arun(story)


def test_room_is_the_apps_too() -> None:
    from greenroom.core._route import TRANSPORT_ROOM

    assert base.ROOM == TRANSPORT_ROOM
