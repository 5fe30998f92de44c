"""The scheduler: places, fairness, pool, sweep, watchdog, deadlines, timers, jobs, drain."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
import weakref
from typing import Any

import pytest
from tests.core.fakes import FakeClock, FakeSession, drain, message, scheduling, settled
from tests.support.until import eventually

from greenroom.core._turn import current_turn
from greenroom.core.errors import Busy, Closed, Timeout
from greenroom.core.scheduler import Scheduler
from greenroom.core.settings import Settings
from greenroom.core.turn import cancelled
from greenroom.core.types import Lane, Place
from greenroom.core.watchdog import Blockage

W, L, I = Place.WORKER, Place.LOOP, Place.INLINE  # noqa: E741


def note(state: dict[str, Any], payload: Any) -> None:
    state.setdefault("seen", []).append(payload)


async def note_async(state: dict[str, Any], payload: Any) -> None:
    await asyncio.sleep(0)
    note(state, payload)


# -- order and fairness ---------------------------------------------------------------------------


def test_g3_first_in_first_out_over_all_places(arun: Any) -> None:
    async def main() -> None:
        rng = random.Random(3)
        async with scheduling(mailbox_messages=0) as scheduler:
            sessions = [FakeSession(scheduler, str(n)) for n in range(20)]
            for number in range(100):
                for session in sessions:
                    place = rng.choice([W, L, I])
                    handler = note_async if place == L else note
                    session.post(message(handler, number, place))
                if number % 10 == 0:
                    await asyncio.sleep(0)
            await settled(scheduler)
            for session in sessions:
                assert session.ledger.root["seen"] == list(range(100))

    arun(main)


def test_a_session_gives_way_after_its_quantum(arun: Any) -> None:
    async def main() -> None:
        order: list[str] = []
        async with scheduling(quantum_turns=3, quantum_time=0.0) as scheduler:
            for name in "ab":
                session = FakeSession(scheduler, name)
                for _ in range(7):
                    session.post(message(lambda s, p: order.append(p), name))
            await settled(scheduler)
        assert "".join(order) == "aaabbbaaabbbab"

    arun(main)


def test_a_session_gives_way_when_its_turns_are_long(arun: Any) -> None:
    async def main() -> None:
        order: list[str] = []

        def long(_: Any, name: str) -> None:
            order.append(name)
            end = time.perf_counter() + 0.001
            while time.perf_counter() < end:
                pass

        async with scheduling(quantum_time=0.0005) as scheduler:
            for name in "ab":
                session = FakeSession(scheduler, name)
                for _ in range(8):
                    session.post(message(long, name))
            await settled(scheduler)
        assert "".join(order) == "aaaabbbbaaaabbbb"

    arun(main)


def test_a_higher_lane_overtakes_across_sessions(arun: Any) -> None:
    async def main() -> None:
        order: list[str] = []
        async with scheduling() as scheduler:
            for name, lane in (("timer", 3), ("tell", 2), ("client", 1), ("close", 0)):
                FakeSession(scheduler, name).post(
                    message(lambda s, p: order.append(p), name, lane=lane)
                )
            await settled(scheduler)
        assert order == ["close", "client", "tell", "timer"]

    arun(main)


def test_the_loop_is_woken_once_per_burst() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            calls: list[Any] = []
            original = loop.call_soon

            def call_soon(*args: Any, **named: Any) -> Any:
                calls.append(args)
                return original(*args, **named)

            loop.call_soon = call_soon  # type: ignore[method-assign, assignment]
            scheduler.attach(loop, scheduler.base)  # type: ignore[arg-type]
            for number in range(50):
                session.post(message(note, number))
            loop.call_soon = original  # type: ignore[method-assign]
            assert len(calls) == 1
            await settled(scheduler)

    asyncio.run(main())


def test_the_end_of_a_burst(arun: Any) -> None:
    async def main() -> None:
        order: list[str] = []
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)

            def handler(_: Any, name: str) -> None:
                order.append(name)
                if name == "a":
                    scheduler.at_end_of_burst(lambda: order.append("end"))

            for name in "abc":
                session.post(message(handler, name))
            await settled(scheduler)
            assert order == ["a", "b", "c", "end"]
            scheduler.at_end_of_burst(lambda: order.append("again"))
            await eventually(lambda: order[-1] == "again")

    arun(main)


# -- the pool -----------------------------------------------------------------------------------


def test_g4_one_turn_at_a_time(arun: Any) -> None:
    async def main() -> None:
        async with scheduling(mailbox_messages=0, workers=8) as scheduler:
            session = FakeSession(scheduler)
            inside, worst = [0], [0]

            def handler(state: dict[str, Any], _: Any) -> None:
                inside[0] += 1
                worst[0] = max(worst[0], inside[0])
                state["n"] = state.get("n", 0) + 1
                time.sleep(0)
                inside[0] -= 1

            def flood() -> None:
                for number in range(50):
                    session.post(message(handler, None, W if number % 2 else I))

            threads = [threading.Thread(target=flood) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            await settled(scheduler)
            assert worst == [1]
            assert session.ledger.root == {"n": 800}

    arun(main)


def test_one_that_sleeps_holds_up_nobody(arun: Any) -> None:
    async def main() -> None:
        go = threading.Event()
        async with scheduling(workers=2) as scheduler:
            FakeSession(scheduler, "sleeper").post(message(lambda s, p: go.wait(5), None, W))
            others = [FakeSession(scheduler, str(n)) for n in range(64)]
            await asyncio.gather(*(scheduler.ask(o, message(note, 1, W), 5.0) for o in others))
            assert scheduler.pending == 1
            go.set()

    arun(main)


def test_the_pool_grows_while_all_its_threads_are_blocked(arun: Any) -> None:
    async def main() -> None:
        go = threading.Event()
        async with scheduling(workers=1, workers_max=6, partial_after=0.01) as scheduler:
            inside: list[int] = []

            def blocked(_: Any, number: int) -> None:
                inside.append(number)
                go.wait(5)

            for number in range(8):
                FakeSession(scheduler, str(number)).post(message(blocked, number, W))
            await eventually(lambda: len(inside) == 6)
            await asyncio.sleep(0.03)
            assert len(scheduler.workers) == 6
            go.set()
            await settled(scheduler)
            await eventually(lambda: len(scheduler.workers) == 1)

    arun(main)


def test_run_on_worker(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            name = await scheduler.run_on_worker(lambda: threading.current_thread().name)
            assert name.startswith("greenroom-")
            with pytest.raises(ZeroDivisionError):
                await scheduler.run_on_worker(lambda: 1 // 0)

            def stops() -> None:
                raise StopIteration

            with pytest.raises(RuntimeError):
                await scheduler.run_on_worker(stops)

    arun(main)


# -- deadlines ----------------------------------------------------------------------------------


def test_asks_that_time_out(arun: Any) -> None:
    async def main() -> None:
        clock = FakeClock()
        async with scheduling(clock) as scheduler:
            session = FakeSession(scheduler)
            async with scheduler.hold(session):
                never = scheduler.ask(session, message(note, 1), 1.0)
                later = scheduler.ask(session, message(note, 2), 5.0)
                ever = scheduler.ask(session, message(note, 3), 0.0)
                assert clock.waiting == 2  # one for all asks; one for the sweep over the held turn
                clock.advance(1.01)
                with pytest.raises(Timeout, match="not begun"):
                    await never
                assert not later.done()
            await later
            await ever
            assert session.ledger.root["seen"] == [2, 3]
            assert (scheduler.expired, session.lost[0][0]) == (1, "note")
            go = asyncio.Event()

            async def slow(state: Any, _: Any) -> None:
                await go.wait()
                state["slow"] = True

            running = scheduler.ask(session, message(slow, None, L), 1.0)
            await asyncio.sleep(0)
            clock.advance(1.01)
            with pytest.raises(Timeout, match="still runs"):
                await running
            go.set()
            await settled(scheduler)
            assert session.ledger.root["slow"]  # it ran on, only its result is dropped

    arun(main)


def test_an_ask_nobody_waits_for_any_more_does_not_run(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            answer = scheduler.ask(session, message(note, 1), 1.0)
            answer.cancel()
            await settled(scheduler)
            assert session.ledger.root == {}
            assert scheduler.cancelled == 1

    arun(main)


def test_many_asks_leave_nothing_behind(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)

            class Payload:
                pass

            alive: weakref.WeakSet[Payload] = weakref.WeakSet()
            for _ in range(500):
                payload = Payload()
                alive.add(payload)
                await scheduler.ask(session, message(lambda s, p: None, payload), 60.0)
            assert len(alive) < 150

    arun(main)


def test_an_answer_that_is_faster_than_the_one_who_asks_is_waited_for_no_more(arun: Any) -> None:
    """The turn ends on its worker while the loop, that has posted it, still looks at the clock."""
    posted: list[Any] = []
    looked = threading.Event()

    class Slow(FakeClock):
        def time(self) -> float:
            until = time.monotonic() + 10.0
            while posted and "over" not in repr(posted[0]) and time.monotonic() < until:
                looked.set()
                os.sched_yield()
            return super().time()

    class Asked(FakeSession):
        def post(self, message: Any) -> None:
            super().post(message)
            posted.append(message)

    def work(_: Any, __: Any) -> None:
        assert looked.wait(10.0)

    async def main() -> None:
        looked.clear()
        async with scheduling(Slow()) as scheduler:
            session = Asked(scheduler)
            answer = scheduler.ask(session, message(work, None, W), 60.0)
            looked.set()
            await answer
            gone = weakref.ref(session)
            del session, answer
            posted.clear()
            await eventually(lambda: gone() is None)

    arun(main)


# -- the sweep ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [L, W], ids=["loop", "worker"])
def test_long_turns_are_shipped_in_part(arun: Any, place: int) -> None:
    async def main() -> None:
        clock = FakeClock()
        begun, go_sync, go = threading.Event(), threading.Event(), asyncio.Event()
        async with scheduling(clock, partial_after=0.1, partial_every=0.2) as scheduler:
            session = FakeSession(scheduler)

            def sync(_: Any, __: Any) -> None:
                begun.set()
                go_sync.wait(5)

            async def coro(_: Any, __: Any) -> None:
                begun.set()
                await go.wait()

            answer = scheduler.ask(session, message(coro if place == L else sync, 1, place), 0.0)
            await eventually(begun.is_set)  # it counts from here on
            await eventually(lambda: clock.waiting)
            clock.advance(0.09)
            assert session.pushed == []
            clock.advance(0.06)
            assert len(session.pushed) == 1
            clock.advance(0.1)
            assert len(session.pushed) == 1
            clock.advance(0.2)
            assert len(session.pushed) == 2
            assert session.pushed[0].session is session
            go.set()
            go_sync.set()
            await answer

    arun(main)


def test_turn_timeout(arun: Any) -> None:
    async def main() -> None:
        clock = FakeClock()
        async with scheduling(clock, turn_timeout=2.0) as scheduler:
            reports: list[str] = []
            scheduler.on_report = lambda what, error: reports.append(what)
            session = FakeSession(scheduler)

            async def forever(state: Any, _: Any) -> None:
                state["n"] = 1
                await asyncio.Event().wait()

            answer = scheduler.ask(session, message(forever, None, L), 0.0)
            await eventually(lambda: session.ledger.root)
            clock.advance(1.9)
            await asyncio.sleep(0)
            assert not answer.done()
            clock.advance(0.3)
            with pytest.raises(Timeout, match="turn_timeout"):
                await answer
            assert session.ledger.root == {}
            assert len(reports) == 1
            assert scheduler.failed == 1

    arun(main)


def test_the_sweep_ends_when_nothing_runs(arun: Any) -> None:
    async def main() -> None:
        clock = FakeClock()
        async with scheduling(clock) as scheduler:
            session = FakeSession(scheduler)
            await scheduler.ask(session, message(note_async, 1, L), 0.0)
            await scheduler.ask(session, message(note, 1, W), 0.0)
            await eventually(lambda: scheduler.idle_workers == len(scheduler.workers))
            clock.advance(10)
            assert clock.waiting == 0

    arun(main)


def test_the_watchdog_names_what_blocks_the_loop() -> None:
    async def main() -> None:
        found: list[Blockage] = []
        told = threading.Event()

        def report(blockage: Blockage) -> None:
            assert scheduler.blocked
            if blockage.function.endswith("blocks"):  # a busy machine holds up others, too
                found.append(blockage)
                told.set()

        async with scheduling(watchdog=0.05) as scheduler:
            scheduler.on_blocked = report
            session = FakeSession(scheduler)

            def blocks(_: Any, __: Any) -> None:
                told.wait(20)
                time.sleep(0.25)  # five times as long as it takes to be told again

            await scheduler.ask(session, message(blocks), 60.0)
            assert len(found) == 1
            assert found[0].filename == __file__
            assert found[0].line == blocks.__code__.co_firstlineno + 1
            assert "blocks" in str(found[0])
            assert str(found[0]).endswith(
                "await what takes time, or make it a plain `def`, which has a thread"
            )
            before = scheduler.blocked
            await asyncio.sleep(0.15)  # an idle loop is not blocked
            assert scheduler.blocked == before

    asyncio.run(main())


# -- timers -------------------------------------------------------------------------------------


def test_delays(arun: Any) -> None:
    async def main() -> None:
        clock = FakeClock()
        async with scheduling(clock) as scheduler:
            session = FakeSession(scheduler)
            timer = scheduler.delay(session, lambda _: message(note, 1, lane=Lane.BACKGROUND), 5.0)
            cancelled_one = scheduler.delay(session, lambda _: message(note, 2), 5.0)
            cancelled_one.cancel()
            cancelled_one.cancel()
            clock.advance(4.9)
            assert not scheduler.accepted
            clock.advance(0.2)
            await settled(scheduler)
            assert session.ledger.root["seen"] == [1]
            assert timer.cancelled
            assert not session.timers
            with pytest.raises(ValueError, match="negative"):
                scheduler.delay(session, lambda _: message(note), -1)

    arun(main)


def test_every_has_at_most_one_message_waiting(arun: Any) -> None:
    async def main() -> None:
        clock = FakeClock()
        async with scheduling(clock) as scheduler:
            session = FakeSession(scheduler)
            timer = scheduler.every(session, lambda _: message(note, clock.at), 1.0)
            async with scheduler.hold(session):
                clock.advance(3.5)
                assert (timer.fired, timer.skipped, len(session)) == (1, 2, 1)
            await settled(scheduler)
            clock.advance(1)
            await settled(scheduler)
            assert session.ledger.root["seen"] == [1001.0, 1004.0]
            clock.at += 10  # the loop was away: it does not catch up in a burst
            clock.advance(0)
            assert timer.fired == 3
            timer.cancel()
            clock.advance(10)
            assert clock.waiting == 0

    arun(main)


def test_timers_end_with_their_session(arun: Any) -> None:
    async def main() -> None:
        clock = FakeClock()
        async with scheduling(clock) as scheduler:
            session = FakeSession(scheduler)
            timer = scheduler.every(session, lambda _: message(note, 1), 1.0)
            session.shut()
            assert timer.cancelled
            with pytest.raises(Closed):
                scheduler.every(session, lambda _: message(note, 1), 1.0)
            session = FakeSession(scheduler)
            timer = scheduler.every(session, lambda _: message(note, 1), 1.0)
            gone = weakref.ref(session)
            del session
            gc.collect()
            assert gone() is None  # a timer keeps nobody alive
            assert timer.cancelled
            assert clock.waiting == 0

    arun(main)


def test_a_timer_made_on_a_thread(arun: Any) -> None:
    async def main() -> None:
        clock = FakeClock()
        async with scheduling(clock) as scheduler:
            session = FakeSession(scheduler)
            await asyncio.to_thread(scheduler.delay, session, lambda _: message(note, 1), 1.0)
            await eventually(lambda: clock.waiting)
            clock.advance(1)
            await settled(scheduler)
            assert session.ledger.root["seen"] == [1]

    arun(main)


# -- jobs ---------------------------------------------------------------------------------------


def test_jobs_run_beside_the_turn(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            order: list[str] = []

            async def beside(state: Any, payload: Any) -> str:
                order.append(f"start {payload}")
                turn = current_turn()
                assert turn is not None
                assert turn.concurrent
                async with scheduler.hold(session) as own:  # a short turn of its own
                    own[payload] = True
                    assert current_turn() is not turn
                return str(payload)

            async with scheduler.hold(session):
                # Posted from outside, as a link does: in the held turn's context they would join.
                jobs = [
                    message(beside, name, L, concurrent=True, link="link", id=number)
                    for number, name in enumerate("abc")
                ]
                for job in jobs:
                    session.post(job)
                await eventually(lambda: len(order) == 3)
                assert order == ["start a", "start b", "start c"]
                assert session.ledger.root == {}
            await settled(scheduler)
            assert session.ledger.root == {"a": True, "b": True, "c": True}
            results = [entry[1] for entry in session.settled if entry[0] == "beside"]
            assert sorted(results) == ["a", "b", "c"]
            assert not session.jobs

    arun(main)


def test_cancelling_jobs(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            begun = threading.Event()

            def sync(_: Any, __: Any) -> str:
                begun.set()
                while not cancelled():
                    time.sleep(0.0005)
                return "saw it"

            async def coro(_: Any, __: Any) -> None:
                await asyncio.Event().wait()

            first = scheduler.spawn(session, message(sync, None, W, wrapped=False))
            second = scheduler.spawn(session, message(coro, None, L, wrapped=False))
            early = scheduler.spawn(session, message(coro, None, L, wrapped=False))
            assert early.cancel()
            await asyncio.to_thread(begun.wait, 5)
            await asyncio.to_thread(first.cancel)
            assert second.cancel()
            await settled(scheduler)
            assert first.done
            assert first.turn.error is not None or first.turn.result == "saw it"
            assert isinstance(second.turn.error, asyncio.CancelledError)
            assert isinstance(early.turn.error, asyncio.CancelledError)
            assert not second.cancel()
            linked = message(coro, None, L, concurrent=True, link="link", id=7)
            session.post(linked)
            await asyncio.sleep(0.001)
            assert not session.cancel_event("link", 8)
            assert session.cancel_event("link", 7)
            await settled(scheduler)

    arun(main)


def test_jobs_are_limited_like_messages(arun: Any) -> None:
    async def main() -> None:
        async with scheduling(mailbox_messages=2) as scheduler:
            session = FakeSession(scheduler)

            async def coro(_: Any, __: Any) -> None:
                await asyncio.Event().wait()

            for _ in range(2):
                session.post(message(coro, None, L, concurrent=True))
            with pytest.raises(Busy):
                session.post(message(coro, None, L, concurrent=True))
            assert scheduler.refused == 1
            session.shut()
            await settled(scheduler)

    arun(main)


def test_cancelling_by_frame(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            async with scheduler.hold(session):
                for number in range(3):
                    session.post(message(note, number, link="link", id=number))
                assert session.cancel_event("link", 1)
                assert not session.cancel_event("link", 1)
                assert not session.cancel_event("other", 2)
            await settled(scheduler)
            assert session.ledger.root["seen"] == [0, 2]

    arun(main)


# -- the end ------------------------------------------------------------------------------------


def test_drain_runs_what_is_queued(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            for number in range(50):
                place = (W, L, I)[number % 3]
                session.post(message(note_async if place == L else note, number, place))
            assert await drain(scheduler, 5.0) == 0
            assert session.ledger.root["seen"] == list(range(50))
            with pytest.raises(Closed):
                session.post(message(note, 1))
            session.post(message(note, "bye", lane=Lane.CONTROL))  # hooks at the end still run
            assert await drain(scheduler, 5.0) == 0
            assert session.ledger.root["seen"][-1] == "bye"

    arun(main)


def test_drain_refuses_the_rest_at_its_deadline(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session, other = FakeSession(scheduler), FakeSession(scheduler, "b")
            begun, go = threading.Event(), threading.Event()

            async def forever(state: Any, _: Any) -> None:
                state["n"] = 1
                await asyncio.Event().wait()

            def sync(_: Any, __: Any) -> bool:
                begun.set()
                go.wait(5)
                return cancelled()

            session.post(message(forever, None, L))
            answer = scheduler.ask(other, message(sync, None, W), 0.0)
            for item in (session, other):
                for number in range(3):
                    item.post(message(note, number))
            await eventually(begun.is_set)  # one that waits for its thread is dropped like the rest
            assert await drain(scheduler, 0.02) == 8
            assert [type(error) for _, error in session.lost + other.lost] == [Closed] * 6
            go.set()
            assert await answer is True
            await settled(scheduler)
            assert session.ledger.root == {}
            stats = scheduler.stats()
            assert (stats["run"], stats["cancelled"], stats["dropped"]) == (1, 1, 6)

    arun(main)


def test_stop_ends_every_thread(arun: Any) -> None:
    async def main() -> None:
        before = set(threading.enumerate())
        async with scheduling(watchdog=0.1) as scheduler:
            sessions = [FakeSession(scheduler, str(n)) for n in range(8)]
            await asyncio.gather(*(scheduler.ask(s, message(note, 1, W), 5.0) for s in sessions))
            assert set(threading.enumerate()) - before
        assert not {t for t in set(threading.enumerate()) - before if "greenroom" in t.name}

    arun(main)


def test_stop_waits_for_a_thread_that_has_answered_and_is_on_its_way_out(arun: Any) -> None:
    pool: Any = None

    class Slow(FakeSession):
        def settle(self, turn: Any, error: Any) -> None:
            super().settle(turn, error)  # whoever asked may go on, and stop the scheduler
            while pool.loop is not None:
                os.sched_yield()
            threading.Event().wait(0.1)

    async def main() -> None:
        nonlocal pool
        async with scheduling() as scheduler:
            pool = scheduler
            session = Slow(scheduler)
            session.linked = True
            await scheduler.ask(session, message(note, 1, W), 5.0)
            (worker,) = scheduler.workers
        assert not worker.thread.is_alive()

    arun(main)


def test_a_scheduler_can_start_again(arun: Any) -> None:
    scheduler = Scheduler(settings=Settings(watchdog=0.0))

    async def main() -> None:
        for _ in range(2):
            scheduler.start()
            with pytest.raises(RuntimeError, match="already"):
                scheduler.start()
            session = FakeSession(scheduler)
            await scheduler.ask(session, message(note, 1), 5.0)
            await scheduler.ask(session, message(note, 1, W), 5.0)
            await drain(scheduler, 1.0)
            await scheduler.stop()
            await scheduler.stop()

    arun(main)


def test_what_cannot_be_settled_is_reported_and_answered(arun: Any) -> None:
    class Broken(FakeSession):
        def settle(self, turn: Any, error: Any) -> None:
            raise OSError("settle")

    async def main() -> None:
        async with scheduling() as scheduler:
            reports: list[Any] = []
            scheduler.on_report = lambda what, error: reports.append(error)
            session = Broken(scheduler)
            session.linked = True
            with pytest.raises(OSError, match="settle"):
                await scheduler.ask(session, message(note, 1), 5.0)
            assert len(reports) == 1
            scheduler.post_to_loop(lambda: 1 // 0)
            await eventually(lambda: len(reports) == 2)

    arun(main)


def test_g23_conservation_in_a_storm(arun: Any) -> None:
    async def main() -> None:
        rng = random.Random(23)
        async with scheduling(mailbox_messages=8, workers=3) as scheduler:
            sessions = [FakeSession(scheduler, str(n)) for n in range(6)]

            def fails(state: dict[str, Any], _: Any) -> None:
                state["n"] = 1
                raise LookupError

            async def waits(_: Any, __: Any) -> None:
                await asyncio.sleep(0.001)

            sent = 0
            answers: list[asyncio.Future[Any]] = []
            for step in range(600):
                session = rng.choice(sessions)
                handler, place = rng.choice(
                    [(note, I), (note, W), (fails, I), (fails, W), (waits, L), (note_async, L)]
                )
                item = message(handler, step, place, lane=rng.randrange(1, 4))
                sent += 1
                try:
                    if rng.random() < 0.5:
                        answers.append(scheduler.ask(session, item, rng.choice([0.0005, 5.0])))
                    else:
                        session.post(item)
                except Busy:
                    continue
                if rng.random() < 0.1:
                    session.cancel_message(item)
                if rng.random() < 0.1:
                    await asyncio.sleep(0)
            sessions[0].shut()
            await settled(scheduler)
            await asyncio.gather(*answers, return_exceptions=True)
            stats = scheduler.stats()
            assert stats["accepted"] + stats["refused"] == sent
            assert stats["pending"] == 0
            assert all(session.ledger.owner == 0 for session in sessions)

    arun(main)
