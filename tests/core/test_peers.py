"""What one address may do."""

from __future__ import annotations

import pytest

from greenroom.core.peers import Peers, stranger


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        (None, None),
        ("127.0.0.1", None),
        ("127.3.2.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),  # what one customer is given
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("somebody", "somebody"),
    ],
)
def test_strangers_are_counted_by_their_network(peer: str | None, counted: str | None) -> None:
    assert stranger(peer) == counted


def test_newcomers_are_counted_by_the_minute() -> None:
    peers = Peers()
    assert [peers.newcomer("a", 2, 6000.0 + i) for i in range(3)] == [True, True, False]
    assert peers.newcomer("b", 2, 6003.0)
    assert peers.newcomer(None, 2, 6003.0)
    assert peers.newcomer("a", 0, 6003.0)  # no limit
    assert not peers.newcomer("a", 2, 6059.9)
    assert peers.newcomer("a", 2, 6060.0)


def test_who_waits_is_counted_until_it_is_welcomed_or_gone() -> None:
    peers = Peers()
    for _ in range(2):
        assert not peers.crowded("a", 2)
        peers.wait("a")
    assert peers.crowded("a", 2)
    assert not peers.crowded("a", 0)
    assert not peers.crowded("b", 2)
    assert not peers.crowded(None, 1)
    peers.wait(None)
    peers.waited(None)
    peers.waited("a")
    assert not peers.crowded("a", 2)
    peers.waited("a")
    assert len(peers) == 0  # nothing is kept of who is not there
