"""The memory adapter: the contract, and what networks do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from greenroom.adapters import memory
from greenroom.adapters.base import ROOM
from greenroom.core.errors import Busy, Closed
from greenroom.core.types import Packet
from greenroom.testing.conformance import CHECKS, Check, Gone, RecordingHost, frame

Arun = Callable[..., Any]


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
            assert self.line.ended is not None
            raise Gone(*self.line.ended) from None

    async def close(self) -> None:
        self.line.close()

    async def cut(self) -> None:
        self.line.cut()


class Harness:
    codes = True

    @asynccontextmanager
    async def serve(self, host: RecordingHost) -> AsyncGenerator[Callable[[], Awaitable[Peer]]]:
        async def connect() -> Peer:
            try:
                return Peer(memory.connect(host))
            except (Busy, Closed) as error:
                raise Gone(None, str(error)) from None

        yield connect


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract(check: Check, arun: Arun) -> None:
    arun(lambda: check(Harness()))


def test_nothing_is_delivered_inside_the_call_that_sent_it(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        line = memory.connect(host)
        line.send(b"1", b"2")
        host.connections[0].transport.send([Packet(b"3")])
        assert not host.connections[0].received
        assert not line.arrived
        await line.settled()
        assert [p.data for p in host.connections[0].received] == [b"1", b"2"]
        assert [p.data for p in line.take()] == [b"3"]
        assert line.take() == []

    arun(story)


def test_single_delivers_one_packet_in_each_callback(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        line = memory.connect(host)
        line.single = True
        line.send(b"1", b"2", b"3")
        seen = []
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(len(host.connections[0].received))
        assert seen == [1, 2, 3]

    arun(story)


def test_a_cut_loses_what_is_on_its_way(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        line = memory.connect(host)
        ends: list[memory.Ended] = []
        line.on_end = ends.append
        line.send(b"1")
        host.connections[0].transport.send([Packet(b"2")])
        line.cut()
        await asyncio.sleep(0)
        assert not host.connections[0].received
        assert host.connections[0].ends == 1
        with pytest.raises(EOFError, match="1006"):
            await line.receive()
        line.cut()
        line.close()
        line.send(b"3")
        assert ends == [(1006, "")]
        assert line.transport.buffered == 0

    arun(story)


@pytest.mark.parametrize(("size", "arrives"), [(0, 0), (2, 0), (3, 1), (7, 2), (8, 2), (9, 3)])
def test_cut_after_bytes_delivers_only_what_fits_whole(size: int, arrives: int, arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        line = memory.connect(host)
        line.cut_after(size)
        host.connections[0].transport.send([Packet(b"one"), Packet(b"two"), Packet(b"end")])
        await line.settled()
        assert len(line.take()) == arrives
        assert line.over == (arrives < 3)

        line = memory.connect(host)
        line.cut_after(size, "app")
        line.send(b"one", b"two", b"end")
        await line.settled()
        assert len(host.connections[1].received) == arrives

    arun(story)


def test_a_stalled_line_tells_when_it_drains(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        line = memory.connect(host)
        connection = host.connections[0]
        line.stall()
        connection.transport.send([frame(1, ROOM)])
        connection.transport.send([frame(2, ROOM)])
        await line.settled()
        assert connection.transport.buffered > 2 * ROOM
        assert not line.arrived
        line.resume()
        await line.settled()
        assert connection.drains == 1
        assert connection.transport.buffered == 0
        assert line.take() == [frame(1, ROOM), frame(2, ROOM)]

    arun(story)


def test_a_packet_handler_takes_the_place_of_the_queue(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        line = memory.connect(host)
        seen: list[Packet] = []
        line.on_packet = seen.append
        host.connections[0].transport.send([Packet(b"1")])
        await line.settled()
        assert seen == [Packet(b"1")]
        assert not line.arrived

    arun(story)


def test_facts_reach_the_app(arun: Arun) -> None:
    async def story() -> None:
        host = RecordingHost()
        memory.connect(host, headers={"a": "b"}, peer="1.2.3.4", binding="x")
        assert host.connections[0].facts == {
            "headers": {"a": "b"},
            "cookies": None,
            "userinfo": None,
            "peer": "1.2.3.4",
            "binding": "x",
            "profile": None,
        }

    arun(story)
