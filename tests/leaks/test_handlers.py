"""Handlers of every kind, ended in every way: their sessions go without the collector."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.leaks.visits import Expected, Visit, advance, rest, tell_visits

import greenroom as gr
from greenroom import App


def work(session: gr.Session, payload: str) -> None:
    """What all of them do."""
    session.emit("app:did", payload)
    session.log("did it")
    print("said", payload)
    if payload == "raise":
        raise Expected(payload)
    if payload == "chain":
        try:
            raise Expected("first")
        except Expected as error:
            raise RuntimeError("second") from error
    if payload == "refuse":
        raise gr.Refused("app_no", "no")
    if payload == "close":
        session.close("by the handler")


def assign(state: Any) -> None:
    state["count"] += 1
    state["nest"]["deep"]["x"] = [1, {"y": 2}]
    state["nest"]["fresh"] = {"z": {"w": state["count"]}}
    state.append("rows", "more")
    del state["nest"]["a"]


async def wait(payload: str) -> None:
    if payload == "wait":
        await asyncio.get_running_loop().create_future()


def worker(session: gr.Session, state: Any, payload: str) -> None:
    assign(state)
    work(session, payload)


@gr.handler(inline=True)
def inline(session: gr.Session, state: Any, payload: str) -> None:
    assign(state)
    work(session, payload)


async def stepped(session: gr.Session, state: Any, payload: str) -> None:
    assign(state)
    work(session, payload)
    await wait(payload)


async def suspended(session: gr.Session, state: Any, payload: str) -> None:
    await asyncio.sleep(0)
    assign(state)
    work(session, payload)
    await wait(payload)


@gr.handler(concurrent=True)
async def beside(session: gr.Session, payload: str) -> None:
    async with session.turn() as state:
        assign(state)
    work(session, payload)
    await wait(payload)


@gr.handler(concurrent=True)
async def within(session: gr.Session, payload: str) -> None:
    async with session.turn() as state:
        assign(state)
        work(session, payload)
        await wait(payload)


@gr.handler(concurrent=True)
def beside_on_worker(session: gr.Session, payload: str) -> None:
    with session.turn() as state:
        assign(state)
    work(session, payload)


@gr.handler(concurrent=True)
def within_on_worker(session: gr.Session, payload: str) -> None:
    with session.turn() as state:
        assign(state)
        work(session, payload)


SYNC: list[Callable[..., Any]] = [worker, inline, beside_on_worker, within_on_worker]
ASYNC: list[Callable[..., Any]] = [stepped, suspended, beside, within]
ENDS = ["return", "raise", "chain", "refuse", "close"]
WAITS = ["cancelled", "timed out", "left"]


def shape(fn: Callable[..., Any], end: str) -> Callable[[App], Visit]:
    async def visit(visitor: Visitor) -> None:
        name = fn.__name__
        number = visitor.send(name, "wait" if end in WAITS else end)
        if end in WAITS:
            while not visitor.session.log.records():
                await asyncio.sleep(0)
        if end == "cancelled":
            visitor.send("gr:cancel", {"id": number})
            assert (await visitor.answer(number))["code"] == "cancelled"
        elif end == "timed out":
            advance(visitor, 1.0)
            advance(visitor, 1.0)
            assert (await visitor.answer(number))["code"] == "timeout"
        elif end == "close":
            await rest(visitor)
        elif end != "left":
            await visitor.answer(number)
            with contextlib.suppress(gr.GreenroomError, Expected, RuntimeError):
                await visitor.session.ask(name, end)

    def build(app: App) -> Visit:
        app.handlers.add(fn)
        return visit

    return build


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("fn", SYNC + ASYNC)
def test_ended_by_itself(arun: Any, fn: Callable[..., Any], end: str, debug: bool) -> None:
    arun(lambda: tell_visits(shape(fn, end), debug=debug))


#: A turn that waits for ever keeps its session, unless there is a turn_timeout; a job does not.
OUTSIDE = [
    *((fn, "cancelled") for fn in ASYNC),
    *((fn, "timed out") for fn in (stepped, suspended)),
    (beside, "left"),
]


@pytest.mark.parametrize(("fn", "end"), OUTSIDE)
def test_ended_from_outside(arun: Any, fn: Callable[..., Any], end: str) -> None:
    arun(lambda: tell_visits(shape(fn, end), turn_timeout=0.5))
