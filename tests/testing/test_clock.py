"""The clock that stands still."""

from __future__ import annotations

import pytest

from greenroom.testing import ManualClock


def test_calls_run_in_order_of_time_then_of_registration() -> None:
    clock = ManualClock(100.0)
    seen: list[tuple[str, float]] = []

    def note(name: str) -> None:
        seen.append((name, clock.time()))

    clock.call_at(103.0, note, "late")
    clock.call_at(101.0, note, "first")
    clock.call_at(101.0, note, "second")
    clock.call_at(99.0, note, "overdue")
    clock.advance(0.0)
    assert seen == [("overdue", 100.0)]
    clock.advance(2.0)
    assert seen[1:] == [("first", 101.0), ("second", 101.0)]
    assert (clock.time(), clock.pending, clock.next()) == (102.0, 1, 103.0)
    clock.advance(1.0)
    assert seen[-1] == ("late", 103.0)
    assert (clock.pending, clock.next()) == (0, None)


def test_what_a_call_asks_for_within_the_span_runs_too() -> None:
    clock = ManualClock(0.0)
    seen: list[float] = []

    def again() -> None:
        seen.append(clock.time())
        clock.call_at(clock.time() + 1.0, again)

    clock.call_at(1.0, again)
    clock.advance(3.5)
    assert seen == [1.0, 2.0, 3.0]
    assert clock.next() == 4.0


def test_a_cancelled_call_does_not_run() -> None:
    clock = ManualClock(0.0)
    timers = [clock.call_at(1.0, pytest.fail, "cancelled") for _ in range(2)]
    timers[0].cancel()
    timers[0].cancel()
    clock.call_at(0.5, timers[1].cancel)
    clock.advance(2.0)
    assert timers[1].cancelled
    assert clock.pending == 0


def test_it_does_not_go_back_and_calls_only_what_can_be_called() -> None:
    clock = ManualClock(0.0)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1.0)
    with pytest.raises(TypeError, match="callable"):
        clock.call_at(1.0, 5)
