"""Verbs without an app object: they act on the current app, or say how to have one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom.core import script

VERBS: dict[str, Callable[[], Any]] = {
    "init_state": lambda: gr.init_state({"x": 1}),
    "init_handlers": lambda: gr.init_handlers([]),
    "middleware": gr.middleware,
    "session_verifier": lambda: gr.session_verifier(lambda: True),
    "on_open": lambda: gr.on_open(lambda: None),
    "on_close": lambda: gr.on_close(lambda: None),
    "on": lambda: gr.on("app:save", lambda: None),
    "emit": lambda: gr.emit("app:news"),
    "broadcast": lambda: gr.broadcast("app:news"),
    "show": lambda: gr.show("<p>"),
    "events": lambda: gr.events.create_signal("sig:all"),
    "current_app": gr.current_app,
}


def test_each_verb_is_looked_at_here() -> None:
    assert set(VERBS) == {*script.__all__, "current_app"}


@pytest.mark.parametrize("verb", VERBS)
def test_without_an_app_the_cure_is_shown(verb: str) -> None:
    with pytest.raises(gr.NoApp, match=r"greenroom run.*with app\.registering\(\): import"):
        VERBS[verb]()


@pytest.mark.parametrize("verb", script.__all__)
def test_verbs_take_what_those_of_the_app_take(verb: str) -> None:
    if verb == "events":
        return
    ours = inspect.signature(getattr(gr, verb))
    theirs = inspect.signature(getattr(gr.App, verb))
    assert list(ours.parameters.values()) == list(theirs.parameters.values())[1:]


def test_what_is_registered_goes_to_the_app_that_is_current(arun: Any) -> None:
    async def story() -> None:
        app, other = gr.App(), gr.App()
        with app.registering() as same:
            assert same is app is gr.current_app()
            gr.init_state({"count": 5})
            gr.on("app:save", lambda data: data + 1)
            with other.registering():
                gr.init_state({"count": 6})
                assert gr.current_app() is other
            assert gr.current_app() is app

            @gr.on("app:load", label="side")
            def load(data: Any) -> str:
                return "loaded"

            @gr.middleware()
            def note(state: Any) -> None:
                state["noted"] = True

            @gr.events.event("sig:all")
            def react(data: Any, state: Any) -> None:
                state["heard"] = data

            opened: list[str] = []
            gr.on_open(lambda session: opened.append(session.id))
            gr.session_verifier(lambda headers: "banned" not in headers)
            gr.show("<p>", label="side")
        with pytest.raises(gr.NoApp):
            gr.current_app()
        assert load is not None
        assert (sorted(app.views), sorted(other.views)) == (["side"], [])
        async with app, other:
            visitor = await Visitor(app).open()
            assert visitor.frames[-1]["data"] == {"count": 5}
            assert opened == [visitor.session.id]
            assert await visitor.call("app:save", 1) == 2
            assert visitor.session.state["noted"] is True
            assert (await visitor.call("app:load"))["code"] == "not_found"
            close = await Visitor(app, headers={"banned": "1"}).hello()
            assert close["data"]["code"] == "unauthorized"
            await app.events.trigger("sig:all", 7)
            async with visitor.session.turn() as state:
                assert state["heard"] == 7
            assert other.open_session().state["count"] == 6
            visitor.line.close()

    arun(story)


def test_in_a_turn_the_app_is_current_also_for_its_children(arun: Any) -> None:
    async def story() -> None:
        seen: list[Any] = []

        def on_worker() -> None:
            gr.emit("app:said", "worker")
            seen.append(gr.current_app())

        async def on_loop() -> None:
            async def child() -> None:
                seen.append(gr.current_app())

            gr.emit("app:said", "loop")
            await asyncio.gather(child(), child())

        async with gr.App(handlers=[on_worker, on_loop]) as app:
            visitor = await Visitor(app).open()
            await visitor.call("on_worker")
            await visitor.call("on_loop")
            said = [f["data"] for f in visitor.frames if f["type"] == "app:said"]
            assert said == ["worker", "loop"]
            assert seen == [app] * 3
            visitor.line.close()

    arun(story)
