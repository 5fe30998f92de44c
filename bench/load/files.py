"""50 sessions click while one moves a file of 200 MB up or down: the others' p99.

Real servers; the file is moved by a Greenroom client in a process of its own, over loopback, so as
fast as this machine can. The same clicks without it are the base.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from ..harness import Bench, Measure, percentile
from .client import ROOT, Client, Server, clients, servers

SESSIONS = 50
RATE = 500  # clicks a second of all together
SIZE = 200_000_000
BAR = 50.0  # milliseconds


async def run(bench: Bench) -> None:
    if sys.platform != "linux":
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            file.truncate(SIZE)
        for kind, name in {"greenroom": "asgi", "websocket": "websocket"}.items():
            async with servers(kind) as (server,):
                everybody = await clients(server, SESSIONS, greeting=True)
                for way, what in {
                    "": "no file moves",
                    "up": "200 MB go up",
                    "down": "200 MB go down",
                }.items():
                    await bench.value(
                        f"{name}: p99 of {SESSIONS} sessions while {what}",
                        clicking(everybody, server, way, path),
                        bar=BAR if way else None, unit="ms", rounds=3,
                    )  # fmt: skip
                for client in everybody:
                    client.transport.close()


def clicking(everybody: list[Client], server: Server, way: str, path: Path) -> Measure:
    async def measure() -> float:
        times: list[float] = []
        over = asyncio.Event()
        pause = SESSIONS / RATE

        async def click(client: Client, delay: float) -> None:
            await asyncio.sleep(delay)
            number = 0
            while not over.is_set():
                number += 1
                start = time.perf_counter()
                await client.ask("worker", number)
                times.append(time.perf_counter() - start)
                client.check(number)
                await asyncio.sleep(pause)

        async def move() -> None:
            if not way:
                await asyncio.sleep(2.0)
                over.set()
                return
            async with mover(server, way, path) as process:
                assert process.stdout is not None
                await process.stdout.readline()  # it is connected
                times.clear()
                await process.stdout.readline()  # the file has moved
            over.set()

        await asyncio.gather(
            move(), *(click(client, pause * n / SESSIONS) for n, client in enumerate(everybody))
        )
        assert len(times) > 20, len(times)
        return percentile(times, 0.99)

    return measure


@contextlib.asynccontextmanager
async def mover(server: Server, way: str, path: Path) -> AsyncGenerator[Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load.files", str(server.port), way, str(path),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        assert await process.wait() == 0


async def move(port: int, way: str, path: str) -> None:
    """What the mover does."""
    from greenroom.client import connect

    async with connect(f"ws://127.0.0.1:{port}/ws") as client:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def take(download: Any) -> None:
            got.set_result(await download.read())

        client.on_download(take)
        print("connected", flush=True)
        start = time.perf_counter()
        if way == "up":
            moved = await client.call("take", await client.upload(path))
        else:
            await client.call("give", path)
            moved = len(await got)
        seconds = time.perf_counter() - start
        assert moved == SIZE, moved
        print(f"{moved / seconds / 1e6:.0f} MB/s", flush=True)
        print(f"{way}: {moved / seconds / 1e6:.0f} MB/s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    asyncio.run(move(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
