"""G8: a handler that raises leaves every assigned key as it was, and hurts no other session.

A handler is made to raise at each boundary between two of its statements, one after the other; the
state and the frames of its clients are compared with those from before.
"""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.byteline import ByteLine
from tests.support.gates import Gates
from tests.support.visitor import Visitor

import greenroom as gr
from greenroom.testing import ManualClock

INITIAL: dict[str, Any] = {
    "n": 1,
    "text": "abc",
    "rows": [1, 2],
    "nest": {"a": 1, "deep": {"b": [1], "c": {"d": 2}}},
    "gone": "soon",
    "_private": {"k": 1},
}


class Boom(Exception):
    pass


Step = Callable[[Any, gr.Session], Any]

#: One statement each: everything that a handler can do to state and clients.
STATEMENTS: list[Step] = [
    lambda state, session: state.__setitem__("n", 2),
    lambda state, session: state.__setitem__("n", state["n"] + 1),
    lambda state, session: session.emit("app:first", 1),
    lambda state, session: state.__setitem__("text", state["text"] + "def"),
    lambda state, session: state.append("rows", 3),
    lambda state, session: state.extend("rows", [4, {"five": 5}]),
    lambda state, session: state["nest"].__setitem__("a", None),
    lambda state, session: state["nest"]["deep"]["c"].__setitem__("new", {"x": 1}),
    lambda state, session: state["nest"]["deep"].append("b", 2),
    lambda state, session: session.notify("half done"),
    lambda state, session: state["nest"]["deep"].__delitem__("c"),
    lambda state, session: state["nest"]["deep"].__setitem__("c", {"again": True}),
    lambda state, session: state.__delitem__("gone"),
    lambda state, session: state.__setitem__("gone", ["back", {"as": "a list"}]),
    lambda state, session: state.pop("text"),
    lambda state, session: state.setdefault("text", "other"),
    lambda state, session: state["_private"].__setitem__("k", 2),
    lambda state, session: state.update({"n": 7, "more": {"m": 1}}),
    lambda state, session: state.__setitem__("nest", state["nest"]),
    lambda state, session: state.replace({"all": "new", "nest": {"a": 2}}),
    lambda state, session: state.__setitem__("n", 9),
    lambda state, session: session.emit("app:last", 2),
]
HALVES = len(STATEMENTS) // 2


