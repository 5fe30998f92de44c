"""The numbers a stream owes answers to, against a plain set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from greenroom.core._stream import Stream, Tally


def stream() -> Stream:
    return Stream(
        "main", False, lambda: (b"{}", 0), Tally(0),
        log_bytes=0, frame_bytes=0, window=0.0, dead=0.0,
    )  # fmt: skip


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(0, 40)), max_size=80))
def test_they_are_answered_in_any_order_and_once(steps: list[int | bool | None]) -> None:
    """True: an event is accepted, False: a gr: frame; a number: that one is answered."""
    link, last = stream(), 0
    events: set[int] = set()
    asides: set[int] = set()
    for step in steps:
        if step is None or isinstance(step, bool):
            last += 1
            link.accept(last, step is False)
            (asides if step is False else events).add(last)
        else:
            owed = step in events or step in asides
            assert link.result(step, b"null") is owed
            events.discard(step)
            asides.discard(step)
        assert (link.inflight, link.open_ids) == (len(events), len(events) + len(asides))
        assert link.counts.open_ids == link.open_ids
    assert set(link.pending()) >= events | asides
    link.shut()
    assert (link.open_ids, link.counts.open_ids, link.pending()) == (0, 0, [])


def test_many_are_answered_from_either_end_and_from_the_middle() -> None:
    for order in (
        range(1, 2001),
        range(2000, 0, -1),
        sorted(range(1, 2001), key=lambda n: n * 7 % 2003),
    ):
        link = stream()
        for number in range(1, 2001):
            link.accept(number)
        for number in order:
            assert link.result(number, b"null")
            assert not link.result(number, b"null")
        assert link.open_ids == 0
