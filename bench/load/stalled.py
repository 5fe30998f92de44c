"""1,000 clients that stop reading: the p99 of the others, and what the server holds for them.

A real server, on each of its two adapters. A hundred sessions ask and wait for their answers; a
thousand others send an event twice a second that makes 8 KiB of state (one has made 5 MB), and read
what comes back or do not. Those that read are the base: the server does the same for both.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time

from ..harness import Bench, percentile
from .client import Client, Server, clients, servers

SPEAKERS = 100
READERS = 1_000
EVERY = 0.5  # seconds between two events of a reader
RATE = 1_000  # events a second of all speakers together
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
    seconds = max(2.0, 4 * bench.effort)
    for kind, name in (("greenroom", "asgi"), ("websocket", "websocket")):
        what = f"p99 of {SPEAKERS} sessions beside {READERS} others"
        async with servers(kind) as (server,):
            speakers = await clients(server, SPEAKERS, greeting=True)
            readers = await clients(server, READERS, greeting=True, kind=Reader)
            feeding = asyncio.create_task(feed(readers))
            await asyncio.sleep(EVERY)

            async def p99(speakers: list[Client] = speakers) -> float:
                return await spoken(speakers, seconds)

            base = await bench.value(f"{what} that read, {name}", p99, bar=None, unit="ms")
            before = server.resident()
            for reader in readers:
                reader.transport.pause_reading()
            await asyncio.sleep(4 * EVERY)
            bar = None
            if base is not None and base.value is not None:
                bar = max(FACTOR * base.value, base.value + MORE * 1e3)
            await bench.value(f"{what} that stalled, {name}", p99, bar=bar, unit="ms")

            async def memory(server: Server = server, before: int = before) -> float:
                return server.resident() - before

            await bench.value(
                f"memory of the server for {READERS} that stalled, {name}", memory,
                bar=TOTAL + READERS * EACH + 2 * LARGE, unit="B", rounds=1,
            )  # fmt: skip
            feeding.cancel()
            for client in (*speakers, *readers):
                client.transport.abort()


async def feed(readers: list[Client]) -> None:
    """Every reader speaks twice a second, one after the other."""
    for turn in itertools.count():
        start = time.perf_counter()
        for number, reader in enumerate(readers):
            assert isinstance(reader, Reader)
            if number:
                reader.fill(SIZE)
            elif not turn:
                reader.fill(LARGE)
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
