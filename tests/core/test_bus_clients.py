"""Signals and clients: who is subscribed, what a client may do, and who is asked about it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.heard import Heard, steps
from tests.core.visitor import Visitor

from greenroom import (
    App,
    Delivered,
    Settings,
    TooLarge,
)
from greenroom.core.bus import CLIENT_DATA
from greenroom.testing import ManualClock


def test_subscribed_means_the_sessions_of_clients_that_subscribed(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"seen": 0})
        app.events.create_signal("model:created", internal=False)

        @app.events.event("model:created", sessions="subscribed")
        async def note(data: Any, state: Any) -> None:
            state["seen"] += 1

        async with app:
            one, two = await Visitor(app).open(), await Visitor(app).open()
            again = Visitor(app)
            await again.open(token=one.welcome["token"])  # a second view of the first session
            for visitor in (one, again):
                assert await visitor.call("gr:subscribe", {"name": "model:created"}) is True
            assert await app.events.trigger("model:created", 5) == Delivered(3, 0)
            for visitor in (one, again):
                signal = await visitor.until("gr:signal")
                assert signal["data"] == {"name": "model:created", "data": 5}
            await one.until("gr:state")
            assert one.session.state["seen"] == 1
            async with two.session.turn() as state:
                assert state["seen"] == 0
            for visitor in (one, two, again):
                visitor.line.close()

    arun(story)


def test_internal_and_unknown_are_one_answer(arun: Any) -> None:
    async def story() -> None:
        asked: list[tuple[Any, ...]] = []

        def gate(session: Any, action: str, name: str, data: Any) -> bool:
            asked.append((action, name))
            return False

        app = App(settings=Settings(authorize=gate))
        app.events.create_signal("a:hidden")
        app.events.query("q:hidden")(lambda data: 1)
        app.events.create_signal("a:shown", internal=False)
        async with app:
            visitor = await Visitor(app).open()
            for kind, hidden, unknown in (
                ("gr:subscribe", "a:hidden", "a:absent"),
                ("gr:unsubscribe", "a:hidden", "a:absent"),
                ("gr:trigger", "a:hidden", "a:absent"),
                ("gr:trigger", "a:shown", "a:absent"),
                ("gr:query", "q:hidden", "q:absent"),
            ):
                one = await visitor.call(kind, {"name": hidden, "data": 1})
                two = await visitor.call(kind, {"name": unknown, "data": 1})
                assert one["code"] == two["code"] == "not_found", kind
                assert one["message"].replace(hidden, unknown) == two["message"]
            assert asked == []  # nobody is asked about what does not exist
            visitor.line.close()

    arun(story)


def test_clients_subscribe_and_unsubscribe(arun: Any) -> None:
    async def story() -> None:
        app = App()
        app.events.create_signal("model:created", internal=False)
        async with app:
            visitor = await Visitor(app).open()
            name = {"name": "model:created"}
            assert await visitor.call("gr:subscribe", name) is True
            assert await visitor.call("gr:subscribe", name) is True  # once is enough
            assert await app.events.trigger("model:created", [1]) == Delivered(1, 0)
            assert (await visitor.until("gr:signal"))["data"]["data"] == [1]
            assert await visitor.call("gr:unsubscribe", name) is True
            assert await visitor.call("gr:unsubscribe", name) is True
            assert await app.events.trigger("model:created") == Delivered(0, 0)
            visitor.line.close()

    arun(story)


def test_a_signal_waits_for_a_client_that_was_cut_and_not_for_one_that_left(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(window=20))
        app.events.create_signal("model:created", internal=False)
        async with app:
            first = await Visitor(app).open()
            await first.call("gr:subscribe", {"name": "model:created"})
            first.line.cut()
            assert await app.events.trigger("model:created", 1) == Delivered(1, 0)
            again = Visitor(app)
            await again.hello(**first.back())
            assert (await again.until("gr:signal"))["data"]["data"] == 1
            again.line.cut()
            clock.advance(25)
            assert await app.events.trigger("model:created", 2) == Delivered(0, 0)

    arun(story)


def test_a_signal_that_clients_cannot_be_sent_is_told_before_anybody_hears(arun: Any) -> None:
    async def story() -> None:
        app = App(settings=Settings(max_frame_out=500))
        app.events.create_signal("model:created", internal=False)
        heard: list[Any] = []
        app.events.event("model:created")(heard.append)
        async with app:
            visitor = await Visitor(app).open()
            await visitor.call("gr:subscribe", {"name": "model:created"})
            with pytest.raises(TooLarge, match="max_frame_out"):
                await app.events.trigger("model:created", "x" * 600)
            with pytest.raises(TypeError):
                await app.events.trigger("model:created", object())
            with pytest.raises(TooLarge):
                app.events.trigger_soon("model:created", "x" * 600)
            await steps()
            assert not heard
            assert app.events.counters["delivered"] == app.events.counters["triggered"] == 0
            visitor.line.close()

    arun(story)


def test_clients_trigger_what_they_may(arun: Any) -> None:
    async def story() -> None:
        app = App()
        heard = Heard()
        app.events.create_signal("model:created", internal=False, client_trigger=True)

        @app.events.event("model:created")
        async def react(data: Any) -> None:
            heard.note(data)

        async with app:
            visitor = await Visitor(app).open()
            good = {"name": "model:created", "data": {"n": 1}}
            assert await visitor.call("gr:trigger", good) is True
            assert await heard.until(1) == [{"n": 1}]
            large = {"name": "model:created", "data": "x" * (CLIENT_DATA + 1)}
            assert (await visitor.call("gr:trigger", large))["code"] == "too_large"
            # The limit is the data's, not that of the frames that came with it.
            number = visitor.sent + 1
            frames = [
                {"type": "gr:trigger", "id": number + n, "data": {**good, "data": "x" * 10_000}}
                for n in range(2)
            ]
            visitor.sent += 2
            visitor.raw(type="gr:batch", data=frames)
            assert await visitor.answer(number) is True
            assert await visitor.answer(number + 1) is True
            visitor.line.close()

    arun(story)


def test_the_app_is_asked_who_may(arun: Any) -> None:
    async def story() -> None:
        verdict: dict[str, Any] = {}
        asked: list[Any] = []

        def gate(session: Any, action: str, name: str, data: Any) -> Any:
            asked.append((session.id, action, name, data))
            answer = verdict["is"]
            if isinstance(answer, Exception):
                raise answer
            return answer

        app = App(settings=Settings(authorize=gate))
        app.events.create_signal("a:b", internal=False, client_trigger=True)
        app.events.query("a:q", internal=False)(lambda data: "answer")
        async with app:
            visitor = await Visitor(app).open()
            frames = {
                "gr:subscribe": {"name": "a:b"},
                "gr:trigger": {"name": "a:b", "data": 5},
                "gr:query": {"name": "a:q", "data": 6},
            }
            for answer in (False, None, RuntimeError("the gate is broken")):
                verdict["is"] = answer
                for kind, data in frames.items():
                    refused = await visitor.call(kind, data)
                    assert refused["code"] == "unauthorized", (kind, answer)
                    assert "broken" not in refused["message"]
            me = visitor.session.id
            assert asked[:3] == [
                (me, "subscribe", "a:b", None),
                (me, "trigger", "a:b", 5),
                (me, "query", "a:q", 6),
            ]
            assert "broken" in "".join(record.text for record in app.log)
            verdict["is"] = True
            answers = [await visitor.call(kind, data) for kind, data in frames.items()]
            assert answers == [True, True, "answer"]
            visitor.line.close()

    arun(story)


def test_an_async_gate_is_refused_for_it_would_let_everybody_in() -> None:
    async def gate(session: Any, action: str, name: str, data: Any) -> bool:
        return False

    with pytest.raises((TypeError, ValueError), match="authorize"):
        Settings(authorize=gate)
