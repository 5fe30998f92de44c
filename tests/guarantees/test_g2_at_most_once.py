"""G2: each client event takes effect at most once, always; exactly once while its link lives.

The stories of G1 check this too. Here servers die in the middle: what was not answered by then is
reported ``lost``, never run again on a guess, and what was never handed to a transport runs once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from tests.conftest import LOOPS, run_clean
from tests.support.byteline import ByteLine
from tests.support.seeds import replayable, seeds
from tests.support.stage import Stage
from tests.support.story import Story
from tests.support.visitor import Visitor

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"secret": None},  # the tokens of one server mean nothing to the next
    {"log_bytes": 700},
    {"threads": True},
)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_g2_servers_that_die_in_the_middle(kind: int) -> None:
    """No event runs twice, over all servers; every one that is missing was reported ``lost``."""
    met: Counter[str] = Counter()

    async def tell(seed: int) -> None:
        rng = random.Random(seed)
        stage = Stage(**KINDS[kind])
        await stage.app.start()

        async def restart() -> Stage:
            following = Stage(after=story.stage, **KINDS[kind])
            await following.app.start()
            return following

        story = Story(
            stage,
            rng,
            visitors=rng.choice((1, 1, 2, 3)),
            events=rng.randrange(5, 25),
            restarts=restart,
        )
        with replayable(seed):
            await story.play(rng.randrange(40, 200))
            story.check()
            await story.leave()
        await story.stage.app.stop(0.0)
        for visitor in story.visitors:
            met["lost"] += len(visitor.lost)
            met["renewals"] += visitor.renewals

    async def main() -> None:
        for seed in seeds(0.7 / len(KINDS)):
            await tell(seed)

    run_clean(LOOPS["uvloop" if kind % 2 else "asyncio"], main, timeout=3600)
    print(dict(met))
    assert met["renewals"]


def test_g2_what_was_handed_over_is_lost_and_the_rest_runs() -> None:
    """In detail: an answered event, one that ran unheard of, one on its way, and one in waiting."""

    async def main() -> None:
        first = Stage(inflight=3)
        visitor = Visitor("v", first.clock.time)
        async with first.app:
            line = ByteLine(first.app, visitor)
            await carry(line)
            submit(visitor, "answered")
            line.pump()
            await carry(line)
            submit(visitor, "unheard")
            line.pump()
            line.up()
            await asyncio.sleep(0)
            for tag in ("underway", "third", "waiting"):
                submit(visitor, tag)
            line.pump()
            assert visitor.link.waiting == 1
            line.cut()
        second = Stage(after=first)
        async with second.app:
            line = ByteLine(second.app, visitor)
            await carry(line)
            assert [how for how, _ in visitor.closes] == ["resume", "fresh"]
            line = ByteLine(second.app, visitor)
            await carry(line)
            codes = {tag: outcome.code for tag, outcome in visitor.outcomes.items()}
            assert codes == {
                "answered": "",
                "unheard": "lost",
                "underway": "lost",
                "third": "lost",
                "waiting": "",
            }
            assert first.diary.journal == ["answered", "unheard", "waiting"]
            assert visitor.state["tags"] == ["waiting"]
            assert visitor.renewals == 1

    run_clean(LOOPS["asyncio"], main, timeout=10)


def test_g2_a_frame_that_comes_twice_runs_once() -> None:
    """Whatever a client repeats: the same connection, the next one, in any number."""

    async def main() -> None:
        stage = Stage()
        async with stage.app:
            visitor = Visitor("v", stage.clock.time)
            line = ByteLine(stage.app, visitor)
            await carry(line)
            submit(visitor, "once")
            packets = visitor.link.take()
            for _ in range(3):
                line.upward += packets[0].data + b"\n"
            await carry(line)
            line.cut()
            line = ByteLine(stage.app, visitor)
            await carry(line)
            line.upward += packets[0].data + b"\n"
            await carry(line)
            assert stage.diary.journal == ["once"]
            assert visitor.outcomes["once"].value == "once"
            assert not visitor.again

    run_clean(LOOPS["asyncio"], main, timeout=10)


def test_g2_a_link_beyond_its_window_still_knows_its_ids() -> None:
    """The second row of the welcome: an id that was taken is never taken again."""

    async def main() -> None:
        stage = Stage()
        async with stage.app:
            visitor = Visitor("v", stage.clock.time)
            line = ByteLine(stage.app, visitor)
            await carry(line)
            submit(visitor, "before")
            submit(visitor, "after")
            before, _ = visitor.link.take()
            line.upward += before.data + b"\n"  # the other one never left
            line.up()
            line.cut()
            await asyncio.sleep(0)
            stage.clock.advance(stage.app.settings.window + 1)
            line = ByteLine(stage.app, visitor)
            await carry(line)
            assert stage.diary.journal == ["before", "after"]
            assert visitor.outcomes["before"].code == "lost"
            assert visitor.outcomes["after"].value == "after"
            assert visitor.gaps == 1
            assert visitor.state["tags"] == ["before", "after"]

    run_clean(LOOPS["asyncio"], main, timeout=10)


def submit(visitor: Visitor, tag: str) -> None:
    visitor.submit("do", {"tag": tag, "ops": []}, tag=tag)


async def carry(line: ByteLine) -> None:
    """Carry everything there is, and what comes of it."""
    for _ in range(3):
        line.up()
        await asyncio.sleep(0)
        line.down()
