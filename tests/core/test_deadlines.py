"""One timer for everything that has to be looked at later."""

from __future__ import annotations

import pytest

from greenroom.core._deadlines import Deadlines
from greenroom.testing import ManualClock


class Subject:
    """Wants to be looked at at `at`; `then` says what it wants after it was."""

    def __init__(self, at: float | None, then: float | None = None) -> None:
        self.at = at
        self.then = then
        self.watched: float | None = None
        self.seen: list[float] = []

    def deadline(self) -> float | None:
        return self.at

    def due(self, now: float) -> None:
        self.seen.append(now)
        self.at, self.then = self.then, None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(0.0)


def test_each_is_looked_at_when_it_is_due_by_one_timer(clock: ManualClock) -> None:
    deadlines = Deadlines(clock)
    subjects = [Subject(at) for at in (5.0, 3.0, 4.0, None)]
    for subject in subjects:
        deadlines.watch(subject)
    assert clock.pending == 1
    clock.advance(3.5)
    assert [subject.seen for subject in subjects] == [[], [3.0], [], []]
    clock.advance(10.0)
    assert [subject.seen for subject in subjects] == [[5.0], [3.0], [4.0], []]
    assert (len(deadlines), clock.pending) == (0, 0)


def test_a_deadline_that_moved_later_costs_nothing_until_it_comes(clock: ManualClock) -> None:
    deadlines = Deadlines(clock)
    subject = Subject(2.0)
    for at in (2.0, 3.0, 9.0):
        subject.at = at
        deadlines.watch(subject)
        assert len(deadlines) == 1
    clock.advance(8.0)
    assert subject.seen == []
    clock.advance(1.0)
    assert subject.seen == [9.0]


def test_a_deadline_that_moved_earlier_is_told(clock: ManualClock) -> None:
    deadlines = Deadlines(clock)
    subject = Subject(9.0, then=9.0)
    deadlines.watch(subject)
    subject.at = 2.0
    deadlines.watch(subject)
    clock.advance(20.0)
    assert subject.seen == [2.0, 9.0]  # the old entry is not a second look
    assert (len(deadlines), clock.pending) == (0, 0)


def test_who_has_no_deadline_any_more_is_dropped(clock: ManualClock) -> None:
    deadlines = Deadlines(clock)
    subject = Subject(2.0)
    deadlines.watch(subject)
    subject.at = None
    clock.advance(5.0)
    assert (subject.seen, subject.watched, len(deadlines)) == ([], None, 0)
    subject.at = 7.0
    deadlines.watch(subject)
    clock.advance(5.0)
    assert subject.seen == [7.0]


def test_who_stays_due_is_looked_at_once_a_time_and_holds_up_nobody(clock: ManualClock) -> None:
    deadlines = Deadlines(clock)
    stuck, other = Subject(1.0, then=1.0), Subject(1.0)
    deadlines.watch(stuck)
    deadlines.watch(other)
    timer = clock.next()
    assert timer == 1.0
    clock.advance(1.0)
    assert (stuck.seen, other.seen) == ([1.0, 1.0], [1.0])


def test_one_that_raises_does_not_stop_the_others(clock: ManualClock) -> None:
    class Broken(Subject):
        def due(self, now: float) -> None:
            super().due(now)
            raise RuntimeError("broken")

    deadlines = Deadlines(clock)
    broken, other = Broken(1.0, then=3.0), Subject(2.0)
    deadlines.watch(broken)
    deadlines.watch(other)
    with pytest.raises(RuntimeError, match="broken"):
        clock.advance(1.5)
    with pytest.raises(RuntimeError, match="broken"):
        clock.advance(5.0)
    clock.advance(0.0)
    assert (broken.seen, other.seen) == ([1.0, 3.0], [2.0])


def test_stopping_forgets_everything(clock: ManualClock) -> None:
    deadlines = Deadlines(clock)
    subject = Subject(1.0)
    deadlines.watch(subject)
    deadlines.stop()
    clock.advance(5.0)
    assert (subject.seen, subject.watched, clock.pending) == ([], None, 0)


def test_those_that_have_ended_do_not_fill_the_heap(clock: ManualClock) -> None:
    deadlines = Deadlines(clock)
    idle = Subject(1.0)
    deadlines.watch(idle)
    idle.at = None  # it wants nothing for the moment
    kept = [Subject(5.0 + n) for n in range(100)]
    for subject in kept:
        deadlines.watch(subject)
    for _ in range(10_000):
        deadlines.watch(Subject(4.0))
        assert len(deadlines) <= 2 * len(kept) + 64
    idle.at = 2.0
    deadlines.watch(idle)
    clock.advance(200.0)
    assert idle.seen == [2.0]
    assert all(subject.seen for subject in kept)
    assert (len(deadlines), clock.pending) == (0, 0)


def test_one_that_is_watched_while_the_heap_is_looked_through_takes_nobodys_place(
    clock: ManualClock,
) -> None:
    deadlines = Deadlines(clock)
    last, late = Subject(0.5), Subject(100.0)

    class Asked(Subject):
        def deadline(self) -> float | None:
            if last.watched is None and len(deadlines) > 64:  # as a finalizer may, at any time
                deadlines.watch(last)
            return super().deadline()

    asked = [Asked(1.0 + n) for n in range(64)]
    for subject in (*asked, late):
        deadlines.watch(subject)
    clock.advance(1000.0)
    assert [subject.at for subject in (*asked, late) if not subject.seen] == []
