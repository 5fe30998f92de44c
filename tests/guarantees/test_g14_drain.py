"""G14: rolling restarts under load lose nothing that was answered and run nothing twice.

A real ``greenroom run`` is told to go (SIGTERM) while clients call handlers as fast as they get
answers, and another is started on the same port as soon as the first says that it stops, which is
before its drain is over. Each process appends what it ran to one file. Afterwards the clients'
books and that file must agree, and every client lives in the last process, as a new session.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import LOOPS, run_clean
from tests.support.seeds import ONLY, replayable
from tests.support.server import ServerProcess
from tests.support.until import eventually

from greenroom import App, Refused, Settings
from greenroom.adapters import websocket
from greenroom.client import Client, connect

APP = Path(__file__).parent / "journal"
HANDLERS = ("note", "note_sync", "note_async", "note_slow")
CLIENTS = 24
AT_ONCE = 3  # calls each client has under way
RESTARTS = 2
DRAIN = Settings().drain  # what everybody has: the next process starts meanwhile


class Caller:
    """A client that calls and keeps books."""

    def __init__(self, name: str, client: Client, seed: int) -> None:
        self.name = name
        self.client = client
        self.rng = random.Random(seed)
        self.outcomes: dict[str, str] = {}  # tag: the code of its error, or "" for an answer
        self.renewed = 0
        self.back: list[float] = []  # when it was live again
        self.resting = False
        client.on("gr:renewed", self._renewed)

    def _renewed(self, *_: object) -> None:
        self.renewed += 1
        self.back.append(time.monotonic())

    async def call(self) -> None:
        while not self.resting:
            tag = f"{self.name}-{len(self.outcomes)}"
            self.outcomes[tag] = "under way"
            try:
                assert await self.client.call(self.rng.choice(HANDLERS), tag) == tag
            except Refused as error:
                self.outcomes[tag] = error.code
            else:
                self.outcomes[tag] = ""


@pytest.mark.parametrize("options", [(), ("--asgi",)], ids=["run", "asgi"])
def test_g14_rolling_restarts_under_load(options: tuple[str, ...], tmp_path: Path) -> None:
    seed = int(ONLY) if ONLY else 14
    journal = tmp_path / "journal"
    environment = {"JOURNAL": str(journal), "GREENROOM_DRAIN": str(DRAIN)}
    callers: list[Caller] = []
    took: list[float] = []

    def outcomes() -> int:
        return sum(len(caller.outcomes) for caller in callers)

    def reached(enough: int) -> bool:
        return outcomes() >= enough

    async def roll(server: ServerProcess) -> ServerProcess:
        """Start the next server while this one drains."""
        following = ServerProcess(APP, *options, **environment)
        following.port = server.port
        began = time.monotonic()
        renewed = [caller.renewed for caller in callers]
        server.tell(signal.SIGTERM)
        await asyncio.to_thread(server.said, "stopping")
        await asyncio.to_thread(following.start)
        assert await asyncio.to_thread(server.ended) == 0
        assert time.monotonic() - began < DRAIN
        await eventually(
            lambda: all(c.renewed != before for c, before in zip(callers, renewed, strict=True))
        )
        took.extend(caller.back[-1] - began for caller in callers)
        return following

    async def main() -> None:
        server = ServerProcess(APP, *options, **environment)
        try:
            await asyncio.to_thread(server.start)
            url = f"ws://127.0.0.1:{server.port}/ws"
            async with contextlib.AsyncExitStack() as stack:
                for number in range(CLIENTS):
                    client = await stack.enter_async_context(connect(url))
                    callers.append(Caller(f"c{number}", client, seed + number))
                async with asyncio.TaskGroup() as calls:
                    for caller in callers:
                        for _ in range(AT_ONCE):
                            calls.create_task(caller.call())
                    for _ in range(RESTARTS):
                        enough = outcomes() + 300
                        await eventually(partial(reached, enough))
                        server = await roll(server)
                    for caller in callers:
                        caller.resting = True
                for caller in callers:  # the state is that of the last process, and of this session
                    tags = await caller.client.call("seen")
                    assert tags == caller.client.state["tags"]
                    assert all(tag.startswith(f"{caller.name}-") for tag in tags)
                    assert caller.client.status == "live"
        finally:
            server.kill()

    with replayable(seed):
        run_clean(LOOPS["asyncio"], main, timeout=120)
        ran = Counter(journal.read_text().split())
        assert not [tag for tag, times in ran.items() if times > 1], "run twice"
        codes: Counter[str] = Counter()
        for caller in callers:
            assert caller.renewed == RESTARTS
            for tag, code in caller.outcomes.items():
                codes[code] += 1
                if code == "":
                    assert ran[tag] == 1, f"{tag} was answered and did not run"
                elif code == "closed":
                    assert not ran[tag], f"{tag} ran and was told that it did not"
                else:
                    assert code == "lost", (tag, code)
        assert codes[""] > RESTARTS * 300
        assert max(took) < DRAIN
        took.sort()
        print(f"\nback after {took[len(took) // 2]:.2f} s, the last {took[-1]:.2f} s; {codes}")


def test_g14_an_embedded_server_closes_its_port_first(arun: Any) -> None:
    async def story() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def wait() -> str:
            begun.set()
            await go.wait()
            return "done"

        app = App(handlers=[wait])
        server = await websocket.serve(app, port=0)
        async with connect(f"ws://127.0.0.1:{server.port}/ws") as client:
            answer = client.call("wait")
            await begun.wait()
            stopping = asyncio.ensure_future(server.stop(20))
            await asyncio.sleep(0)
            assert app.phase == "draining"
            await asyncio.sleep(0)  # uvloop closes in the next step of its loop
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", server.port)
            assert not stopping.done()
            go.set()
            assert await answer == "done"
            await stopping

    arun(story)
