"""The drain: in which order things end, who is told what, and what a client may rely on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.core.visitor import Visitor

from greenroom import App, Closed, Settings, cancelled, handler
from greenroom.adapters import memory
from greenroom.client import Client, connect
from greenroom.core.drain import RETURNS
from greenroom.core.stats import unbalanced
from greenroom.testing import ManualClock


@handler(inline=True)
def add(state: Any, payload: int = 1) -> int:
    state["count"] += payload
    result: int = state["count"]
    return result


def going(frame: dict[str, Any]) -> bool:
    return (frame["type"], frame["data"].get("code")) == ("gr:close", "draining")


async def steps(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def rest(visitor: Visitor) -> list[dict[str, Any]]:
    """Everything until the end of the line."""
    frames: list[dict[str, Any]] = []
    with contextlib.suppress(EOFError):
        while True:
            frames.append(await visitor.next())
    return frames


async def stopped(app: App, drain: float) -> None:
    """Stop, and see that everything that was counted came to its end (G23)."""
    await app.stop(drain)
    assert unbalanced(app.stats()) == []


def workers() -> set[threading.Thread]:
    """The threads of all pools; tests before this one may have left some behind."""
    return {each for each in threading.enumerate() if each.name.startswith("greenroom-")}


class Gate:
    """A handler that waits until it may end."""

    def __init__(self) -> None:
        self.begun, self.open = asyncio.Event(), asyncio.Event()

    async def wait(self) -> str:
        self.begun.set()
        await self.open.wait()
        return "done"


# -- the order ------------------------------------------------------------------------------------


def test_nothing_new_then_no_listener_then_the_clients(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"count": 0}, handlers=[add])
        await app.start()
        visitor = await Visitor(app).open()
        seen: list[Any] = []

        def close() -> None:
            seen.append(app.phase)
            with pytest.raises(Closed):
                Visitor(app)
            seen.append(visitor.line.ended)
            raise RuntimeError("a socket that cannot be closed")

        app.listeners += [close, lambda: seen.append("the second too")]
        stopping = asyncio.ensure_future(stopped(app, 5))
        await asyncio.sleep(0)  # one step: no listener, before anything else happens
        assert seen == ["draining", None, "the second too"]
        assert going(await visitor.until("gr:close"))
        await stopping
        assert app.stats()["closes"] == {"draining": 1}

    arun(story)


def test_who_waits_for_nothing_leaves_at_once_and_the_others_with_their_answer(arun: Any) -> None:
    async def story() -> None:
        gate = Gate()
        app = App(state={"count": 0}, handlers=[add, gate.wait])
        await app.start()
        idle, busy = await Visitor(app).open(), await Visitor(app).open()
        bare = app.open_session()
        number = busy.send("wait")
        queued = busy.send("add", 2)
        await gate.begun.wait()
        stopping = asyncio.ensure_future(stopped(app, 5))
        assert going((await rest(idle))[-1])
        assert bare.id not in app.sessions
        late = busy.send("add", 3)
        refused = await busy.answer(late)
        assert refused["code"] == "closed"
        assert not stopping.done()
        gate.open.set()
        assert await busy.answer(number) == "done"
        assert await busy.answer(queued) == 2
        assert going((await rest(busy))[-1])
        await stopping
        ended = app.scheduler.stats()
        assert (ended["run"], ended["refused"], ended["pending"]) == (2, 1, 0)

    arun(story)


def test_every_answer_leaves_before_the_close(arun: Any) -> None:
    """Workers put their answers into an inbox: a session must not leave ahead of them."""

    def work(state: Any, payload: int) -> int:
        state["count"] += 1
        return payload

    async def story() -> None:
        app = App(state={"count": 0}, handlers=[work], settings=Settings(workers=8))
        await app.start()
        visitors = [await Visitor(app).open() for _ in range(40)]
        sent = {visitor: [visitor.send("work", n) for n in range(20)] for visitor in visitors}
        for visitor in visitors:
            await visitor.line.settled()
        await stopped(app, 20)
        for visitor in visitors:
            frames = await rest(visitor)
            answers = [frame["id"] for frame in frames if frame["type"] == "gr:result"]
            assert answers == sent[visitor]
            assert going(frames[-1])

    arun(story)


def test_a_slow_reader_gets_its_answers_first(arun: Any) -> None:
    def much() -> str:
        return "x" * 60_000

    async def story() -> None:
        app = App(handlers=[handler(inline=True)(much)])
        await app.start()
        visitor = await Visitor(app).open()
        visitor.line.stall()
        for _ in range(6):
            visitor.send("much")
        await steps()
        stopping = asyncio.ensure_future(stopped(app, 10))
        await steps(50)
        assert not stopping.done()
        visitor.line.resume()
        frames = await rest(visitor)
        assert [frame["type"] for frame in frames] == ["gr:result"] * 6 + ["gr:close"]
        await stopping

    arun(story)


# -- what does not end by itself ----------------------------------------------------------------


def test_at_the_end_what_runs_is_cancelled_and_what_waits_did_not_run(arun: Any) -> None:
    async def story() -> None:
        async def long(state: Any) -> None:
            state["count"] = 99
            await asyncio.Event().wait()

        app = App(state={"count": 0}, handlers=[long, add])
        counts: list[int] = []
        app.on_close(lambda state: counts.append(state["count"]))
        await app.start()
        visitor = await Visitor(app).open()
        first, second = visitor.send("long"), visitor.send("add")
        await visitor.line.settled()
        began = time.monotonic()
        await stopped(app, 0.4)
        assert 0.25 < time.monotonic() - began < 5
        frames = await rest(visitor)
        codes = {frame.get("id"): frame["data"]["code"] for frame in frames if "id" in frame}
        assert codes == {first: "cancelled", second: "closed"}
        assert going(frames[-1])
        assert counts == [0]  # rolled back, and the hook ran once

    arun(story)


def test_a_stuck_worker_costs_no_more_than_the_drain(arun: Any) -> None:
    async def story() -> None:
        go, begun, saw = threading.Event(), threading.Event(), []
        before = workers()

        def stuck() -> None:
            begun.set()
            go.wait(20)
            saw.append(cancelled())

        app = App(state={"count": 0}, handlers=[stuck, add])
        await app.start()
        visitor = await Visitor(app).open()
        number = visitor.send("stuck")
        await asyncio.to_thread(begun.wait)
        began = time.monotonic()
        await stopped(app, 0.4)
        assert time.monotonic() - began < 5
        frames = await rest(visitor)
        assert not [frame for frame in frames if frame.get("id") == number]
        assert going(frames[-1])
        (thread,) = workers() - before
        go.set()
        await asyncio.to_thread(thread.join)
        assert saw == [True]

    arun(story)


@pytest.mark.parametrize("kind", ["job", "turn"])
def test_who_waits_on_the_loop_for_a_stuck_worker_waits_no_more(arun: Any, kind: str) -> None:
    """The task would stay behind, and whoever cancels all tasks at the end, wait for it for ever."""

    async def story() -> None:
        go, begun, saw = threading.Event(), threading.Event(), []
        before = workers()

        def stuck() -> None:
            begun.set()
            go.wait(20)
            saw.append(cancelled())

        app = App(state={"count": 0}, handlers=[stuck])
        if kind == "turn":

            @app.middleware()
            async def around() -> AsyncGenerator[None]:
                yield

        await app.start()
        session = app.open_session()
        if kind == "job":
            session.spawn(stuck)
        else:
            session.tell("stuck")
        await asyncio.to_thread(begun.wait)
        await stopped(app, 0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert app.scheduler.stats()["cancelled"] == 1
        (thread,) = workers() - before
        go.set()
        await asyncio.to_thread(thread.join)
        assert saw == [True]

    arun(story)


def test_jobs_and_timers_hold_nobody(arun: Any) -> None:
    async def story() -> None:
        ended: list[str] = []

        async def ticker() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        app = App(state={"count": 0}, handlers=[add])
        await app.start()
        visitor = await Visitor(app).open()
        visitor.session.spawn(ticker)
        visitor.session.tell("add", every=3600.0)
        await steps()
        await asyncio.wait_for(stopped(app, 60), 10)
        assert ended == ["cancelled"]
        assert going((await rest(visitor))[-1])

    arun(story)


def test_concurrent_handlers_and_queries_are_waited_for(arun: Any) -> None:
    async def story() -> None:
        gate = Gate()

        @handler(concurrent=True)
        async def beside() -> str:
            return await gate.wait()

        app = App(handlers=[beside])
        asked, reply = asyncio.Event(), asyncio.Event()

        @app.events.query("model:count", internal=False)
        async def count(_: Any) -> int:
            asked.set()
            await reply.wait()
            return 3

        await app.start()
        one, two = await Visitor(app).open(), await Visitor(app).open()
        first = one.send("beside")
        second = two.send("gr:query", {"name": "model:count", "data": None})
        await gate.begun.wait()
        await asked.wait()
        stopping = asyncio.ensure_future(stopped(app, 20))
        await steps()
        gate.open.set()
        assert await one.answer(first) == "done"
        assert going((await rest(one))[-1])
        assert not two.line.over
        reply.set()
        assert await two.answer(second) == 3
        assert going((await rest(two))[-1])
        await stopping

    arun(story)


def test_what_clients_ask_beside_the_turns_is_not_begun_any_more(arun: Any) -> None:
    async def story() -> None:
        gate = Gate()

        async def wait() -> str:
            return await gate.wait()

        app = App(handlers=[wait])
        begun: list[str] = []
        app.events.create_signal("model:poked", internal=False, client_trigger=True)
        app.events.event("model:poked")(lambda _: begun.append("reaction"))
        app.events.query("model:count", internal=False)(lambda _: begun.append("answer"))
        await app.start()
        visitor = await Visitor(app).open()
        waiting = visitor.send("wait")
        await gate.begun.wait()
        stopping = asyncio.ensure_future(stopped(app, 20))
        await steps()
        for kind, name in (("gr:query", "model:count"), ("gr:trigger", "model:poked")):
            assert (await visitor.call(kind, {"name": name, "data": None}))["code"] == "closed"
        gate.open.set()
        assert await visitor.answer(waiting) == "done"
        await stopping
        assert begun == []

    arun(story)


def test_questions_to_users_are_over(arun: Any) -> None:
    async def story() -> None:
        async def ask(session: Any) -> list[Any]:
            return [await session.confirm("Sure?"), await session.confirm("Really?")]

        app = App(handlers=[ask])
        await app.start()
        visitor = await Visitor(app).open()
        number = visitor.send("ask")
        await visitor.until("gr:confirm")
        await asyncio.wait_for(stopped(app, 60), 10)
        frames = await rest(visitor)
        assert [f["data"] for f in frames if f.get("id") == number] == [[None, None]]
        assert not [f for f in frames if f["type"] == "gr:confirm"]

    arun(story)


def test_reactions_empty_their_queues(arun: Any) -> None:
    async def story() -> None:
        heard: list[int] = []
        app = App()

        @app.events.event("model:changed")
        async def react(data: int) -> None:
            await asyncio.sleep(0)
            heard.append(data)

        await app.start()
        for number in range(20):
            await app.events.trigger("model:changed", number)
        await stopped(app, 20)
        assert heard == list(range(20))
        assert app.events.counters["expired"] == 0

    arun(story)


def test_a_session_that_is_opening_opens_first(arun: Any) -> None:
    async def story() -> None:
        gate, hooks = Gate(), []
        app = App(state={"count": 7})

        @app.on_open
        async def opened() -> None:
            await gate.wait()
            hooks.append("open")

        app.on_close(lambda: hooks.append("close"))
        await app.start()
        visitor = Visitor(app)
        await visitor.hello()
        await gate.begun.wait()
        stopping = asyncio.ensure_future(stopped(app, 20))
        await steps()
        gate.open.set()
        frames = await rest(visitor)
        assert [frame["type"] for frame in frames] == ["gr:snapshot", "gr:close"]
        await stopping
        assert hooks == ["open", "close"]

    arun(story)


# -- stopping again -----------------------------------------------------------------------------


def test_a_second_stop_waits_and_may_bring_the_end_nearer(arun: Any) -> None:
    async def story() -> None:
        gate = Gate()
        app = App(handlers=[gate.wait])
        await app.start()
        visitor = await Visitor(app).open()
        number = visitor.send("wait")
        await gate.begun.wait()
        first = asyncio.ensure_future(stopped(app, 60))
        await steps()
        longer = asyncio.ensure_future(stopped(app, 600))
        await steps()
        assert not first.done()
        await asyncio.wait_for(app.stop(0), 10)
        await asyncio.gather(first, longer)
        assert app.phase == "stopped"
        frames = await rest(visitor)
        assert [f["data"]["code"] for f in frames if f.get("id") == number] in ([], ["cancelled"])

    arun(story)


def test_whoever_waits_for_a_stop_may_give_up(arun: Any) -> None:
    async def story() -> None:
        gate = Gate()
        app = App(handlers=[gate.wait])
        await app.start()
        visitor = await Visitor(app).open()
        visitor.send("wait")
        await gate.begun.wait()
        waiting = asyncio.ensure_future(stopped(app, 60))
        await steps()
        waiting.cancel()
        await steps()
        assert app.phase == "draining"
        gate.open.set()
        await app.stop()
        assert app.phase == "stopped"

    arun(story)


def test_a_handler_may_stop_its_app(arun: Any) -> None:
    async def story() -> None:
        async def goodbye(app: Any) -> None:
            app.start_task(app.stop(5))

        app = App(handlers=[goodbye])
        await app.start()
        visitor = await Visitor(app).open()
        number = visitor.send("goodbye")
        frames = await rest(visitor)
        assert [f["data"] for f in frames if f.get("id") == number] == [None]
        assert going(frames[-1])
        await app.stop()

    arun(story)


# -- coming back --------------------------------------------------------------------------------


def test_many_come_back_one_after_the_other_and_few_soon(arun: Any) -> None:
    async def afters(number: int, drain: float) -> list[float]:
        app = App()
        await app.start()
        visitors = [await Visitor(app).open() for _ in range(number)]
        await app.stop(drain)
        return [(await rest(visitor))[-1]["data"]["after"] for visitor in visitors]

    async def story() -> None:
        many = await afters(400, 30.0)
        spread = 400 / RETURNS
        for part in range(8):  # nobody's empty eighth: 1e-22
            assert [a for a in many if part / 8 <= a / spread <= (part + 1) / 8]
        assert max(many) <= spread
        assert max(await afters(3, 30.0)) <= 3 / RETURNS
        hurried = await afters(400, 2.0)  # all of them within the drain
        assert max(hurried) <= 1.5

    arun(story, timeout=60)


def test_clients_dial_when_they_were_told_to(arun: Any) -> None:
    """Both halves on clocks that stand still: nobody dials early, all are back within the drain."""

    async def story() -> None:
        clock, drain = ManualClock(), 3.0
        old, new = App(state={"n": 1}), App(state={"n": 2})
        apps = [old]
        dialled: list[float] = []

        def dial() -> Any:
            dialled.append(clock.time())
            return memory.connect(apps[0])

        clients: list[Client] = []
        await old.start()
        await new.start()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(150):
                client = connect(dial, clock=clock)
                clients.append(await stack.enter_async_context(client))
            dialled.clear()
            went = clock.time()
            await old.stop(drain)
            apps[0] = new
            await steps()
            assert not dialled
            for _ in range(30):
                clock.advance(drain / 30)
                await steps()
            assert len(dialled) == 150
            assert len({round(at - went, 1) for at in dialled}) > 8
            await asyncio.gather(*(until_live(client) for client in clients))
            assert {client.state["n"] for client in clients} == {2}
        await new.stop(0)

    arun(story, timeout=60)


async def until_live(client: Client) -> None:
    while client.status != "live":
        await asyncio.sleep(0)
