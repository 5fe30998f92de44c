"""Listeners, the streams of a signal: how far one may fall behind, and how it is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.core.heard import steps

from greenroom import (
    App,
    Delivered,
    Settings,
)
from greenroom.core.bus import ROOM
from greenroom.testing import ManualClock


async def listening(app: App, name: str, **options: Any) -> AsyncGenerator[Any, None]:
    """A stream that has begun: it has taken one signal."""
    stream = app.events.listen(name, **options)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await app.events.trigger(name, "first")
    assert await first == "first"
    return stream


@pytest.mark.parametrize(
    ("overflow", "kept", "answer", "counter"),
    [
        ("drop_oldest", [3, 4], Delivered(1, 0), "dropped_oldest"),
        ("drop_newest", [1, 2], Delivered(0, 1), "dropped_newest"),
        ("close", [1, 2], Delivered(0, 1), "closed_slow"),
    ],
)
def test_a_listener_that_falls_behind_loses_what_was_agreed(
    arun: Any, overflow: Any, kept: list[int], answer: Delivered, counter: str
) -> None:
    async def story() -> None:
        app = App()
        app.events.create_signal("model:created")
        async with app:
            stream = await listening(app, "model:created", maxsize=2, overflow=overflow)
            answers = [await app.events.trigger("model:created", n) for n in (1, 2, 3, 4)]
            assert answers[:3] == [Delivered(1, 0), Delivered(1, 0), answer]
            assert app.events.counters[counter] == (1 if overflow == "close" else 2)
            assert [await anext(stream) for _ in kept] == kept
            if overflow == "close":
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
                assert await app.events.trigger("model:created") == Delivered(0, 0)
            await stream.aclose()

    arun(story)


def test_a_listener_may_hold_up_the_trigger_for_a_second(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock)
        app.events.create_signal("model:created")
        async with app:
            stream = await listening(app, "model:created", maxsize=1, overflow="block")
            await app.events.trigger("model:created", 1)
            waiting = asyncio.ensure_future(app.events.trigger("model:created", 2))
            await steps()
            assert not waiting.done()
            assert await anext(stream) == 1
            assert await waiting == Delivered(1, 0)
            waiting = asyncio.ensure_future(app.events.trigger("model:created", 3))
            await steps()
            clock.advance(ROOM + 0.1)
            assert await waiting == Delivered(0, 1)
            assert app.events.counters["dropped_newest"] == 1
            app.events.trigger_soon("model:created", 4)  # never waits
            assert app.events.counters["refused"] == 2
            assert await anext(stream) == 2
            await stream.aclose()

    arun(story)


def test_the_default_room_of_a_listener_is_a_setting_and_zero_is_unbounded(arun: Any) -> None:
    async def story() -> None:
        app = App(settings=Settings(event_queue_size=3))
        app.events.create_signal("model:created")
        async with app:
            usual = await listening(app, "model:created")
            endless = await listening(app, "model:created", maxsize=0)
            for number in range(50):
                await app.events.trigger("model:created", number)
            assert [await anext(usual) for _ in range(3)] == [47, 48, 49]
            assert [await anext(endless) for _ in range(50)] == list(range(50))
            for stream in (usual, endless):
                await stream.aclose()
            wrongs: list[dict[str, Any]] = [{"overflow": "explode"}, {"maxsize": -1}]
            for wrong in wrongs:
                with pytest.raises(ValueError, match=r"overflow|maxsize"):
                    await anext(app.events.listen("model:created", **wrong))

    arun(story)


def test_a_listener_that_leaves_is_forgotten(arun: Any) -> None:
    async def story() -> None:
        app = App()
        app.events.create_signal("model:created")
        async with app:
            stream = await listening(app, "model:created")
            await app.events.trigger("model:created", 1)
            await stream.aclose()
            assert app.events.counters["expired"] == 1
            assert await app.events.trigger("model:created", 2) == Delivered(0, 0)

    arun(story)
