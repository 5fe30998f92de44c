"""Long turns: what they have so far is sent, late-comers are told, failures are taken back.

The steps of a turn are let through one by one, and the clock stands still between them. Clients are
mirrors: real ones, over the memory transport, that know what the patches made of their snapshot.
"""

from __future__ import annotations

import asyncio
import decimal
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.core.visitor import Visitor
from tests.support.until import eventually

import greenroom as gr
from greenroom.adapters import memory
from greenroom.client import Client, connect
from greenroom.testing import ManualClock

Step = Callable[[Any, Any], Any]  # (state, session)
KINDS = ("sync", "async")
ROWS = 50_000


class Long:
    """A handler that pauses after each of its steps until it is told to go on."""

    def __init__(self, kind: str, *steps: Step) -> None:
        self.kind = kind
        self.steps = steps
        self.paused = 0
        self.gate = threading.Semaphore(0)

    def handler(self) -> Callable[..., Any]:
        def work(state: Any, session: Any) -> str:
            for step in self.steps:
                step(state, session)
                self.paused += 1
                assert self.gate.acquire(timeout=20)
            return "ended"

        async def work_async(state: Any, session: Any) -> str:
            for step in self.steps:
                step(state, session)
                self.paused += 1
                await eventually(lambda: self.gate.acquire(blocking=False))
            return "ended"

        found: Callable[..., Any] = work if self.kind == "sync" else work_async
        named: Callable[..., Any] = gr.handler(name="work")(found)
        return named


class Stage:
    """An app with one long handler, and as many mirrors of one session as are wanted."""

    def __init__(self, state: dict[str, Any], long: Long) -> None:
        self.clock = ManualClock()
        self.long = long
        self.app = gr.App(state=state, handlers=[long.handler()], clock=self.clock)
        self.mirrors: list[Client] = []

    @property
    def session(self) -> gr.Session:
        (session,) = self.app.sessions.values()
        return session

    @asynccontextmanager
    async def mirror(self) -> AsyncGenerator[Client]:
        token = self.mirrors[0].token if self.mirrors else None
        async with connect(lambda: memory.connect(self.app), token=token) as client:
            self.mirrors.append(client)
            yield client

    async def at(self, step: int) -> None:
        """The handler has come to a pause."""
        await eventually(lambda: self.long.paused == step)

    async def sees(self, expected: dict[str, Any]) -> None:
        """Every mirror comes to show that."""
        await eventually(lambda: all(one.state == expected for one in self.mirrors), 10.0)

    def push(self) -> None:
        """The turn has run for long."""
        self.clock.advance(0.3)

    def go(self) -> None:
        self.long.gate.release()


@asynccontextmanager
async def staged(state: dict[str, Any], long: Long) -> AsyncGenerator[tuple[Stage, Client]]:
    stage = Stage(state, long)
    async with stage.app, stage.mirror() as client:
        yield stage, client


def shows(client: Client, status: str) -> bool:
    return bool(client.state["status"] == status)


def wire(values: dict[str, Any]) -> Any:
    """What clients have of a state."""
    return gr.State(values).to_dict()


# -- what is sent while it runs -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_push_sends_what_there_is_and_the_last_word_arrives(arun: Any, kind: str) -> None:
    def begin(state: Any, session: Any) -> None:
        state["status"] = "Loading..."
        state["rows"] = list(range(ROWS))
        state["answer"] = "We"

    def middle(state: Any, session: Any) -> None:
        state["answer"] += "ll"
        state.append("log", "middle")

    def end(state: Any, session: Any) -> None:
        state["rows"] = state["rows"][:3]
        state["status"] = "Completed"

    async def story() -> None:
        long = Long(kind, begin, middle, end)
        async with staged({"status": "", "log": []}, long) as (stage, client):
            answer = asyncio.ensure_future(client.call("work"))
            await stage.at(1)
            assert client.state["status"] == ""
            stage.push()
            expected = {"status": "Loading...", "log": [], "answer": "We", "rows": [*range(ROWS)]}
            await stage.sees(expected)
            stage.go()
            await stage.at(2)
            stage.push()
            await stage.sees({**expected, "answer": "Well", "log": ["middle"]})
            stage.go()
            await stage.at(3)
            stage.go()  # no push between the last assignment and the end
            assert await answer == "ended"
            await stage.sees(stage.session.state.to_dict())
            assert client.state["status"] == "Completed"
            assert client.state["rows"] == [0, 1, 2]

    arun(story)


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_not_plain_wait_for_their_thread(arun: Any, kind: str) -> None:
    """Beside a worker the loop may not encode them: a decimal, an array, a table, bytes."""

    def begin(state: Any, session: Any) -> None:
        state["status"] = "begun"
        state["price"] = decimal.Decimal("1.50")
        state["table"] = gr.EditableTable([{"a": 1}])
        state["deep"] = {"array": np.arange(3), "plain": 1}

    def middle(state: Any, session: Any) -> None:
        state["table"].record(0)["a"] = 2  # an assignment, so a push that waits goes now

    expected = {
        "status": "begun",
        "price": "1.50",
        "table": [{"a": 1}],
        "deep": {"array": [0, 1, 2], "plain": 1},
    }

    async def story() -> None:
        async with staged({"status": ""}, Long(kind, begin, middle)) as (stage, client):
            answer = asyncio.ensure_future(client.call("work"))
            await stage.at(1)
            stage.push()
            await stage.sees({"status": "begun"} if kind == "sync" else expected)
            stage.go()
            await stage.at(2)
            if kind == "async":
                stage.push()
            await stage.sees({**expected, "table": [{"a": 2}]})
            stage.go()
            await answer
            await stage.sees(stage.session.state.to_dict())

    arun(story)


