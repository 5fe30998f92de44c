"""G1: a client cut at any byte, any number of times, ends with exactly the server's state.

And G2 over the same stories: each event takes effect at most once, exactly once while its link
lives, and who is told ``lost`` was cut off for too long. Every story checks both, and that events
arrive once and in order, and that the app's counters add up (G23).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, Literal

import pytest
from tests.conftest import LOOPS, run_clean
from tests.support.byteline import ByteLine
from tests.support.proxy import Proxy
from tests.support.seeds import CUTS, DEFAULT, replayable, seeds
from tests.support.served import served_by
from tests.support.stage import Stage, canonical
from tests.support.story import Story
from tests.support.tcpstory import TcpStory
from tests.support.verdict import Verdict
from tests.support.visitor import Visitor

#: Servers with room for everything, with little, with almost none, and with worker threads.
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"log_bytes": 700},
    {"log_bytes": 4096, "window": 30.0},
    {"threads": True},
)


async def tell(stage: Stage, seed: int, met: Counter[str]) -> None:
    rng = random.Random(seed)
    story = Story(stage, rng, visitors=rng.choice((1, 1, 2, 3)), events=rng.randrange(5, 25))
    with replayable(seed):
        await story.play(rng.randrange(40, 200))
        story.check()
        await story.leave()
    met["cuts"] += story.cuts
    for visitor in story.visitors:
        met["events"] += len(visitor.sent)
        met["gaps"] += visitor.gaps
        met["lost"] += len(visitor.lost)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_g1_cut_anywhere_in_memory(kind: int) -> None:
    met: Counter[str] = Counter()

    async def main() -> None:
        stage = Stage(**KINDS[kind])
        async with stage.app:
            for seed in seeds(1 / len(KINDS)):
                await tell(stage, seed, met)

    run_clean(LOOPS["uvloop" if kind % 2 else "asyncio"], main, timeout=3600)
    print(dict(met))  # shown with -s: what the stories were made of
    assert met["cuts"]


@pytest.mark.parametrize("adapter", ["asgi", "websocket"])
def test_g1_cut_anywhere_over_tcp(adapter: str) -> None:
    """The same through a server, its adapter and a proxy that cuts at a byte of either way."""
    met: Counter[str] = Counter()

    async def main() -> None:
        stage = Stage(threads=True, log_bytes=1500, max_sessions_per_peer=0)
        async with stage.app, served_by(adapter, stage.app) as port:
            with Proxy(port) as proxy:
                for seed in seeds(0.1):
                    rng = random.Random(seed)
                    story = TcpStory(stage, proxy, rng, cuts=rng.randrange(1, 8))
                    with replayable(seed):
                        async with asyncio.timeout(30):
                            await story.play(12)
                    met["cuts"] += len(story.visitor.closes)

    run_clean(LOOPS["uvloop"], main, timeout=3600)
    assert met["cuts"]


# -- every byte of one script -------------------------------------------------------------------

SCRIPT: tuple[tuple[str, list[list[Any]]], ...] = (
    ("do", [["set", "a", 1], ["tail", "ümläut"]]),
    ("do_async", [["append", "x"], ["branch", "b/c", "y"]]),
    ("fail", [["set", "a", 2], ["delete", "nest"]]),
    ("do", [["delete", "a"], ["tail", "more"], ["self"]]),
)
Way = Literal["up", "down"]


class Script(Verdict):
    """Always the same few events, and one cut at one byte of the first connection."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage)
        self.visitor = Visitor(name, stage.clock.time)
        self.visitors = [self.visitor]
        self.watch(self.visitor)
        self.first: ByteLine | None = None

    async def play(self, way: Way | None, offset: int, away: float) -> None:
        visitor = self.visitor
        line = self.first = ByteLine(self.stage.app, visitor)
        for number, (name, ops) in enumerate(SCRIPT):
            tag = f"{visitor.name}-{number}"
            self.asked[tag] = name
            visitor.submit(name, {"tag": tag, "ops": ops}, tag=tag)
        line.pump()
        carried = 0
        while "barrier" not in visitor.outcomes or not line.quiet:
            if not visitor.connected:  # told to come back as somebody new
                line = ByteLine(self.stage.app, visitor)
            for direction in ("up", "down"):
                move = line.up if direction == "up" else line.down
                if direction != way:
                    move()
                    continue
                carried += move(offset - carried)
                if carried == offset:
                    way = None
                    line.cut()
                    self.stage.clock.advance(away)
                    line = ByteLine(self.stage.app, visitor)
            await asyncio.sleep(0)
            quiet = not visitor.unanswered and not self.stage.app.stats()["messages"]["pending"]
            if quiet and "barrier" not in visitor.sent:
                visitor.submit("barrier", tag="barrier")
                line.pump()
        self.check()
        self.session_of(visitor).close()
        await asyncio.sleep(0)
        line.cut()


