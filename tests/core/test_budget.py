"""Who pays first when all logs together are too much."""

from __future__ import annotations

from greenroom.core._patch import Patch
from greenroom.core.budget import Budget
from greenroom.core.hello import Hello
from greenroom.core.link import ServerLink
from greenroom.core.settings import Settings

ROOM = 64 * 1024


def linked(budget: Budget, *, detached: float | None = None) -> ServerLink:
    link = ServerLink("L", "main", False, Settings(), budget, lambda: (b"{}", 0), 0.0)
    link.attach(Hello(), 0.0, session="S", token="T", expires=0.0)
    link.take(0.0, ROOM)
    link.acknowledge(1)
    if detached is not None:
        link.detach(detached)
    return link


def fill(link: ServerLink, size: int) -> None:
    link.push_event("a:b", b'"' + b"x" * (size - 66) + b'"')


def patch(link: ServerLink, size: int, position: int = 1) -> None:
    link.push_patch(Patch.from_ops({"/a": "x" * size}, position=position))


def test_detached_streams_pay_first_oldest_first() -> None:
    budget = Budget(10_000)
    old, young = linked(budget, detached=5.0), linked(budget, detached=6.0)
    busy = linked(budget)
    busy.take(7.0, -1)
    fill(young, 4000)
    fill(old, 4000)
    patch(busy, 4000)
    busy.committed(7.0)
    assert (old.unsent_bytes, young.unsent_bytes) == (0, 4000)
    assert old.broken
    assert not young.broken
    assert busy.patch_bytes > 4000


def test_then_patches_become_marks_largest_first() -> None:
    budget = Budget(10_000)
    small, large = linked(budget), linked(budget)
    reading = linked(budget)
    patch(small, 4000)
    patch(large, 7000)
    patch(reading, 2000)
    small.take(1.0, -1)
    large.take(1.0, -1)
    large.committed(1.0)
    assert small.patch_bytes > 4000
    assert reading.patch_bytes > 2000
    assert (large.patch_bytes, budget.counts.collapsed) == (0, 1)


def test_then_the_largest_stalled_link_is_closed() -> None:
    told: list[ServerLink] = []
    budget = Budget(10_000, told.append)  # type: ignore[arg-type]
    small, large, reading = linked(budget), linked(budget), linked(budget)
    fill(small, 3000)
    fill(large, 6000)
    fill(reading, 2000)
    small.take(1.0, -1)
    large.take(1.0, -1)
    large.committed(1.0)
    assert told == [large]
    assert large.closing is not None
    assert large.closing.code == "slow_consumer"
    assert (large.unsent_bytes, small.unsent_bytes) == (0, 3000)
    assert budget.total <= 10_000


def test_at_last_what_readers_do_not_acknowledge_is_forgotten_largest_first() -> None:
    budget = Budget(10_000)
    small, large, thrifty = linked(budget), linked(budget), linked(budget)
    for link, size in ((small, 3500), (large, 7000), (thrifty, 2000)):
        fill(link, size)
        link.take(1.0, ROOM)
    thrifty.acknowledge(2)
    large.committed(1.0)
    assert (small.sent_bytes > 0, large.sent_bytes, thrifty.sent_bytes) == (True, 0, 0)
    assert budget.counts.trimmed == 1
    assert budget.total <= 10_000
    assert all(link.connected for link in (small, large, thrifty))
    assert not large.broken
    assert large.resume(2)  # only the point from which it can resume has moved
    assert not large.resume(1)


def test_what_goes_out_again_is_not_forgotten() -> None:
    link = linked(Budget(0))
    for _ in range(3):
        fill(link, 2000)
    link.take(1.0, ROOM)
    link.detach(2.0)
    link.attach(Hello(seq=1), 3.0, session="S", token="T", expires=0.0)
    link.take(3.0, 100)  # the welcome
    link.release()
    sent = b"".join(packet.data for packet in link.take(4.0, ROOM))
    assert sent.count(b"a:b") == 3


def test_it_is_not_asked_all_the_time() -> None:
    budget = Budget(10_000)
    links = [linked(budget) for _ in range(3)]
    looks: list[float] = []
    pay = budget._pay

    def counted(now: float) -> None:
        looks.append(now)
        pay(now)

    budget._pay = counted  # type: ignore[method-assign]
    for link in links:
        fill(link, 4000)  # handed over at the end of the burst: nobody has to pay
    links[0].committed(1.0)
    assert budget.total > 10_000
    links[0].committed(1.5)
    assert looks == [1.0]
    links[0].committed(2.5)
    assert looks == [1.0, 2.5]
    # Whoever pays without losing anything pays a little more than he must.
    for link in links:
        link.take(3.0, ROOM)
    fill(links[0], 100)
    links[0].committed(4.0)
    assert budget.total <= 10_000 - 10_000 // 64
    assert looks == [1.0, 2.5, 4.0]


def test_a_link_that_ends_is_no_payer() -> None:
    budget = Budget(0)
    link = linked(budget)
    assert budget.links == {link}
    link.forget()
    assert budget.links == set()
    assert budget.total == 0