def test_the_final_status_is_never_lost_behind_a_large_list(arun: Any) -> None:
    """Pushes hit the turn anywhere: while it assigns, between two assignments, at its end."""
    pushes = 0

    def work(state: Any, payload: int) -> None:
        for number in range(payload % 4 + 2):
            state["status"] = f"step {number}"
            state["rows"] = list(range(number, ROWS + number))
            state["late"] = number
        state["status"] = f"done {payload}"

    async def work_async(state: Any, payload: int) -> None:
        for number in range(payload % 4 + 2):
            state["status"] = f"step {number}"
            await asyncio.sleep(0)
            state["rows"] = list(range(number, ROWS + number))
            await asyncio.sleep(0.002)
            state["late"] = number
        state["status"] = f"done {payload}"

    async def story() -> None:
        nonlocal pushes
        settings = gr.Settings(partial_after=0.001, partial_every=0.001)
        begin: dict[str, Any] = {"status": "", "rows": [], "late": None}
        app = gr.App(state=begin, handlers=[work, work_async], settings=settings)
        async with app, connect(lambda: memory.connect(app)) as client:
            (session,) = app.sessions.values()

            def count(_: str, frame: dict[str, Any]) -> None:
                nonlocal pushes
                pushes += frame["type"] == "gr:state"

            client.on_frame(count)
            for run in range(40):
                for name in ("work", "work_async"):
                    await client.call(name, run)
                    await eventually(partial(shows, client, f"done {run}"), 5.0)
                    assert client.state == session.state.to_dict()

    arun(story, timeout=60)
    assert pushes > 80  # more than one for each turn: some were cut in two


# -- who comes in the middle --------------------------------------------------------------------

