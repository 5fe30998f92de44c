"""Turns of sessions with a client: what framing adds. Against the same deque as turns without."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

import greenroom as gr
from greenroom.adapters import memory
from greenroom.core._turn import Message
from greenroom.core.types import Lane, Packet

from ..harness import Bench, Measure, clock
from .stage import hello, linked, make_app, settled
from .turns import BURST, assign, assign_async, deque_drained


async def run(bench: Bench) -> None:
    async with make_app(state={"n": -1}, handlers=[assign, assign_async]) as app:
        base = deque_drained(bench)
        against = "a deque drained by one callback"
        await bench.compare(
            "post + inline turn, one link, patch and result framed", base,
            await framed(bench, app), bar=12.0, against=against,
        )  # fmt: skip
        for event in ("assign", "assign_async"):
            await bench.compare(
                f"a client's packet to {event}, its patch and result framed", base,
                await packets(bench, app, event), bar=None, against=against,
            )  # fmt: skip
        await bench.compare(
            "the same through the memory adapter, both ways", base,
            await lines(bench, app), bar=None, against=against,
        )  # fmt: skip
        await bench.compare(
            "a client's packet to its framed answer", codec(bench),
            await packets(bench, app, "assign"), bar=None,
            against="orjson.loads, a call and two orjson.dumps",
        )  # fmt: skip


def codec(bench: Bench) -> Measure:
    """What any server with JSON does for an event: decode, call, encode the answer."""
    count = bench.loops(5_000)
    state: dict[str, int] = {}

    def store(state: dict[str, int], payload: int) -> None:
        state["n"] = payload

    def measure() -> float:
        texts = [
            orjson.dumps({"type": "assign", "id": number, "data": number})
            for number in range(count)
        ]
        answer = b""
        start = clock()
        for text in texts:
            frame = orjson.loads(text)
            store(state, frame["data"])
            number = frame["id"]
            answer = orjson.dumps(
                {"type": "gr:state", "seq": 2 * number, "data": {"=": {"/n": state["n"]}}}
            )
            orjson.dumps({"type": "gr:result", "seq": 2 * number + 1, "id": number, "data": None})
        spent = clock() - start
        assert orjson.loads(answer)["data"] == {"=": {"/n": count - 1}}
        return spent / count

    return measure


def ack(seq: int) -> Packet:
    return Packet(b'{"type":"gr:ack","data":{"seq":%d}}' % seq)


def check(last: Packet, count: int) -> None:
    """The last packet is the patch and the result of event number ``count``."""
    frame = orjson.loads(last.data)
    assert frame["type"] == "gr:result", frame
    assert frame["id"] == count, (frame, count)


async def framed(bench: Bench, app: gr.App) -> Measure:
    """Posted as the dispatch does, an id consumed each; the transport counts. One ack a burst."""
    count = max(1, bench.loops(5_000) // BURST)
    session, sink, connection = await linked(app)
    handlers = session.resolve("assign", "main")
    number = 0

    async def measure() -> float:
        nonlocal number
        link: Any = connection.link
        before = sink.packets
        start = clock()
        for _ in range(count):
            for _ in range(BURST):
                number += 1
                link.accept(number)
                session.post(
                    Message("assign", number, handlers, lane=Lane.INTERACTIVE, link=link, id=number)
                )
            await settled(app)
            connection.receive(ack(link.seq))
        spent = clock() - start
        assert sink.packets - before == 2 * count * BURST
        check(sink.last[-1], number)
        assert session.state["n"] == number
        return spent / (count * BURST)

    return measure


async def packets(bench: Bench, app: gr.App, event: str) -> Measure:
    """From the bytes of a client's frame to the bytes of its patch and result."""
    count = max(1, bench.loops(5_000) // BURST)
    session, sink, connection = await linked(app)
    number = 0

    async def measure() -> float:
        nonlocal number
        link: Any = connection.link
        before = sink.packets
        texts = [
            b'{"type":"%b","id":%d,"data":%d}' % (event.encode(), n, n)
            for n in range(number + 1, number + 1 + count * BURST)
        ]
        number += len(texts)
        start = clock()
        for begin in range(0, len(texts), BURST):
            for text in texts[begin : begin + BURST]:
                connection.receive(Packet(text))
            await settled(app)
            connection.receive(ack(link.seq))
        spent = clock() - start
        assert sink.packets - before == 2 * count * BURST
        check(sink.last[-1], number)
        assert session.state["n"] == number
        return spent / (count * BURST)

    return measure


async def lines(bench: Bench, app: gr.App) -> Measure:
    count = max(1, bench.loops(5_000) // BURST)
    arrived: list[Packet] = []
    line = memory.connect(app)
    line.on_packet = arrived.append
    line.send(hello())
    while len(arrived) < 2:
        await asyncio.sleep(0)
    number = 0
    seq = 1

    async def measure() -> float:
        nonlocal number, seq
        start = clock()
        for _ in range(count):
            arrived.clear()
            for _ in range(BURST):
                number += 1
                line.send(b'{"type":"assign","id":%d,"data":%d}' % (number, number))
            while len(arrived) < 2 * BURST:
                await asyncio.sleep(0)
            seq += 2 * BURST
            line.send(ack(seq))
        spent = clock() - start
        check(arrived[-1], number)
        return spent / (count * BURST)

    return measure
