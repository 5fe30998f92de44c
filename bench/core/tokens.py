"""Streaming a text: bytes on the wire for ``state["answer"] += token``."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

import greenroom as gr
from greenroom.core.types import Packet

from ..harness import Bench, Row
from .links import ack
from .stage import Sink, linked, make_app, settled

TOKENS = 2_000
TOKEN = "abcd "


@gr.handler(inline=True)
def append(state: Any, payload: str) -> None:
    state["answer"] += payload


async def stream(state: Any) -> None:
    for number in range(TOKENS):
        state["answer"] += TOKEN
        if number % 20 == 19:
            await asyncio.sleep(0)


class Reader(Sink):
    """Applies the patches, so that the answer can be checked."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = ""
        self.patches = 0
        self.patch_bytes = 0

    def send(self, packets: Any) -> None:
        super().send(packets)
        for packet in packets:
            frame = orjson.loads(packet.data)
            if frame["type"] == "gr:state":
                self.patches += 1
                self.patch_bytes += len(packet.data)
                data = frame["data"]
                if "=" in data:  # the first: a text that begins
                    self.answer = data["="]["/answer"]
                else:
                    self.answer += data["+"]["/answer"]
            elif frame["type"] == "gr:snapshot":
                self.answer = frame["data"]["answer"]


async def run(bench: Bench) -> None:
    name = f"{TOKENS:,} appends of {len(TOKEN)} bytes, a turn each: bytes per append"
    if bench.wanted(name):
        async with make_app(state={"answer": ""}, handlers=[append]) as app:
            reader = Reader()
            session, _, connection = await linked(app, reader)
            for number in range(TOKENS):
                session.tell("append", TOKEN)
                await settled(app)
                await asyncio.sleep(0)
                if not number % 64:
                    connection.receive(ack(reader.packets - 1))
            add(bench, name, reader, bar=72.0)
    name = f"{TOKENS:,} appends in one turn, shipped in part: bytes per append"
    if bench.wanted(name):
        async with make_app(
            state={"answer": ""}, handlers=[stream], partial_after=0.005, partial_every=0.005
        ) as app:
            reader = Reader()
            session, _, connection = await linked(app, reader)
            await session.ask("stream")
            await settled(app)
            await asyncio.sleep(0.01)
            add(bench, name, reader, bar=15.0)
    name = f"{TOKENS:,} appends beside a slow transport, merged: bytes per append"
    if bench.wanted(name):
        async with make_app(state={"answer": ""}, handlers=[append]) as app:
            reader = Reader()
            session, _, connection = await linked(app, reader)
            for number in range(TOKENS):
                reader.buffered = 1 << 20 if number % 20 else 0
                session.tell("append", TOKEN)
                await settled(app)
            reader.buffered = 0
            connection.receive(Packet(b'{"type":"gr:ping","data":{"id":0}}'))
            await asyncio.sleep(0.01)
            add(bench, name, reader, bar=15.0)


def add(bench: Bench, name: str, reader: Reader, bar: float) -> None:
    assert reader.answer == TOKEN * TOKENS, len(reader.answer)
    bench.add(
        Row(
            group=bench.group,
            name=name,
            unit="B",
            bar=bar,
            better="less",
            value=reader.patch_bytes / TOKENS,
            note=f"{reader.patches} patches",
        )
    )