@pytest.mark.parametrize("away", [0.0, 121.0], ids=["at once", "beyond the window"])
def test_g1_cut_at_every_byte_of_a_script(away: float) -> None:
    """Both ways, about 2 kB: not one byte of it may make a difference."""
    step = 1 if CUTS > DEFAULT or not away else 7
    ends: set[str] = set()

    async def main() -> None:
        stage = Stage()
        async with stage.app:
            whole = Script(stage, "whole")
            await whole.play(None, 0, 0.0)
            assert whole.first is not None
            sizes: dict[Way, int] = {"up": whole.first.carried_up, "down": whole.first.carried_down}
            assert 1500 < sum(sizes.values()) < 3000, sizes
            for way, size in sizes.items():
                for offset in range(0, size, step):
                    script = Script(stage, f"{way}{offset}")
                    try:
                        await script.play(way, offset, away)
                    except BaseException as error:
                        error.add_note(f"cut on the way {way} after byte {offset}")
                        raise
                    if not script.visitor.lost:
                        ends.add(canonical(script.visitor.state["count"]))

    run_clean(LOOPS["asyncio"], main, timeout=600)
    assert ends == {"3"}


# -- what the seeds have found --------------------------------------------------------------------


def test_g1_a_hello_that_was_late_takes_nothing_over() -> None:
    """The client gave a connection up and has a new one; then the old hello comes through."""

    async def main() -> None:
        stage = Stage()
        async with stage.app:
            visitor = Visitor("v", stage.clock.time)
            line = ByteLine(stage.app, visitor)
            await through(visitor, line)
            line.cut()
            late = ByteLine(stage.app, visitor)
            late.drop()
            line = ByteLine(stage.app, visitor)
            await through(visitor, line)
            late.up()
            await through(visitor, line)
            assert visitor.live
            assert b'"replaced"' in late.downward
            visitor.submit("do", {"tag": "x", "ops": []}, tag="x")
            line.pump()
            await through(visitor, line)
            assert visitor.outcomes["x"].value == "x"

    run_clean(LOOPS["asyncio"], main, timeout=10)


def test_g1_a_hello_that_was_slow_may_be_said_again() -> None:
    async def main() -> None:
        stage = Stage()
        async with stage.app:
            visitor = Visitor("v", stage.clock.time)
            line = ByteLine(stage.app, visitor)
            stage.clock.advance(stage.app.settings.hello_timeout + 1)
            line.down()
            assert visitor.closes == [("resume", "bad_frame")]
            line = ByteLine(stage.app, visitor)
            await through(visitor, line)
            assert visitor.live

    run_clean(LOOPS["asyncio"], main, timeout=10)


def test_g1_a_lost_welcome_does_not_hide_a_gap() -> None:
    """The answer went with the window, and so did the welcome that told of it."""

    async def main() -> None:
        stage = Stage()
        async with stage.app:
            visitor = Visitor("v", stage.clock.time)
            line = ByteLine(stage.app, visitor)
            await through(visitor, line)
            visitor.submit("do", {"tag": "x", "ops": []}, tag="x")
            line.pump()
            line.up()
            line.cut()
            await asyncio.sleep(0)
            stage.clock.advance(stage.app.settings.window + 1)
            for _ in range(2):
                line = ByteLine(stage.app, visitor)
                line.up()
                await asyncio.sleep(0)
                line.cut()
            line = ByteLine(stage.app, visitor)
            await through(visitor, line)
            assert visitor.outcomes["x"].code == "lost"
            assert visitor.gaps == 1
            assert visitor.state["tags"] == ["x"]

    run_clean(LOOPS["asyncio"], main, timeout=10)


async def through(visitor: Visitor, line: ByteLine) -> None:
    """Carry everything there is, and what comes of it."""
    for _ in range(3):
        line.up()
        await asyncio.sleep(0)
        line.down()
