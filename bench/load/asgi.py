"""An event over a WebSocket, through a handler, to its patch and result: server CPU per event.

A real uvicorn with the ASGI adapter, in a process of its own, against a bare ASGI echo in another
uvicorn with the same settings. Clients send the next event when the result of the last one is
there. What is compared is what the operating system says the server's process has used, user and
system, divided by events.
"""

from __future__ import annotations

import asyncio
import sys

from ..harness import Bench, Measure
from .client import Client, Server, clients, servers

BARS = {  # event, clients -> bar
    ("inline", 50): 1.3,
    ("eager", 50): 1.3,
    ("worker", 50): None,
    ("inline", 1): 1.5,
    ("eager", 1): 1.5,
    ("worker", 1): None,
}
NAMES = {"inline": "inline", "eager": "async", "worker": "default sync"}


async def run(bench: Bench) -> None:
    if sys.platform != "linux":
        print("asgi: reads another process's CPU time as only Linux tells it; left out")
        return
    async with servers("echo", "greenroom") as (bare, ours):
        for count in (50, 1):
            speakers = await clients(bare, count, greeting=False)
            guests = await clients(ours, count, greeting=True)
            base = load(bare, speakers, "", bench.loops(10_000 if count > 1 else 4_000))
            for event, name in NAMES.items():
                measure = load(ours, guests, event, bench.loops(10_000 if count > 1 else 4_000))
                await bench.compare(
                    f"event -> {name} handler -> patch + result, {count} clients",
                    base, measure, bar=BARS[event, count], of="us",
                    against="a bare ASGI echo with dict and orjson",
                    rounds=max(5, bench.rounds // 2),
                )  # fmt: skip
            for client in (*speakers, *guests):
                client.transport.close()


def load(server: Server, speakers: list[Client], event: str, total: int) -> Measure:
    """Seconds of server CPU per event."""

    async def speak(client: Client, count: int) -> None:
        for number in range(count):
            await client.ask(event, number)
        client.check(count - 1)

    async def measure() -> float:
        each = max(1, total // len(speakers))
        before = server.cpu()
        await asyncio.gather(*(speak(client, each) for client in speakers))
        return (server.cpu() - before) / (each * len(speakers))

    return measure