ODD: dict[str, Callable[[], Any]] = {
    "decimal": lambda: decimal.Decimal("2.5"),
    "array": lambda: np.arange(4),
    "deque": lambda: deque([1, {"_x": 1, "y": 2}]),
    "set": lambda: {3},
    "table": lambda: gr.EditableTable([{"a": 1, "_b": 2}]),
    "list with one": lambda: [1, decimal.Decimal(3)],
    "bytes": lambda: b"abc",
    "none": lambda: None,
    "list": lambda: [1, 2],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", ODD)
def test_a_client_that_joins_in_the_middle_has_everything_in_the_end(
    arun: Any, kind: str, odd: str
) -> None:
    make = ODD[odd]

    def begin(state: Any, session: Any) -> None:
        state["status"] = "begun"
        state["odd"] = make()
        state["n"]["odd"] = make()
        state["n"]["kept"] = 2
        state["new"] = {"deep": {"odd": make()}}
        state.append("log", make())
        del state["gone"]

    def middle(state: Any, session: Any) -> None:
        state["n"]["odd"] = make()
        state.append("log", "middle")

    values = {"status": "", "n": {"odd": make(), "kept": 1}, "log": [], "gone": 1, "odd2": make()}

    async def story() -> None:
        for pushed in (False, True):
            async with staged(values, Long(kind, begin, middle)) as (stage, client):
                answer = asyncio.ensure_future(client.call("work"))
                await stage.at(1)
                if pushed:
                    stage.push()
                async with stage.mirror() as late:  # inside: its snapshot is there
                    assert set(late.state) <= {"status", "n", "log", "gone", "odd", "odd2", "new"}
                    stage.go()
                    await stage.at(2)
                    stage.push()
                    async with stage.mirror() as later:
                        stage.go()
                        await answer
                        expected = stage.session.state.to_dict()
                        assert "_x" not in repr(expected)
                        await stage.sees(expected)
                        assert late.state == later.state == client.state

    arun(story)


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_sent_of_a_turn_that_fails_is_taken_back(arun: Any, kind: str) -> None:
    def begin(state: Any, session: Any) -> None:
        state["answer"] += ", and more"
        state.append("log", "begun")
        state.extend("rows", [{"a": 2}, {"_a": 3}])
        state["n"]["x"] = 2
        state["m"] = {"y": {"z": 1}}
        state["price"] = decimal.Decimal(9)
        state["table"].add({"a": 2})
        state["count"].up()
        del state["gone"]
        session.emit("told:early", 1)

    def middle(state: Any, session: Any) -> None:
        state["answer"] += " still"
        state.append("log", "middle")
        state["table"].record(0)["a"] = 7
        state["n"] = {"other": True}
        session.emit("told:late", 2)

    def fail(state: Any, session: Any) -> None:
        state["answer"] = "gone"
        raise ValueError("too bad")

    values = {
        "answer": "Well",
        "log": ["old"],
        "rows": [{"a": 1}],
        "n": {"x": 1},
        "price": decimal.Decimal(1),
        "table": gr.EditableTable([{"a": 1}]),
        "count": Count(),
        "gone": [1],
    }
    was = wire(values)

    async def story() -> None:
        long = Long(kind, begin, middle, fail)
        async with staged(values, long) as (stage, client):
            events: list[str] = []
            for name in ("told:early", "told:late"):
                client.on(name, lambda *_, name=name: events.append(name))
            answer = asyncio.ensure_future(client.call("work"))
            await stage.at(1)
            stage.push()
            await eventually(lambda: client.state["log"] == ["old", "begun"])
            stage.go()
            await stage.at(2)
            stage.push()
            # beside a worker the table came with the first assignment after the first push
            first = 7 if kind == "async" else 1
            await eventually(lambda: client.state["n"] == {"other": True})
            await eventually(lambda: client.state["table"] == [{"a": first}, {"a": 2}])
            assert client.state["answer"] == "Well, and more still"
            async with stage.mirror():
                stage.go()
                with pytest.raises(Exception, match="failed"):
                    await answer
                assert stage.session.state.to_dict() == {**was, "count": {"number": 1}}
                await stage.sees({**was, "count": {"number": 1}})
            assert "told:early" in events  # what was shipped stays
            assert stage.session.state["table"].records() == [{"a": 1}]

    arun(story)


class Count(gr.MutableValue):
    def __init__(self) -> None:
        self.number = 0

    def up(self) -> None:
        self.number += 1
        self.mutate()

    def to_dict(self) -> dict[str, int]:
        return {"number": self.number}


@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_that_fails_before_any_push_changes_no_client(arun: Any, kind: str) -> None:
    def fail(state: Any, session: Any) -> None:
        state["answer"] += "more"
        state["table"].add({"a": 2})
        session.emit("told:never", 1)
        raise ValueError("too bad")

    values = {"answer": "Well", "table": gr.EditableTable([{"a": 1}])}

    async def story() -> None:
        async with staged(values, Long(kind, fail)) as (stage, client):
            frames: list[str] = []
            client.on_frame(lambda _, frame: frames.append(frame["type"]))
            with pytest.raises(Exception, match="failed"):
                await client.call("work")
            await stage.sees(wire(values))
            assert "gr:error" in frames
            assert "told:never" not in frames

    arun(story)


# -- what cannot be sent ------------------------------------------------------------------------


class Formless:
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_one_value_without_a_form_and_one_large_list_and_all_else_arrives(
    arun: Any, kind: str
) -> None:
    def assign(state: Any) -> None:
        state["first"] = 1
        state["bad"] = Formless()
        state["n"]["bad"] = [Formless()]
        state["rows"] = list(range(ROWS))
        state["price"] = decimal.Decimal("0.5")
        state.append("log", "assigned")
        state["last"] = "done"

    async def assign_async(state: Any) -> None:
        assign(state)

    async def story() -> None:
        work = gr.handler(name="work")(assign if kind == "sync" else assign_async)
        app = gr.App(state={"bad": 0, "n": {"bad": 1, "good": 2}, "log": []}, handlers=[work])
        async with app:
            visitor = await Visitor(app).open()
            await visitor.call("work")
            async with connect(
                lambda: memory.connect(app), token=visitor.welcome["token"]
            ) as client:
                assert client.state == {
                    "n": {"good": 2},
                    "log": ["assigned"],
                    "first": 1,
                    "rows": [*range(ROWS)],
                    "price": "0.5",
                    "last": "done",
                }
            (patch,) = [frame["data"] for frame in visitor.frames if frame["type"] == "gr:state"]
            assert sorted(patch["-"]) == ["/bad", "/n/bad"]
            assert patch["="]["/last"] == "done"
            assert len(patch["="]["/rows"]) == ROWS
            said = [
                record.text for record in visitor.session.log.records() if record.level == "error"
            ]
            assert len(said) == 2
            assert "state bad is a Formless" in said[0]
            assert "state n.bad is a Formless" in said[1]
            assert "gr.encoders" in said[0]

    arun(story)
