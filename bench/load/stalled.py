"""1,000 clients that stop reading: the p99 of the others, and what the server holds for them.

A real server, on each of its two adapters. A hundred sessions ask and wait for their answers; a
thousand others send an event twice a second that makes 8 KiB of state (one has made 5 MB), and read
what comes back or do not. Those that read are the base: the server does the same for both.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from functools import partial
from typing import Self

from ..harness import Bench, percentile
from .client import Client, Server, clients, servers

SPEAKERS = 100
READERS = 1_000
EVERY = 0.5  # seconds between two events of a reader
RATE = 500  # events a second of all speakers together
SIZE, LARGE = 8 * 1024, 5_000_000
TOTAL = 256 * 1024 * 1024  # Settings.total_log_bytes
EACH = 256 * 1024  # what a transport, and the server below it, may hold for one client
FACTOR, MORE = 1.2, 0.005


class Reader(Client):
    """It sends events, and reads what comes only to throw it away; or not even that."""

    def data_received(self, data: bytes) -> None:
        if not self.waiter.done():
            super().data_received(data)

    def message(self, text: bytes) -> None:
        if not self.waiter.done():
            super().message(text)

    def fill(self, size: int) -> None:
        self.number += 1
        self.write(b'{"type":"fill","id":%d,"data":%d}' % (self.number, size))


async def run(bench: Bench) -> None:
    if sys.platform != "linux":
        print("stalled: looks at another process's memory as only Linux tells it; left out")
        return
    seconds = max(1.0, 2 * bench.effort)
    for kind, name in (("greenroom", "asgi"), ("websocket", "websocket")):
        if not bench.wanted(f"p99 that stalled memory {name}"):
            continue
        async with servers(kind, kind) as pair:
            places = [await Place.made(server) for server in pair]
            reading, stalling = places
            await stalling.spoken(seconds)
            before = stalling.server.resident()
            for reader in stalling.readers:
                reader.transport.pause_reading()
            await stalling.spoken(seconds)
            times: dict[Place, list[tuple[float, float]]] = {reading: [], stalling: []}
            for turn in range(bench.rounds):  # A B, then B A: other work on the machine hits both
                for place in places if turn % 2 else places[::-1]:
                    times[place].append(await place.spoken(seconds))
            base, base_cpu = (
                statistics.median(column) for column in zip(*times[reading], strict=True)
            )
            ours, ours_cpu = (
                statistics.median(column) for column in zip(*times[stalling], strict=True)
            )
            bar = max(FACTOR * base, base + MORE)
            held = float(stalling.server.resident() - before)
            most = float(TOTAL + READERS * EACH + 2 * LARGE)
            what = f"{SPEAKERS} sessions beside {READERS} others"
            for title, value, limit, unit in (
                (f"p99 of {what} that read, {name}", base, None, "ms"),
                (f"p99 of {what} that stalled, {name}", ours, bar * 1e3, "ms"),
                (f"CPU of {what} that stalled, per second, {name}", ours_cpu, None, "ms"),
                (f"the same when they read, {name}", base_cpu, None, "ms"),
                (f"memory of the server for {READERS} that stalled, {name}", held, most, "B"),
            ):
                await bench.value(title, partial(told, value), bar=limit, unit=unit, rounds=1)
            for place in places:
                place.close()


async def told(value: float) -> float:
    return value


class Place:
    """One server, those who speak and those who read."""

    def __init__(self, server: Server, speakers: list[Client], readers: list[Client]) -> None:
        self.server = server
        self.speakers = speakers
        self.readers = readers

    @classmethod
    async def made(cls, server: Server) -> Self:
        speakers = await clients(server, SPEAKERS, greeting=True)
        readers = await clients(server, READERS, greeting=True, kind=Reader)
        first = readers[0]
        assert isinstance(first, Reader)
        first.fill(LARGE)
        return cls(server, speakers, readers)

    async def spoken(self, seconds: float) -> tuple[float, float]:
        """The speakers' p99 while the readers are fed, and CPU seconds of the server a second."""
        feeding = asyncio.create_task(feed(self.readers[1:]))
        cpu, start = self.server.cpu(), time.perf_counter()
        try:
            p99 = await spoken(self.speakers, seconds)
        finally:
            feeding.cancel()
        return p99, (self.server.cpu() - cpu) / (time.perf_counter() - start)

    def close(self) -> None:
        for client in (*self.speakers, *self.readers):
            client.transport.abort()


async def feed(readers: list[Client]) -> None:
    """Every reader speaks twice a second, one after the other."""
    while True:
        start = time.perf_counter()
        for number, reader in enumerate(readers):
            assert isinstance(reader, Reader)
            reader.fill(SIZE)
            if number % 20 == 19:
                due = start + EVERY * number / len(readers)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def spoken(speakers: list[Client], seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    pause = len(speakers) / RATE

    async def speak(client: Client, delay: float) -> None:
        await asyncio.sleep(delay)
        while time.perf_counter() < end:
            start = time.perf_counter()
            await client.ask("inline", client.number + 1)
            times.append(time.perf_counter() - start)
            await asyncio.sleep(pause)

    await asyncio.gather(
        *(speak(client, pause * n / len(speakers)) for n, client in enumerate(speakers))
    )
    assert len(times) > RATE * seconds / 4, len(times)
    return percentile(times, 0.99)
