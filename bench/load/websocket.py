"""An event over the fast adapter, through a handler, to its patch and result: server CPU per event.

The whole of Greenroom on picows, in a process of its own, against a bare picows loop in another,
which decodes the frame, stores into a dict and encodes one answer. The measure is that of asgi.py.
"""

from __future__ import annotations

import sys

from ..harness import Bench
from .asgi import NAMES, load
from .client import clients, servers

BARS = {  # event, clients -> bar
    ("inline", 50): 1.4,
    ("eager", 50): 1.4,
    ("worker", 50): 2.5,
    ("inline", 1): 1.5,
    ("eager", 1): 1.5,
    ("worker", 1): None,
}


async def run(bench: Bench) -> None:
    if sys.platform != "linux":
        print("websocket: reads another process's CPU time as only Linux tells it; left out")
        return
    async with servers("picows", "websocket") as (bare, ours):
        for count in (50, 1):
            speakers = await clients(bare, count, greeting=False)
            guests = await clients(ours, count, greeting=True)
            total = bench.loops(20_000 if count > 1 else 6_000)
            base = load(bare, speakers, "", total)
            for event, name in NAMES.items():
                await bench.compare(
                    f"event -> {name} handler -> patch + result, {count} clients",
                    base, load(ours, guests, event, total), bar=BARS[event, count], of="us",
                    against="a bare picows loop with dict and orjson",
                    rounds=max(5, bench.rounds // 2),
                )  # fmt: skip
            for client in (*speakers, *guests):
                client.transport.close()
