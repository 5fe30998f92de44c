"""How much clients may ask beside the turns."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from greenroom.core.beside import Beside
from greenroom.core.errors import Busy


def test_a_seat_is_free_when_all_who_hold_it_have_left() -> None:
    beside = Beside(1, 100)
    seat = beside.enter(60)
    seat.hold()
    seat.leave()
    with pytest.raises(Busy, match="1 questions wait"):
        beside.enter(1)
    seat.leave()
    assert (beside.count, beside.nbytes) == (0, 0)
    beside.enter(1)


def test_bytes_are_bounded_but_one_question_may_always_be_asked() -> None:
    beside = Beside(0, 100)
    beside.enter(500).leave()
    large = beside.enter(500)
    with pytest.raises(Busy, match="too large"):
        beside.enter(1)
    large.leave()
    for _ in range(100):
        beside.enter(1)
    with pytest.raises(Busy):
        beside.enter(1)
    no_limit = Beside(0, 0)
    for _ in range(1_000):
        no_limit.enter(10**9)


def test_questions_are_cancelled_by_number_and_with_their_link(arun: Any) -> None:
    async def story() -> None:
        beside = Beside(0, 0)
        one: Any = object()
        two: Any = object()
        tasks = {}
        for link in (one, two):
            for number in (1, 2):
                task = asyncio.ensure_future(asyncio.Event().wait())
                beside.began(link, number, task)
                tasks[link, number] = task
        assert beside.cancel(one, 7) is None
        assert beside.cancel(one, 1) is True
        assert beside.working
        beside.forget(two)
        tasks[one, 2].cancel()
        await asyncio.wait(tasks.values())
        for (link, number), task in tasks.items():
            assert task.cancelled()
            beside.ended(link, number, task)
        assert not beside.working

    arun(story)


def test_a_seat_is_held_for_a_task(arun: Any) -> None:
    async def story() -> None:
        beside = Beside(1, 0)
        seat = beside.enter(10)
        seat.hold_for(asyncio.ensure_future(asyncio.sleep(0)))
        seat.leave()
        assert beside.count == 1
        while beside.count:
            await asyncio.sleep(0)

    arun(story)
