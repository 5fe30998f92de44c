"""G4: one turn at a time per session, with 64 threads that post as fast as they can."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

import greenroom as gr

THREADS = 64
EACH = 60  # messages of a thread
SESSIONS = 3


@pytest.fixture
def impatient() -> Generator[None]:
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Overlap:
    """Counts, for each session, who is inside a turn at the same time."""

    def __init__(self) -> None:
        self.inside: Counter[str] = Counter()
        self.worst = 0
        self.turns = 0

    def enter(self, session: gr.Session, state: Any) -> int:
        self.inside[session.id] += 1
        self.worst = max(self.worst, self.inside[session.id])
        return int(state["n"])

    def leave(self, session: gr.Session, state: Any, seen: int) -> None:
        state["n"] = seen + 1  # what another turn assigned meanwhile would be lost
        self.worst = max(self.worst, self.inside[session.id])
        self.inside[session.id] -= 1
        self.turns += 1


@pytest.mark.usefixtures("impatient")
def test_g4_never_two_turns_at_once(arun: Any) -> None:
    overlap = Overlap()

    def sync(session: gr.Session, state: Any) -> None:
        seen = overlap.enter(session, state)
        sum(range(200))
        overlap.leave(session, state, seen)

    async def waiting(session: gr.Session, state: Any) -> None:
        seen = overlap.enter(session, state)
        for _ in range(3):
            await asyncio.sleep(0)
        overlap.leave(session, state, seen)

    @gr.handler(inline=True)
    def inline(session: gr.Session, state: Any) -> None:
        overlap.leave(session, state, overlap.enter(session, state))

    def mixed(session: gr.Session, state: Any) -> Any:
        """A part on a worker, a part on the loop."""
        seen = overlap.enter(session, state)

        async def rest() -> None:
            await asyncio.sleep(0)
            overlap.leave(session, state, seen)

        return rest()

    async def main() -> None:
        settings = gr.Settings(mailbox_messages=0, watchdog=0.0, workers=8)
        app = gr.App({"n": 0}, [sync, waiting, inline, mixed], settings)
        failures: list[BaseException] = []

        def post(number: int, sessions: list[gr.Session]) -> None:
            try:
                for count in range(EACH):
                    session = sessions[(number + count) % SESSIONS]
                    kind = (number * 7 + count) % 6
                    if kind == 4:
                        with session.turn() as state:
                            overlap.leave(session, state, overlap.enter(session, state))
                    elif kind == 5:
                        session.ask("sync", timeout=30).result()
                    else:
                        session.tell(("sync", "waiting", "inline", "mixed")[kind])
            except BaseException as error:
                failures.append(error)

        async with app:
            sessions = [app.open_session() for _ in range(SESSIONS)]
            threads = [
                threading.Thread(target=post, args=(number, sessions)) for number in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            while app.stats()["messages"]["pending"]:
                await asyncio.sleep(0)
            assert not failures
            assert overlap.worst == 1
            assert overlap.turns == THREADS * EACH
            assert sum(session.state["n"] for session in sessions) == THREADS * EACH
            told = app.stats()["messages"]
            assert told["accepted"] == told["run"] == THREADS * EACH

    overlap.__init__()  # type: ignore[misc]  # once for each loop
    arun(main, timeout=60)


def test_g4_a_turn_ends_before_the_next_begins(arun: Any) -> None:
    """Not only the handler: its commit too, subscribers included."""
    story: list[str] = []

    async def late(payload: Any) -> None:
        story.append("subscriber begins")
        await asyncio.sleep(0)
        story.append("subscriber ends")

    def assign(state: Any) -> None:
        story.append("turn")
        state["n"] += 1

    async def main() -> None:
        story.clear()
        app = gr.App(None, [assign], gr.Settings(watchdog=0.0))
        state = gr.State({"n": 0})
        state.subscribe_mutation("n", late)
        app.init_state(state)
        async with app:
            session = app.open_session()
            await asyncio.gather(*(session.ask("assign") for _ in range(3)))
            assert story == ["turn", "subscriber begins", "subscriber ends"] * 3
            assert session.state["n"] == 3

    arun(main)
