"""500 sessions while one handler sleeps, waits for the interpreter, or computes: the others' p99.

A real uvicorn, 500 WebSockets. 499 clients send small events to a sync handler, at a rate that
leaves the server half idle; one sends the disturbing event again and again. The same clients
without the disturbance are the base.
"""

from __future__ import annotations

import asyncio
import sys
import time

from ..harness import Bench, Measure, percentile
from .client import Client, clients, servers

SESSIONS = 500
RATE = 2_000  # events a second of all others together
DISTURBANCES = {
    "sleeps 50 ms": ("sleep", 0.05, 50.0),
    "computes in Python for 50 ms": ("spin", 0.05, 50.0),
    "computes in one long loop": ("compute", 1_000_000, 50.0),
}


async def run(bench: Bench) -> None:
    if sys.platform != "linux":
        return
    async with servers("greenroom") as (server,):
        everybody = await clients(server, SESSIONS, greeting=True)
        seconds = max(0.5, bench.effort)
        for what, (event, payload, bar) in {"nobody does": ("", 0, None), **DISTURBANCES}.items():
            await bench.value(
                f"p99 of {SESSIONS - 1} sessions while one handler {what}"
                if event else f"p99 of {SESSIONS - 1} sessions when nothing disturbs",
                disturbed(everybody, event, payload, seconds), bar=bar, unit="ms", rounds=3,
            )  # fmt: skip
        for client in everybody:
            client.transport.close()


def disturbed(everybody: list[Client], event: str, payload: float, seconds: float) -> Measure:
    culprit, *others = everybody

    async def measure() -> float:
        times: list[float] = []
        end = time.perf_counter() + seconds
        pause = len(others) / RATE

        async def speak(client: Client, delay: float) -> None:
            await asyncio.sleep(delay)
            number = 0
            while time.perf_counter() < end:
                number += 1
                start = time.perf_counter()
                await client.ask("worker", number)
                times.append(time.perf_counter() - start)
                client.check(number)
                await asyncio.sleep(pause)

        async def disturb() -> None:
            while event and time.perf_counter() < end:
                await culprit.ask(event, payload)

        await asyncio.gather(
            disturb(), *(speak(client, pause * n / len(others)) for n, client in enumerate(others))
        )
        assert len(times) > RATE * seconds / 4, len(times)
        return percentile(times, 0.99)

    return measure
