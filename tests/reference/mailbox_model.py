"""A slow, plainly right model of one mailbox and of the ready queue.

The rules, from the design: lanes are served highest first; a lane that was passed over so often
that it ripens goes first, the one passed over most among several. Within a lane messages are in
order. A session is in the ready queue once, in the highest lane it has work in.
"""

from __future__ import annotations

from collections import deque
from typing import Any

LANES = 4
RIPE = 13


class Lanes:
    """Queues by lane with the rule of starvation."""

    def __init__(self) -> None:
        self.lanes: list[deque[Any]] = [deque() for _ in range(LANES)]
        self.passed = [0] * LANES

    def __len__(self) -> int:
        return sum(map(len, self.lanes))

    def put(self, lane: int, item: Any) -> None:
        if not self.lanes[lane]:
            self.passed[lane] = 0
        self.lanes[lane].append(item)

    def choose(self) -> int:
        full = [lane for lane in range(LANES) if self.lanes[lane]]
        ripe = [lane for lane in full if self.passed[lane] >= RIPE]
        return max(ripe, key=lambda lane: (self.passed[lane], -lane)) if ripe else full[0]

    def take(self) -> Any:
        lane = self.choose()
        for other in range(LANES):
            if other == lane:
                self.passed[other] = 0
            elif self.lanes[other]:
                self.passed[other] += 1
        return self.lanes[lane].popleft()

    def remove(self, item: Any) -> bool:
        for queue in self.lanes:
            if item in queue:
                queue.remove(item)
                return True
        return False


class Mailbox(Lanes):
    """One session's messages, with their limits."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        super().__init__()
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.sizes: dict[Any, int] = {}
        self.closed = False

    def post(self, lane: int, item: Any, size: int) -> str:
        if self.closed:
            return "closed"
        if lane and self.max_messages and len(self) >= self.max_messages:
            return "busy"
        if lane and size and self.max_bytes and self.nbytes + size > self.max_bytes:
            return "busy"
        self.sizes[item] = size
        self.put(lane, item)
        return "accepted"

    @property
    def nbytes(self) -> int:
        return sum(self.sizes[item] for queue in self.lanes for item in queue)
