"""G10: a restart without a store loses sessions, and says so; nothing is merged in silence.

A real server is killed with SIGKILL while events are on their way, and started again. With the same
secret and with another, the old token opens nothing: the client begins anew, with a new session and
its snapshot, and everything it had handed over without an answer is ``lost``.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import LOOPS, run_clean
from tests.support.dialler import Dialler
from tests.support.seeds import CUTS, DEFAULT, ONLY, replayable
from tests.support.server import ServerProcess
from tests.support.visitor import Visitor

APP = Path(__file__).parent / "journal"
KILLS = 30 if CUTS > DEFAULT else 2
HANDLERS = ("note", "note_sync", "note_async")


def any_of(visitor: Visitor, tags: list[str]) -> bool:
    return any(tag in visitor.outcomes for tag in tags)


@pytest.mark.parametrize("secret", ["s" * 40, None], ids=["same secret", "another secret"])
def test_g10_kill_at_random_points(secret: str | None, tmp_path: Path) -> None:
    seed = int(ONLY) if ONLY else (1 if secret else 2)
    rng = random.Random(seed)
    journal = tmp_path / "journal"
    environment = {"JOURNAL": str(journal)} | ({"GREENROOM_SECRET": secret} if secret else {})
    sessions: list[str] = []

    def ran() -> list[str]:
        return journal.read_text().split() if journal.exists() else []

    async def main() -> None:
        visitor = Visitor("v", time.monotonic)
        with ServerProcess(APP, **environment) as server:
            async with Dialler(visitor, lambda: server.port) as dialler:
                for life in range(KILLS + 1):
                    await dialler.until(lambda: visitor.live)
                    assert visitor.link.session not in sessions
                    sessions.append(visitor.link.session or "")
                    before = len(ran())
                    tags = [f"{life}-{number}" for number in range(60)]
                    for tag in tags:
                        await dialler.submit(rng.choice(HANDLERS), tag, tag=tag)
                    if life == KILLS:
                        break
                    some = rng.sample(tags, rng.randrange(1, 20))
                    await dialler.until(partial(any_of, visitor, some))
                    how = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
                    await asyncio.to_thread(server.kill, how)
                    await dialler.until(lambda: not visitor.connected)
                    answered = {t for t in tags if t in visitor.outcomes}
                    assert answered <= set(ran()[before:])
                    await asyncio.to_thread(server.start)
                await dialler.answered()
        check(visitor, ran())

    def check(visitor: Visitor, journal: list[str]) -> None:
        counts = Counter(journal)
        assert not [tag for tag, count in counts.items() if count > 1], "run twice"
        assert journal == [tag for tag in visitor.sent if counts[tag]], "out of order"
        assert not visitor.again
        assert visitor.renewals == KILLS
        for tag in visitor.sent:
            outcome = visitor.outcomes[tag]
            if outcome.code:
                assert outcome.code == "lost", (tag, outcome)
            else:
                assert outcome.value == tag
                assert counts[tag] == 1
        # The last session holds what ran in it, and nothing of those before.
        tags: list[Any] = visitor.state["tags"]
        assert tags == journal[-len(tags) :]
        assert visitor.state["count"] == len(tags)
        assert all(visitor.outcomes[tag].code == "" for tag in tags)
        # Each refusal was a plain word, and an invitation.
        assert {how for how, code in visitor.closes if code == "unauthorized"} <= {"fresh"}

    with replayable(seed):
        run_clean(LOOPS["asyncio"], main, timeout=600)
