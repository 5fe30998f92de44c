"""Keeping calm: who can make us say something must not be able to fill a disk with it.

The first few of a kind are said in full, within ten seconds and again in the next; the others are
counted, and the next that is said tells how many. Threads. One :class:`Calm` may be asked from any
thread, under a lock of its own. Kinds are few: beyond :data:`KINDS` of them all count as one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Calm", "CalmFilter"]

MANY: Final = 10  # of one kind are said ...
SECONDS: Final = 10.0  # ... in so long
KINDS: Final = 100


class Calm:
    """Which of many like messages are said."""

    __slots__ = ("_clock", "_kinds", "_lock", "hushed")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}
        self.hushed = 0  # all there were

    def ask(self, kind: str) -> str | None:
        """What to add to a message of this kind, mostly nothing; None: it is not said."""
        with self._lock:
            now = self._clock()
            entry = self._entry(kind, now)
            missed = 0
            if now - entry.since >= SECONDS:
                missed = entry.hushed
                entry.since, entry.said, entry.hushed = now, 0, 0
            if entry.said >= MANY:
                entry.hushed += 1
                self.hushed += 1
                return None
            entry.said += 1
            return f" ({missed} more like it were not shown)" if missed else ""

    def rest(self) -> list[tuple[str, int]]:
        """Kinds and how many of each were not said and never told of; then everything is new."""
        with self._lock:
            kinds, self._kinds = self._kinds, {}
            return [(kind, entry.hushed) for kind, entry in kinds.items() if entry.hushed]

    def _entry(self, kind: str, now: float) -> _Kind:
        entry = self._kinds.get(kind)
        if entry is None:
            if len(self._kinds) >= KINDS:
                for old, found in tuple(self._kinds.items()):
                    if now - found.since >= SECONDS and not found.hushed:
                        del self._kinds[old]
                if len(self._kinds) >= KINDS:
                    kind = "others"
            entry = self._kinds.setdefault(kind, _Kind(now))
        return entry


class _Kind:
    __slots__ = ("hushed", "said", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.said = 0
        self.hushed = 0


class CalmFilter(logging.Filter):
    """The same for a logger of somebody else, whose kinds are its message templates."""

    def __init__(self) -> None:
        super().__init__()
        self.calm = Calm()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        more = self.calm.ask(str(record.msg))
        if more:
            record.msg = f"{record.msg}{more}"
        return more is not None