class Stage:
    """An app with one client, whose handlers run the statements up to one and raise there."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.gates = Gates()
        defaults: dict[str, Any] = {"watchdog": 0.0, "drain": 0.0, "workers": 2}
        self.app = gr.App(
            copy.deepcopy(INITIAL),
            [self.inline, self.sync, self.waiting, self.long_sync, self.long_async, self.fine],
            gr.Settings(**(defaults | settings)),
            clock=self.clock,
        )

    def run(self, state: Any, session: gr.Session, stop: int, start: int = 0) -> None:
        for statement in STATEMENTS[start:stop]:
            statement(state, session)

    @gr.handler(inline=True)
    def inline(self, state: Any, session: gr.Session, payload: Any) -> None:
        self.run(state, session, payload)
        raise Boom

    def sync(self, state: Any, session: gr.Session, payload: Any) -> None:
        self.run(state, session, payload)
        raise Boom

    async def waiting(self, state: Any, session: gr.Session, payload: Any) -> None:
        self.run(state, session, payload // 2)
        await asyncio.sleep(0)
        self.run(state, session, payload, payload // 2)
        raise Boom

    def long_sync(self, state: Any, session: gr.Session, payload: Any) -> None:
        """The gate is in the middle; a push that falls due goes with the next statement."""
        self.run(state, session, HALVES)
        self.gates.block()
        self.run(state, session, payload, HALVES)
        raise Boom

    async def long_async(self, state: Any, session: gr.Session, payload: Any) -> None:
        self.run(state, session, HALVES)
        await self.gates.pause()
        self.run(state, session, payload, HALVES)
        raise Boom

    @gr.handler(inline=True)
    def fine(self, state: Any) -> int:
        state["n"] += 1
        return int(state["n"])


class Seen:
    """A client and all it was told."""

    def __init__(self, stage: Stage, token: str | None = None) -> None:
        self.visitor = Visitor("v", stage.clock.time, token=token)
        self.line = ByteLine(stage.app, self.visitor)
        self.stage = stage

    async def carry(self) -> None:
        for _ in range(3):
            self.line.pump()
            self.line.up()
            await asyncio.sleep(0)
            self.line.down()

    async def call(self, name: str, data: Any = None) -> Any:
        tag = self.visitor.submit(name, data)
        while tag not in self.visitor.outcomes:
            await self.carry()
        return self.visitor.outcomes[tag]

    @property
    def session(self) -> gr.Session:
        return self.stage.app.sessions[self.visitor.link.session or ""]


def raw(session: gr.Session) -> Any:
    """Everything, private keys included."""
    return json.loads(json.dumps(session.state.to_raw_state()))


@pytest.mark.parametrize("handler", ["inline", "sync", "waiting"])
def test_g8_raise_at_every_statement(handler: str, arun: Any) -> None:
    async def main() -> None:
        stage = Stage()
        async with stage.app:
            seen, other = Seen(stage), Seen(stage)
            await seen.carry()
            await other.carry()
            before, mirror = raw(seen.session), copy.deepcopy(seen.visitor.state)
            for stop in range(len(STATEMENTS) + 1):
                told = len(seen.visitor.order)
                outcome = await seen.call(handler, stop)
                assert outcome.code == "handler_error", stop
                assert raw(seen.session) == before, stop
                # Nothing of it was sent: the answer is the one frame there was.
                assert seen.visitor.order[told:] == [("answer", seen.visitor.sent[-1])], stop
                assert seen.visitor.state == mirror
                # And nobody else noticed.
                count = (await other.call("fine")).value
                assert count == INITIAL["n"] + stop + 1
            assert seen.visitor.events == []
            # The session lives on, and its next turn is as good as any.
            assert (await seen.call("fine")).value == 2
            assert seen.visitor.state == mirror | {"n": 2}
            told = stage.app.stats()["messages"]
            assert told["failed"] == len(STATEMENTS) + 1

    arun(main)


@pytest.mark.parametrize("handler", ["long_sync", "long_async"])
def test_g8_what_a_long_turn_has_shipped_is_corrected(handler: str, arun: Any) -> None:
    async def main() -> None:
        stage = Stage()
        async with stage.app:
            seen = Seen(stage)
            await seen.carry()
            before, mirror = raw(seen.session), copy.deepcopy(seen.visitor.state)
            for stop in range(HALVES, len(STATEMENTS) + 1):
                events = len(seen.visitor.events)
                tag = seen.visitor.submit(handler, stop)
                while not len(stage.gates):
                    await seen.carry()
                stage.clock.advance(stage.app.settings.partial_after * 2)
                # The loop ships what it may, the rest goes with the worker's next statement.
                for _ in range(5):
                    await seen.carry()
                assert seen.visitor.state != mirror, "nothing was shipped in part"
                stage.gates.open_all()
                while tag not in seen.visitor.outcomes:
                    await seen.carry()
                assert seen.visitor.outcomes[tag].code == "handler_error"
                assert raw(seen.session) == before, stop
                assert seen.visitor.state == mirror, stop
                # Events that were shipped stay; those of the second half never left.
                names = [name for name, _ in seen.visitor.events[events:]]
                assert names in (["app:first", "gr:notify"], []), names
            assert not any(name == "app:last" for name, _ in seen.visitor.events)
            # Who comes now gets the state without a trace of it.
            late = Seen(stage, seen.visitor.link.token)
            await late.carry()
            assert late.session is seen.session
            assert late.visitor.state == mirror

    arun(main)


def test_g8_a_snapshot_beside_a_failing_turn_is_corrected_too(arun: Any) -> None:
    async def main() -> None:
        stage = Stage()
        async with stage.app:
            seen = Seen(stage)
            await seen.carry()
            mirror = copy.deepcopy(seen.visitor.state)
            seen.visitor.submit("long_async", len(STATEMENTS), tag="long")
            while not len(stage.gates):
                await seen.carry()
            late = Seen(stage, seen.visitor.link.token)  # its snapshot is made beside the turn
            while not late.visitor.snapshots:
                await late.carry()
            stage.gates.open_all()
            while "long" not in seen.visitor.outcomes:
                await seen.carry()
            await late.carry()
            assert late.visitor.state == seen.visitor.state == mirror

    arun(main)


def test_g8_on_error_keep_commits(arun: Any) -> None:
    """The other choice: what was assigned before the exception stays, and is sent."""

    async def main() -> None:
        stage = Stage(on_error="keep")
        async with stage.app:
            seen = Seen(stage)
            await seen.carry()
            assert (await seen.call("inline", 3)).code == "handler_error"
            assert seen.session.state["n"] == 3
            assert seen.visitor.state["n"] == 3
            assert seen.visitor.events == [("app:first", 1)]

    arun(main)


def test_g8_the_limit_is_change_in_place(arun: Any) -> None:
    """Documented: lists and other objects that are changed in place are not undone."""

    def in_place(state: Any) -> None:
        state["rows"].append("unseen")
        raise Boom

    def tracked(state: Any) -> None:
        state.append("rows", "seen")
        raise Boom

    async def main() -> None:
        app = gr.App({"rows": [1]}, [in_place, tracked], gr.Settings(watchdog=0.0))
        async with app:
            session = app.open_session()
            with pytest.raises(Boom):
                await session.ask("tracked")
            assert session.state["rows"] == [1]
            with pytest.raises(Boom):
                await session.ask("in_place")
            assert session.state["rows"] == [1, "unseen"]
            assert app.open_session().state["rows"] == [1]  # but it stays in its session

    arun(main)


def test_g8_subscribers_middlewares_and_results_that_fail(arun: Any) -> None:
    """Whoever raises, sync or async, before or after the handler: the turn is undone."""
    where: list[str] = []

    def subscriber() -> None:
        if where[-1] == "subscriber":
            raise Boom

    async def late_subscriber() -> None:
        if where[-1] == "late subscriber":
            raise Boom

    def assign(state: Any, session: gr.Session) -> Any:
        session.emit("app:never")
        state["n"] += 1
        state["text"] = "assigned"
        return threading.Lock() if where[-1] == "result" else None

    async def main() -> None:
        state = gr.State({"n": 0, "text": ""})
        state.subscribe_mutation("text", subscriber)
        state.subscribe_mutation("n", late_subscriber)
        app = gr.App(state, [assign], gr.Settings(watchdog=0.0))

        @app.middleware()
        def around(state: Any) -> Any:
            if where[-1] == "before":
                raise Boom
            yield
            state["n"] += 10
            if where[-1] == "after":
                raise Boom

        async with app:
            visitor = Visitor("v", lambda: 0.0)
            line = ByteLine(app, visitor)
            for place in ("before", "subscriber", "late subscriber", "after", "result"):
                where.append(place)
                visitor.submit("assign", tag=place)
                while place not in visitor.outcomes:
                    line.pump()
                    line.up()
                    await asyncio.sleep(0)
                    line.down()
                assert visitor.outcomes[place].code == "handler_error", place
                if place != "result":
                    assert visitor.state == {"n": 0, "text": ""}, place
                    assert visitor.events == []
            # Only the answer failed: what the turn did stands.
            assert visitor.state == {"n": 11, "text": "assigned"}
            assert visitor.events == [("app:never", None)]
            line.cut()

    arun(main)
