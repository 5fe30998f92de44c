"""Turns: commit and rollback, middlewares of every shape, places, held turns, cancel, cycles."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest
from tests.core.fakes import FakePart, FakeSession, message, scheduling, settled

from greenroom.core._turn import CallPlan, Message, Turn, current_turn
from greenroom.core.errors import BadHandler, BadPayload, Cycle, StaleTurn, Timeout, WouldBlock
from greenroom.core.state import Template
from greenroom.core.turn import cancelled
from greenroom.core.types import Place
from greenroom.core.waits import waiting

W, L, I = Place.WORKER, Place.LOOP, Place.INLINE  # noqa: E741
PLACES = pytest.mark.parametrize("place", [I, W], ids=["inline", "worker"])


def add(state: dict[str, Any], payload: Any) -> Any:
    state["n"] = state.get("n", 0) + payload
    return state["n"]


async def add_async(state: dict[str, Any], payload: Any) -> Any:
    await asyncio.sleep(0)
    return add(state, payload)


def fail(state: dict[str, Any], payload: Any) -> None:
    state["n"] = "spoiled"
    turn = current_turn()
    assert turn is not None
    turn.outbox = ["spoiled"]
    raise LookupError(payload)


async def fail_async(state: dict[str, Any], payload: Any) -> None:
    await asyncio.sleep(0)
    fail(state, payload)


def here() -> str:
    return "worker" if threading.current_thread().name.startswith("greenroom-") else "loop"


# -- call plans ---------------------------------------------------------------------------------


def test_a_call_plan_fills_every_slot() -> None:
    def fn(*args: Any, **named: Any) -> Any:
        return args, named

    turn = Turn("session", Message("ev", 5, context={"a": 1, "handler": "x"}, label="left"),
                ledger=type("L", (), {"root": "root", "view": "view"}), app="app")  # fmt: skip

    class Session:
        id = "s1"

    turn = Turn(Session, turn.message, ledger=turn.ledger, app="app")
    plan = CallPlan(fn, (0, 1, 2, 3), (("app", 4), ("event_type", 5), ("label", 6), ("data", 1)))
    told = {"a": 1, "handler": "ev", "label": "left", "session_id": "s1"}
    assert plan(turn) == (
        ("root", 5, told, Session),
        {"app": "app", "event_type": "ev", "label": "left", "data": 5},
    )
    assert turn.message.context == {"a": 1, "handler": "x"}
    assert Turn(Session, turn.message, ledger=turn.ledger, concurrent=True).state == "view"
    assert CallPlan(fn)(turn) == ((), {})
    with pytest.raises(ValueError, match="slot"):
        CallPlan(fn, (7,))
    with pytest.raises(ValueError, match="at most"):
        CallPlan(fn, (0,) * 17)


def test_a_payload_is_converted_or_the_handler_does_not_run(arun: Any) -> None:
    def convert(payload: Any) -> Any:
        if payload is None:
            raise BadPayload("null")
        return payload * 2

    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            part = FakePart(add)
            part.plan = CallPlan(add, (0, 1), (), convert)
            assert await scheduler.ask(session, message((part,), 4), 5.0) == 8
            with pytest.raises(BadPayload):
                await scheduler.ask(session, message((part,), None), 5.0)
            assert session.ledger.root == {"n": 8}

    arun(main)


# -- simple turns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ok", "bad", "place"),
    [(add, fail, I), (add, fail, W), (add_async, fail_async, L), (add_async, fail_async, W)],
    ids=["inline", "worker", "loop", "awaitable-from-worker"],
)
def test_a_turn_commits_or_rolls_back(arun: Any, ok: Any, bad: Any, place: int) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            assert await scheduler.ask(session, message(ok, 2, place), 5.0) == 2
            assert session.settled == []  # nobody is linked and nothing is to be shipped
            with pytest.raises(LookupError):
                await scheduler.ask(session, message(bad, 2, place), 5.0)
            assert session.ledger.root == {"n": 2}
            event, result, error, outbox = session.settled[0]
            assert (event, result, outbox) == (bad.__name__, None, None)
            assert isinstance(error, LookupError)
            session.linked = True
            assert await scheduler.ask(session, message(ok, 2, place), 5.0) == 4
            assert session.settled[1] == (ok.__name__, 4, None, None)
            assert session.ledger.log == ["open", "commit", "open", "rollback", "open", "commit"]
            assert (scheduler.run, scheduler.failed) == (2, 1)

    arun(main)


def test_on_error_keep(arun: Any) -> None:
    async def main() -> None:
        async with scheduling(on_error="keep") as scheduler:
            session = FakeSession(scheduler)
            with pytest.raises(LookupError):
                await scheduler.ask(session, message(fail, 1), 5.0)
            assert session.ledger.root == {"n": "spoiled"}
            assert session.settled[0][3] == ["spoiled"]

    arun(main)


def test_the_current_turn(arun: Any) -> None:
    async def main() -> None:
        later: list[asyncio.Task[Any]] = []

        async def child() -> Any:
            await asyncio.sleep(0.001)
            return current_turn()

        async def handler(_: Any, __: Any) -> Turn | None:
            later.append(asyncio.get_running_loop().create_task(child()))
            return current_turn()

        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            turn = await scheduler.ask(session, message(handler, place=L), 5.0)
            assert turn.session is session
            assert turn.ended
            assert await later[0] is turn
            assert current_turn() is None
            sync = await scheduler.ask(session, message(lambda s, p: current_turn(), place=W), 5.0)
            assert sync.session is session

    arun(main)


def test_keyboard_interrupt_leaves_the_loop_but_ends_the_turn() -> None:
    ended: list[Any] = []

    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)

            def interrupt(_: Any, __: Any) -> None:
                raise KeyboardInterrupt

            session.post(message(interrupt))
            try:
                await asyncio.sleep(5)
            finally:
                ended.append((session.running, session.ledger.log, scheduler.failed))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert ended == [(None, ["open", "rollback"], 1)]


# -- the real ledger ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ok", "bad", "place"),
    [(add, fail, I), (add, fail, W), (add_async, fail_async, L), (add_async, fail_async, W)],
    ids=["inline", "worker", "loop", "awaitable-from-worker"],
)
def test_turns_on_a_real_ledger(arun: Any, ok: Any, bad: Any, place: int) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            session.ledger = ledger = Template({"n": 0}).open()
            told: list[Any] = []

            async def hears(payload: Any, context: Any) -> None:
                await asyncio.sleep(0)
                told.append(payload["new_value"])

            ledger.root.subscribe_mutation("n", hears)
            assert await scheduler.ask(session, message(ok, 2, place), 5.0) == 2
            assert told == [2]
            with pytest.raises(LookupError):
                await scheduler.ask(session, message(bad, 2, place), 5.0)
            assert ledger.root["n"] == 2
            with pytest.raises(StaleTurn):
                ledger.root["n"] = 5
            async with scheduler.hold(session) as state:
                state["n"] = 7
            assert told == [2, 7]
            parts = (FakePart(ok, place), FakePart(add, W), FakePart(add, I))
            assert await scheduler.ask(session, message(parts, 1, place), 5.0) == 8
            assert ledger.root["n"] == 10

    arun(main)


# -- several callbacks, silence -------------------------------------------------------------------


def test_all_callbacks_run_and_the_first_answers(arun: Any) -> None:
    async def main() -> None:
        ran: list[str] = []

        def part(name: str, place: int, error: bool = False) -> FakePart:
            def sync(_: Any, __: Any) -> str:
                ran.append(f"{name} {here()}")
                if error:
                    raise LookupError(name)
                return name

            async def coro(state: Any, payload: Any) -> str:
                await asyncio.sleep(0)
                return sync(state, payload)

            return FakePart(coro if place == L else sync, place)

        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            parts = (part("a", W), part("b", L), part("c", W), part("d", I))
            assert await scheduler.ask(session, message(parts, place=W), 5.0) == "a"
            assert ran == ["a worker", "b loop", "c worker", "d loop"]
            ran.clear()
            parts = (part("a", I), part("b", W, True), part("c", L, True), part("d", W))
            with pytest.raises(LookupError, match="b"):
                await scheduler.ask(session, message(parts), 5.0)
            assert ran == ["a loop", "b worker", "c loop", "d worker"]
            assert await scheduler.ask(session, message(parts[:1], silent=True), 5.0) is None

    arun(main)


# -- middlewares --------------------------------------------------------------------------------


def around(log: list[str], name: str, *, swallow: bool = False) -> Callable[..., Any]:
    def middleware(state: Any, payload: Any) -> Generator[None, Any, None]:
        log.append(f"{name} before {here()}")
        state[name] = "before"
        try:
            result = yield
        except LookupError as error:
            log.append(f"{name} caught {error} {here()}")
            state[name] = "caught"
            if not swallow:
                raise
        else:
            log.append(f"{name} after {result} {here()}")

    return middleware


def around_async(log: list[str], name: str, *, swallow: bool = False) -> Callable[..., Any]:
    async def middleware(state: Any, payload: Any) -> AsyncGenerator[None, Any]:
        task = asyncio.current_task()
        await asyncio.sleep(0)
        log.append(f"{name} before {here()}")
        try:
            result = yield
        except LookupError as error:
            log.append(f"{name} caught {error} {here()}")
            state[name] = "caught"
            if not swallow:
                raise
        else:
            log.append(f"{name} after {result} {here()}")
        assert asyncio.current_task() is task

    return middleware


@pytest.mark.parametrize(("handler", "place"), [(add, I), (add, W), (add_async, L)])
def test_middlewares_run_around_in_order(arun: Any, handler: Any, place: int) -> None:
    async def main() -> None:
        log: list[str] = []

        def plain(state: Any, payload: Any) -> None:
            log.append(f"plain {here()}")

        async def plain_async(state: Any, payload: Any) -> None:
            await asyncio.sleep(0)
            log.append(f"async {here()}")

        async with scheduling() as scheduler:
            scheduler.middlewares = (
                FakePart(around(log, "a"), W, kind="generator"),
                FakePart(around_async(log, "b"), L, kind="async_generator"),
                FakePart(plain, W),
                FakePart(plain_async, L, kind="async"),
                FakePart(around(log, "c"), I, kind="generator"),
            )
            session = FakeSession(scheduler)
            assert await scheduler.ask(session, message(handler, 3, place), 5.0) == 3
            assert log == [
                "a before worker",
                "b before loop",
                "plain worker",
                "async loop",
                "c before loop",
                "c after 3 loop",
                "b after 3 loop",
                "a after 3 worker",
            ]
            log.clear()
            bare = message(handler, 3, place, wrapped=False)
            assert await scheduler.ask(session, bare, 5.0) == 6
            assert log == []

    arun(main)


@pytest.mark.parametrize("inner", [around, around_async], ids=["sync", "async"])
@PLACES
def test_a_middleware_that_swallows_commits_what_it_assigns_after(
    arun: Any, inner: Any, place: int
) -> None:
    async def main() -> None:
        log: list[str] = []
        async with scheduling() as scheduler:
            kind = "generator" if inner is around else "async_generator"
            where = place if inner is around else L
            scheduler.middlewares = (
                FakePart(around(log, "outer"), place, kind="generator"),
                FakePart(inner(log, "inner", swallow=True), where, kind=kind),
            )
            session = FakeSession(scheduler)
            assert await scheduler.ask(session, message(fail, "x", place), 5.0) is None
            assert session.ledger.root == {"inner": "caught"}  # all from before is undone
            assert session.ledger.log == ["open", "commit"]
            assert log[-1].startswith("outer after None")
            assert session.settled == []

    arun(main)


@PLACES
def test_a_middleware_that_raises_before_its_yield_skips_the_handler(arun: Any, place: int) -> None:
    async def main() -> None:
        log: list[str] = []

        def refuse(state: Any, payload: Any) -> Generator[None, Any, None]:
            state["refused"] = True
            if payload:
                raise PermissionError("no")
            yield

        async with scheduling() as scheduler:
            scheduler.middlewares = (
                FakePart(around(log, "outer"), place, kind="generator"),
                FakePart(refuse, place, kind="generator"),
            )
            session = FakeSession(scheduler)
            with pytest.raises(PermissionError):
                await scheduler.ask(session, message(add, 1, place), 5.0)
            assert session.ledger.root == {}
            assert len(log) == 1

    arun(main)


@PLACES
def test_a_middleware_that_raises_after_its_yield_fails_the_turn(arun: Any, place: int) -> None:
    def after(state: Any, payload: Any) -> Generator[None, Any, None]:
        yield
        raise OSError("after")

    async def main() -> None:
        async with scheduling() as scheduler:
            scheduler.middlewares = (FakePart(after, place, kind="generator"),)
            session = FakeSession(scheduler)
            with pytest.raises(OSError, match="after"):
                await scheduler.ask(session, message(add, 1, place), 5.0)
            assert session.ledger.root == {}

    arun(main)


def test_generators_that_yield_never_or_twice(arun: Any) -> None:
    def never(state: Any, payload: Any) -> Generator[None, Any, None]:
        return
        yield

    def twice(state: Any, payload: Any) -> Generator[None, Any, None]:
        try:
            yield
        except LookupError:
            pass
        yield

    async def never_async(state: Any, payload: Any) -> AsyncGenerator[None, Any]:
        return
        yield

    async def twice_async(state: Any, payload: Any) -> AsyncGenerator[None, Any]:
        yield
        yield

    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            for fn, kind, word in (
                (never, "generator", "without a yield"),
                (twice, "generator", "twice"),
                (never_async, "async_generator", "without a yield"),
                (twice_async, "async_generator", "twice"),
            ):
                scheduler.middlewares = (FakePart(fn, I, kind=kind),)
                with pytest.raises(BadHandler, match=f"{fn.__name__}.*{word}"):
                    await scheduler.ask(session, message(add, 1), 5.0)
            scheduler.middlewares = (FakePart(twice, W, kind="generator"),)
            with pytest.raises(BadHandler, match="twice"):
                await scheduler.ask(session, message(fail, 1, W), 5.0)
            assert session.ledger.root == {}

    arun(main)


# -- async subscribers --------------------------------------------------------------------------


@pytest.mark.parametrize(("handler", "place"), [(add, I), (add, W), (add_async, L)])
def test_async_subscribers_run_before_the_commit(arun: Any, handler: Any, place: int) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            ledger = session.ledger

            async def subscriber() -> None:
                await asyncio.sleep(0)
                assert ledger.log[-1] == "open"
                ledger.root["told"] = ledger.root["n"]

            def assigning(state: Any, payload: Any) -> Any:
                ledger.later.append(subscriber)
                return handler(state, payload)

            assert await scheduler.ask(session, message(assigning, 1, place), 5.0) == 1
            assert ledger.root == {"n": 1, "told": 1}

            async def bad() -> None:
                raise LookupError("subscriber")

            def spoiling(state: Any, payload: Any) -> Any:
                ledger.later.append(bad)
                state["n"] = 9

            with pytest.raises(LookupError, match="subscriber"):
                await scheduler.ask(session, message(spoiling, 1, place), 5.0)
            assert ledger.root == {"n": 1, "told": 1}

            async def again() -> None:
                ledger.later.append(again)

            def endless(state: Any, payload: Any) -> Any:
                ledger.later.append(again)

            with pytest.raises(RecursionError):
                await scheduler.ask(session, message(endless, 1, place), 5.0)

    arun(main)


# -- held turns ---------------------------------------------------------------------------------


def test_a_held_turn_on_the_loop(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            async with scheduler.hold(session) as state:
                state["n"] = 1
                turn = current_turn()
                assert turn is not None
                queued = asyncio.ensure_future(scheduler.ask(session, message(add, 5), 5.0))
                await asyncio.sleep(0)
                async with scheduler.hold(session) as inner:  # joins
                    assert inner is state
                ended = [turn.ended]
                assert session.ledger.log == ["open"]
            ended.append(turn.ended)
            assert ended == [False, True]
            assert current_turn() is None
            assert await queued == 6
            with pytest.raises(LookupError):
                async with scheduler.hold(session) as state:
                    state["n"] = "spoiled"
                    raise LookupError
            assert session.ledger.root == {"n": 6}
            with pytest.raises(WouldBlock), scheduler.hold(session):
                pass

    arun(main)


def test_a_held_turn_on_a_thread(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)

            async def subscriber() -> None:
                await asyncio.sleep(0)
                session.ledger.root["told"] = True

            def thread() -> None:
                with scheduler.hold(session) as state:
                    state["n"] = 1
                    with scheduler.hold(session) as inner:
                        inner["n"] += 1
                    session.ledger.later.append(subscriber)
                assert state["told"]
                with pytest.raises(LookupError), scheduler.hold(session) as state:
                    state["n"] = "spoiled"
                    raise LookupError

            await asyncio.to_thread(thread)
            assert session.ledger.root == {"n": 2, "told": True}

    arun(main)


def test_a_held_turn_that_is_given_up(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)

            async def wait() -> None:
                async with scheduler.hold(session):
                    raise AssertionError("not reached")

            outside = contextvars.copy_context()
            async with scheduler.hold(session):
                # In a context of its own: a child of the turn would join it.
                waits = asyncio.get_running_loop().create_task(wait(), context=outside)
                await asyncio.sleep(0)
                waits.cancel()
                await asyncio.gather(waits, return_exceptions=True)
            assert waits.cancelled()
            waits = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            scheduler.run_ready()  # the turn is given in this very moment
            waits.cancel()
            await asyncio.gather(waits, return_exceptions=True)
            await settled(scheduler)
            assert await scheduler.ask(session, message(add, 1), 5.0) == 1

    arun(main)


# -- cancelling ---------------------------------------------------------------------------------


def test_cancelling(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            begun, go = threading.Event(), threading.Event()

            def sync(state: Any, payload: Any) -> Any:
                begun.set()
                go.wait(5)
                return cancelled()

            async def waits(state: Any, payload: Any) -> Any:
                state["n"] = "spoiled"
                await asyncio.Event().wait()

            running, queued = message(sync, place=W), message(add, 1)
            answers = [scheduler.ask(session, item, 5.0) for item in (running, queued)]
            await asyncio.to_thread(begun.wait, 5)
            assert session.cancel_message(queued) == "queued"
            assert answers[1].cancelled()
            assert session.cancel_message(running) == "running"
            go.set()
            assert await answers[0] is True  # its own answer counts
            assert session.cancel_message(running) is None
            assert not cancelled()
            running = message(waits, place=L)
            answer = scheduler.ask(session, running, 5.0)
            while not session.ledger.root:
                await asyncio.sleep(0)
            assert session.cancel_message(running) == "running"
            with pytest.raises(asyncio.CancelledError):
                await answer
            await settled(scheduler)
            assert session.ledger.root == {}
            assert (scheduler.run, scheduler.cancelled, scheduler.failed) == (1, 2, 0)

    arun(main)


def test_cancelling_waits_for_a_part_on_a_worker(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)
            begun, go = threading.Event(), threading.Event()

            def sync(state: Any, payload: Any) -> None:
                begun.set()
                go.wait(5)
                state["n"] = "late"

            item = message((FakePart(add_async, L), FakePart(sync, W)), 1, L)
            answer = scheduler.ask(session, item, 5.0)
            await asyncio.to_thread(begun.wait, 5)
            session.cancel_message(item)
            await asyncio.sleep(0)
            assert session.running is not None
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await answer
            assert session.ledger.root == {}

    arun(main)


# -- waiting in circles -------------------------------------------------------------------------


def test_a_circle_is_an_error_at_once(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            a, b, c = (FakeSession(scheduler, name) for name in "abc")

            def asks(other: FakeSession, then: Any) -> Any:
                async def handler(state: Any, payload: Any) -> Any:
                    return await scheduler.ask_anywhere(other, message(then, 1, L))

                return handler

            with pytest.raises(Cycle) as circle:
                await scheduler.ask_anywhere(
                    a, message(asks(b, asks(c, asks(a, add_async))), place=L)
                )
            assert circle.value.path == ("c", "a", "b", "c")
            assert "c -> a -> b -> c" in str(circle.value)
            with pytest.raises(Cycle):
                await scheduler.ask_anywhere(a, message(asks(a, add_async), place=L))
            assert await scheduler.ask_anywhere(a, message(asks(b, add_async), place=L)) == 1
            with waiting(on=a):
                pass  # outside of a turn nobody is held up

            def asks_sync(state: Any, payload: Any) -> Any:
                with pytest.raises(Cycle):
                    scheduler.ask_anywhere(a, message(add, 1)).result()
                return scheduler.ask_anywhere(b, message(add, 1)).result()

            assert await scheduler.ask_anywhere(a, message(asks_sync, place=W)) == 2
            await asyncio.sleep(0)
            assert a.waiting is b.waiting is c.waiting is None

    arun(main)


def test_an_ask_of_a_thread_that_times_out(arun: Any) -> None:
    async def main() -> None:
        async with scheduling() as scheduler:
            session = FakeSession(scheduler)

            def thread() -> None:
                with pytest.raises(Timeout):
                    scheduler.ask_anywhere(session, message(add, 1), 0.01).result()

            outside = contextvars.copy_context()
            async with scheduler.hold(session):  # a turn of its own would be a circle
                await asyncio.get_running_loop().run_in_executor(None, outside.run, thread)
            assert scheduler.expired == 1
            assert session.ledger.root == {}

    arun(main)
