"""What one address may do: new sessions in a minute, and connections nobody has welcomed yet.

Owner: the app's loop. Only addresses of strangers are counted: where the peer is not known, or is
this machine itself (a proxy on it that is not trusted, a test), everybody would share one count.
An IPv6 address counts as its /64, which is what one customer is given. Cut in the middle: whoever
is counted as waiting is counted off once, by its welcome or by its end.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

__all__ = ["Peers", "stranger"]

MINUTE = 60.0  # seconds


def stranger(peer: str | None) -> str | None:
    """What an address is counted under; None for one that is not counted."""
    if peer is None:
        return None
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer  # not an address, but the adapter knows it by this name
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    if address.is_loopback:
        return None
    if address.version == 6:
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


class Peers:
    """Counts by address. Addresses are those of :func:`stranger`; None is never over a limit."""

    __slots__ = ("_minute", "_newcomers", "_waiting")

    def __init__(self) -> None:
        self._minute = -1
        self._newcomers: Counter[str] = Counter()  # who asked for a new session in this minute
        self._waiting: dict[str, int] = {}  # connections without a welcome; no zeros

    def newcomer(self, peer: str | None, limit: int, now: float) -> bool:
        """Count one that asks for a new session; whether it is within ``limit`` a minute."""
        if not limit or peer is None:
            return True
        minute = int(now // MINUTE)
        if minute != self._minute:
            self._minute, self._newcomers = minute, Counter()
        self._newcomers[peer] += 1
        return self._newcomers[peer] <= limit

    def crowded(self, peer: str | None, limit: int) -> bool:
        """Whether as many of its connections as may are waiting already."""
        return bool(limit) and peer is not None and self._waiting.get(peer, 0) >= limit

    def wait(self, peer: str | None) -> None:
        """One of its connections waits for a welcome from now on."""
        if peer is not None:
            self._waiting[peer] = self._waiting.get(peer, 0) + 1

    def waited(self, peer: str | None) -> None:
        """It was welcomed, or has ended before."""
        if peer is None:
            return
        left = self._waiting[peer] - 1
        if left:
            self._waiting[peer] = left
        else:
            del self._waiting[peer]

    def __len__(self) -> int:
        """How many addresses are waited for."""
        return len(self._waiting)
