"""How things end: every accepted frame is answered, nothing hangs, nothing grows without bounds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import weakref
from collections import Counter
from typing import Any

import pytest
from tests.core.fakes import FakeSession, message, scheduling
from tests.core.visitor import Visitor
from tests.support.until import eventually

from greenroom import App, Cycle, Settings, Timeout
from greenroom.core._runner import Worker
from greenroom.core.log import Record
from greenroom.core.types import Place
from greenroom.testing import ManualClock


def add(state: Any, payload: int = 1) -> int:
    state["count"] = (state["count"] or 0) + payload
    result: int = state["count"]
    return result


def frames_of(visitor: Visitor) -> list[tuple[str, Any]]:
    """Type and id of what has come."""
    return [(frame["type"], frame.get("id")) for frame in visitor.frames]


async def rest(visitor: Visitor) -> None:
    """Everything up to the end of the line."""
    try:
        while True:
            await visitor.next()
    except EOFError:
        pass


# -- time ---------------------------------------------------------------------------------------


def test_a_session_that_ends_by_time_runs_on_close(arun: Any) -> None:
    async def story() -> None:
        clock, ended = ManualClock(), []
        app = App(settings=Settings(session_ttl=10), clock=clock)

        @app.on_close
        def bye(session: Any) -> None:
            ended.append(session.id)

        async with app:
            session = app.open_session()
            clock.advance(11)
            while app.sessions:
                await asyncio.sleep(0)
            assert ended == [session.id]

    arun(story)


def test_a_deadline_that_raises_leaves_the_others_their_time(arun: Any) -> None:
    class Subject:
        watched: float | None = None

        def __init__(self, when: float, broken: bool = False) -> None:
            self.when: float | None = when
            self.broken = broken
            self.seen = 0

        def deadline(self) -> float | None:
            return self.when

        def due(self, now: float) -> None:
            self.when = None
            self.seen += 1
            if self.broken:
                raise RuntimeError("broken")

    async def story() -> None:
        clock = ManualClock()
        async with App(clock=clock) as app:
            broken, whole = Subject(clock.time() + 1, broken=True), Subject(clock.time() + 2)
            app.deadlines.watch(broken)
            app.deadlines.watch(whole)
            with pytest.raises(RuntimeError):
                clock.advance(1)
            clock.advance(5)
            assert (broken.seen, whole.seen) == (1, 1)

    arun(story)


# -- answers ------------------------------------------------------------------------------------


class Spiteful(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd:
    def to_dict(self) -> Any:
        raise KeyError("nothing here")


@pytest.mark.parametrize("debug", [True, False])
def test_a_handler_is_answered_for_whatever_its_result_or_error_does(
    arun: Any, debug: bool
) -> None:
    def spite() -> None:
        raise Spiteful

    def odd(state: Any) -> Any:
        state["count"] = 1
        return Odd()

    async def story() -> None:
        async with App(handlers=[spite, odd], settings=Settings(debug=debug)) as app:
            visitor = await Visitor(app).open()
            for name in ("spite", "odd"):
                assert (await visitor.call(name))["code"] == "handler_error"
            assert visitor.session.state["count"] == 1  # the effects stand
            assert any(frame["type"] == "gr:state" for frame in visitor.frames)

    arun(story)


def test_a_handler_that_closes_its_session_is_answered_first(arun: Any) -> None:
    def leave(session: Any) -> str:
        session.close("logged out")
        return "bye"

    async def leave_async(session: Any) -> str:
        session.close("logged out")
        await asyncio.sleep(0)
        return "bye"

    async def story() -> None:
        async with App(handlers=[leave, leave_async]) as app:
            for name in ("leave", "leave_async"):
                visitor = await Visitor(app).open()
                visitor.send(name)
                await rest(visitor)
                assert frames_of(visitor)[-2:] == [("gr:result", 1), ("gr:close", None)]
                assert visitor.frames[-2]["data"] == "bye"
            assert not app.sessions
            stats = app.stats()["messages"]
            assert stats["accepted"] == stats["run"] + stats["dropped"]

    arun(story)


def test_frames_that_nobody_will_answer_are_answered_when_the_session_ends(arun: Any) -> None:
    async def story() -> None:
        app = App()

        @app.events.query("app:slow", internal=False)
        async def slow(data: Any) -> None:
            await asyncio.sleep(60)

        async with app:
            visitor = await Visitor(app).open()
            visitor.send("gr:query", {"name": "app:slow"})
            await visitor.line.settled()
            visitor.session.close("over")
            await rest(visitor)
            assert frames_of(visitor)[-2:] == [("gr:error", 1), ("gr:close", None)]
            assert visitor.frames[-2]["data"]["code"] == "closed"

    arun(story)


# -- views --------------------------------------------------------------------------------------


def test_views_come_and_go_while_the_mailbox_is_full(arun: Any) -> None:
    async def story() -> None:
        begun = asyncio.Event()

        async def hold() -> None:
            begun.set()
            await asyncio.Event().wait()

        app = App(handlers=[hold, add], settings=Settings(mailbox_messages=2))
        for event in ("view:opened", "view:closed"):
            app.on(event, lambda: None)
        async with app:
            visitor = await Visitor(app).open()
            session = visitor.session
            running = asyncio.ensure_future(session.ask("hold", timeout=0))
            await begun.wait()
            session.tell("add")
            session.tell("add")
            other = await Visitor(app).open(token=visitor.welcome["token"])
            assert len(session.links) == 2
            other.raw(type="gr:bye")
            await rest(other)
            assert len(session.links) == 1
            assert not app.stats()["messages"]["failed"]
            running.cancel()
            session.cancel(session.running.message)

    arun(story)


# -- bounds -------------------------------------------------------------------------------------


def test_a_link_that_waits_for_its_client_is_bounded_for_every_kind_of_frame(arun: Any) -> None:
    async def story() -> None:
        app = App(settings=Settings(log_bytes=1000))
        app.events.create_signal("app:news", internal=False)
        async with app:
            visitor = await Visitor(app).open()
            await visitor.call("gr:subscribe", {"name": "app:news"})
            session = visitor.session
            (link,) = session.links.values()
            visitor.line.cut()
            for _ in range(50):
                session.emit("app:update", "x" * 500)
                await asyncio.sleep(0)
                assert link.unsent_bytes <= 5 * 1000
            for _ in range(50):
                await app.events.trigger("app:news", "x" * 500)
                await asyncio.sleep(0)
                assert link.unsent_bytes <= 5 * 1000
            for _ in range(50):
                app.broadcast("app:update", "x" * 500)
                await asyncio.sleep(0)
                assert link.unsent_bytes <= 5 * 1000

    arun(story)


def test_one_transport_that_breaks_its_promise_holds_up_nobody_else(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=[add]) as app:
            broken, whole = await Visitor(app).open(), await Visitor(app).open()

            def burst(*packets: Any) -> None:
                raise OSError("broken pipe")

            broken.line.sent = burst  # type: ignore[method-assign, assignment]
            for _ in range(3):
                broken.send("add")
                number = whole.send("add")
                async with asyncio.timeout(5):
                    await whole.answer(number)
            del broken.line.sent

    arun(story)


# -- threads ------------------------------------------------------------------------------------


def test_a_session_that_was_taken_is_taken_once(arun: Any) -> None:
    """Freeing the session that was served before may run code, and let other threads run."""
    taken, posted = threading.Event(), threading.Event()
    overlap: list[int] = []
    inside = 0

    class Slow:
        def __del__(self) -> None:
            taken.set()
            posted.wait(5)

    def work(state: Any, payload: Any) -> None:
        nonlocal inside
        inside += 1
        overlap.append(inside)
        threading.Event().wait(0.3)
        inside -= 1

    async def story() -> None:
        taken.clear()
        posted.clear()
        overlap.clear()
        async with scheduling() as scheduler:
            other = FakeSession(scheduler, "b")

            def post() -> None:
                taken.wait(5)
                other.post(message(work, place=Place.WORKER, lane=1))
                threading.Event().wait(0.05)
                posted.set()

            thread = threading.Thread(target=post)
            thread.start()
            first = FakeSession(scheduler, "a")
            first.ledger.root["slow"] = Slow()  # freed with the session
            first.ledger.before = first.settled = first.ledger.view = None  # type: ignore[assignment]
            first.post(message(lambda state, payload: None))
            del first
            other.post(message(work, place=Place.INLINE, lane=2))
            await eventually(lambda: not scheduler.pending and posted.is_set())
            thread.join()
            assert taken.is_set()
            assert overlap == [1, 1]

    arun(story)


def test_an_ask_that_is_begun_while_it_expires_is_told_so(arun: Any) -> None:
    async def story() -> None:
        go, begun, release = threading.Event(), threading.Event(), threading.Event()

        def block(state: Any, payload: Any) -> None:
            go.wait(5)

        def run(state: Any, payload: Any) -> None:
            begun.set()
            release.wait(5)

        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            session.post(message(block, place=Place.WORKER))
            asked = message(run, place=Place.WORKER)
            original = scheduler.expired_error

            def late(message: Any) -> Timeout:
                go.set()  # just now a worker takes it
                begun.wait(5)
                return original(message)

            scheduler.expired_error = late  # type: ignore[method-assign]
            future = scheduler.ask(session, asked, 0.02)
            with pytest.raises(Timeout):
                async with asyncio.timeout(3):
                    await future
            release.set()

    arun(story)


# -- leaks --------------------------------------------------------------------------------------


def test_a_thousand_visits_leave_nothing_behind_without_the_collector(
    arun: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1, "greenroom")  # records keep tracebacks

    async def slow(session: Any, state: Any) -> None:
        state["slow"] = [1, {"a": 2}]
        await asyncio.sleep(0)
        session.emit("app:done", 1)

    def fail(state: Any) -> None:
        state["count"] = -1
        raise RuntimeError("failed")

    def work(state: Any) -> None:
        state["nested"] = {"x": [1, 2]}

    async def job(session: Any) -> None:
        async with session.turn() as state:
            state["job"] = 1

    def start(session: Any) -> None:
        session.spawn(job)

    def every(session: Any) -> None:
        session.tell("add", delay=60.0)
        session.tell("add", every=60.0)

    async def asks(session: Any) -> None:
        with contextlib.suppress(Cycle):
            await session.ask("add")

    async def story() -> None:
        app = App(
            state={"count": 0, "rows": [1]},
            handlers=[add, slow, fail, work, start, every, asks],
            settings=Settings(watchdog=0),
        )
        app.on_close(lambda session: None)

        @app.events.query("app:ask", internal=False)
        async def answer(data: Any) -> Any:
            return data

        app.events.create_signal("app:news", internal=False)
        refs: list[weakref.ref[Any]] = []

        async def visit() -> None:
            visitor = await Visitor(app).open()
            refs.append(weakref.ref(visitor.session))
            for name in ("add", "slow", "fail", "work", "start", "every", "asks"):
                await visitor.call(name)
            await visitor.call("gr:query", {"name": "app:ask", "data": 1})
            await visitor.call("gr:subscribe", {"name": "app:news"})
            visitor.raw(type="gr:ack", data={"seq": visitor.seq})
            number = visitor.seq
            session = visitor.session
            visitor.line.cut()
            await asyncio.sleep(0)
            again = Visitor(app)
            await again.hello(**visitor.back())
            assert again.welcome["resumed"] or number == 0
            session.close("over")
            await rest(again)

        async def settle() -> None:
            pool = app.scheduler
            await eventually(lambda: not pool.pending and pool.idle_workers == len(pool.workers))
            for _ in range(20):
                await asyncio.sleep(0)

        def census() -> Counter[str]:
            return Counter(
                type(thing).__name__
                for thing in gc.get_objects()
                if str(type(thing).__module__).startswith("greenroom")
                and not isinstance(thing, (Record, Worker))  # a ring, and the pool
            )

        async with app:
            for _ in range(5):
                await visit()
            await settle()
            gc.collect()
            refs.clear()
            before = census()
            gc.disable()
            try:
                for _ in range(VISITS):
                    await visit()
                await settle()
                alive = sum(ref() is not None for ref in refs)
                assert alive == 0, f"{alive} of {len(refs)} sessions still exist"
                grown = census() - before
                assert sum(grown.values()) <= 10, grown
            finally:
                gc.enable()
            stats = app.stats()
            assert stats["sessions"] == stats["links"] == stats["connections"] == 0
            messages = stats["messages"]
            assert messages["pending"] == 0
            assert len(app.deadlines) <= 4 * (VISITS + 5)  # small entries, until they are due

    arun(story, timeout=120)


VISITS = 500  # on each of two loops
