"""Mailboxes: limits, lanes, what is refused, removed, cancelled, closed."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from tests.core.fakes import FakeSession, message, scheduling, settled

from greenroom.core._actor import Actor
from greenroom.core._scheduler import SchedulerCore
from greenroom.core._turn import Message
from greenroom.core.errors import Busy, Closed
from greenroom.core.scheduler import Scheduler
from greenroom.core.settings import Settings
from greenroom.core.types import Lane, Place


def note(state: dict[str, Any], payload: Any) -> None:
    state.setdefault("seen", []).append(payload)


def idle(**settings: Any) -> tuple[Scheduler, FakeSession]:
    """A scheduler that is not started: messages stay where they are."""
    scheduler = Scheduler(settings=Settings(**settings))
    return scheduler, FakeSession(scheduler)


def test_a_full_mailbox_refuses_and_counts() -> None:
    scheduler, session = idle(mailbox_messages=3)
    for number in range(3):
        session.post(message(note, number))
    with pytest.raises(Busy) as refused:
        session.post(message(note, 3))
    assert refused.value.retry_after > 0
    assert (scheduler.accepted, scheduler.refused, len(session)) == (3, 1, 3)
    session.post(message(note, lane=Lane.CONTROL))  # a close always finds room
    assert len(session) == 4


def test_a_mailbox_is_full_by_bytes_too() -> None:
    _, session = idle(mailbox_bytes=100)
    session.post(message(note, size=60))
    with pytest.raises(Busy):
        session.post(message(note, size=41))
    session.post(message(note, size=40))
    assert session.queued_bytes == 100
    session.post(message(note, size=0))  # what weighs nothing is limited by number alone


def test_g7_a_flood_is_accepted_or_refused_and_nothing_is_lost(arun: Any) -> None:
    async def main() -> None:
        async with scheduling(mailbox_messages=100) as scheduler:
            session = FakeSession(scheduler)
            refused = 0
            for number in range(1000):
                try:
                    session.post(message(note, number))
                except Busy:
                    refused += 1
            await settled(scheduler)
            assert session.ledger.root["seen"] == list(range(100))
            assert refused == 900 == scheduler.refused
            assert scheduler.run == 100

    arun(main)


def test_a_message_is_posted_once() -> None:
    _, session = idle()
    once = message(note)
    session.post(once)
    with pytest.raises(ValueError, match="posted before"):
        session.post(once)


def test_a_lane_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="lane"):
        Message("x", lane=4)
    _, session = idle()
    strange = message(note)
    strange.lane = -1
    with pytest.raises(ValueError, match="lane"):
        session.post(strange)


def test_a_subclass_that_forgets_its_base_is_told() -> None:
    class Forgetful(Actor):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="did not call"):
        Forgetful().post(message(note))


def test_closed_mailboxes_drop_what_waits_and_take_nothing() -> None:
    scheduler, session = idle()
    for number in range(3):
        session.post(message(note, number, lane=number + 1))
    session.shut()
    assert [type(error) for _, error in session.lost] == [Closed] * 3
    assert scheduler.dropped == 3
    assert not scheduler.pending
    assert session.ready is None
    with pytest.raises(Closed):
        session.post(message(note))


def test_removing_a_queued_message() -> None:
    scheduler, session = idle()
    messages = [message(note, number) for number in range(4)]
    for item in messages:
        session.post(item)
    for position in (0, 3, 1):  # head, tail, middle
        assert session.remove(messages[position])
        assert not session.remove(messages[position])
    assert len(session) == 1
    where = [session.ready]
    assert session.remove(messages[2])
    assert [*where, session.ready] == ["loop", None]
    assert scheduler.cancelled == 4
    assert [type(error) for _, error in session.lost] == [asyncio.CancelledError] * 4
    assert not session.remove(message(note))


def test_where_a_session_waits_follows_its_next_message() -> None:
    _, session = idle()
    later = message(note, place=Place.WORKER, lane=Lane.NORMAL)
    session.post(later)
    seen = [session.ready]
    session.post(message(note, place=Place.INLINE, lane=Lane.BACKGROUND))
    seen.append(session.ready)
    first = message(note, place=Place.LOOP, lane=Lane.INTERACTIVE)
    session.post(first)
    seen.append(session.ready)
    session.remove(first)
    seen.append(session.ready)
    session.remove(later)
    seen.append(session.ready)
    assert seen == ["pool", "pool", "loop", "pool", "loop"]


def test_a_million_queued_messages_are_freed_without_recursion() -> None:
    _, session = idle(mailbox_messages=0)
    for _ in range(200_000):
        session.post(message((), event="x"))
    reference = weakref.ref(session)
    session.clear(Closed("x"))
    for _ in range(200_000):
        session.post(message((), event="x"))
    session.shut()
    del session
    gc.collect()
    assert reference() is None


def test_a_session_that_is_dropped_frees_its_messages() -> None:
    class Payload:
        pass

    scheduler = SchedulerCore()
    payload = Payload()
    alive = weakref.ref(payload)
    session = Actor("a", None, scheduler)
    session.post(Message("x", payload))
    del payload, session, scheduler
    gc.collect()
    assert alive() is None


def test_posting_from_many_threads(arun: Any) -> None:
    async def main() -> None:
        async with scheduling(mailbox_messages=0) as scheduler:
            sessions = [FakeSession(scheduler, str(n)) for n in range(8)]

            def flood(thread: int) -> None:
                for number in range(200):
                    for place, session in enumerate(sessions):
                        where = Place.WORKER if (place + number) % 3 else Place.INLINE
                        session.post(message(note, (thread, number), where))

            threads = [threading.Thread(target=flood, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            await settled(scheduler)
            for session in sessions:
                seen = session.ledger.root["seen"]
                assert len(seen) == 1600
                for sender in range(8):  # first in, first out for each sender
                    assert [n for t, n in seen if t == sender] == list(range(200))

    arun(main)
