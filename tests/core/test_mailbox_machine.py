"""The compiled mailbox and ready queue tell the same story as their models."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.core.fakes import FakeSession, message, scheduling, settled
from tests.reference.mailbox_model import Mailbox
from tests.reference.ready_model import Ready

from greenroom.core._turn import Message
from greenroom.core.errors import Busy, Closed
from greenroom.core.scheduler import Scheduler
from greenroom.core.settings import Settings


class MailboxMachine(RuleBasedStateMachine):
    """Post, remove and close on both; take by running everything at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Mailbox(12, 100)
        self.core = Scheduler(settings=Settings(mailbox_messages=12, mailbox_bytes=100))
        self.session = FakeSession(self.core)
        self.messages: list[Message] = []
        self.sent = 0

    @rule(lane=st.integers(0, 3), size=st.integers(0, 40))
    def post(self, lane: int, size: int) -> None:
        item = Message(str(len(self.messages)), lane=lane, size=size)
        self.messages.append(item)
        self.sent += 1
        expected = self.model.post(lane, item.event, size)
        try:
            self.session.post(item)
        except Busy:
            assert expected == "busy"
        except Closed:
            assert expected == "closed"
        else:
            assert expected == "accepted"

    @precondition(lambda self: self.messages)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.messages))
        assert self.session.remove(item) == self.model.remove(item.event)

    @rule()
    def clear(self) -> None:
        assert self.session.clear(Closed("x")) == len(self.model)
        for lane in self.model.lanes:
            lane.clear()

    @precondition(lambda self: self.sent > 20)
    @rule()
    def close(self) -> None:
        self.session.shut()
        self.model.closed = True
        for lane in self.model.lanes:
            lane.clear()

    @invariant()
    def same(self) -> None:
        assert len(self.session) == len(self.model)
        assert self.session.queued_bytes == self.model.nbytes
        assert (self.session.ready is not None) == bool(len(self.model))
        assert self.core.pending == len(self.model)
        assert self.core.accepted + self.core.refused == self.sent


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

STORIES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.booleans()), max_size=120
)


@settings(max_examples=60, deadline=None)
@given(story=STORIES, quantum=st.integers(1, 5))
def test_who_takes_the_next_turn(story: list[tuple[str, int, bool]], quantum: int) -> None:
    async def main() -> None:
        order: list[int] = []
        model = Ready(quantum)

        def note(_: Any, number: int) -> None:
            order.append(number)

        async with scheduling(quantum_turns=quantum, quantum_time=0.0) as scheduler:
            sessions = {name: FakeSession(scheduler, name) for name in "abcd"}
            posted: list[tuple[str, Message, int]] = []
            for number, (name, lane, drop) in enumerate(story):
                item = message(note, number, lane=lane)
                sessions[name].post(item)
                model.post(name, lane, number)
                posted.append((name, item, number))
                if drop:
                    victim, item, which = posted[number // 2]
                    sessions[victim].remove(item)
                    model.remove(victim, which)
            await settled(scheduler)
            assert order == model.run()

    asyncio.run(main())


def test_no_lane_is_passed_over_more_than_16_times() -> None:
    async def main() -> None:
        order: list[int] = []

        def note(_: Any, lane: int) -> None:
            order.append(lane)

        async with scheduling(mailbox_messages=0, quantum_time=0.0) as scheduler:
            session = FakeSession(scheduler)
            for lane in range(4):
                for _ in range(100):
                    session.post(message(note, lane, lane=lane))
            await settled(scheduler)
        for lane in range(4):
            places = [-1, *(place for place, served in enumerate(order) if served == lane)]
            assert max(b - a for a, b in itertools.pairwise(places)) <= 17

    asyncio.run(main())
