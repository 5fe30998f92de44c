"""What is left when nobody collects: the tools of the tests for leaks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import Generator
from types import FrameType
from typing import Any

PATIENCE = 10.0  # seconds until something that should go at once counts as a leak


@contextlib.contextmanager
def collector_off() -> Generator[None]:
    """Only reference counts free things in here; what was garbage before is gone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def circles() -> Counter[str]:
    """What only the collector could have freed, by type. It is freed now."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
    finally:
        gc.set_debug(0)
    found = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.garbage)
    gc.garbage.clear()
    gc.collect()
    return found


class Going:
    """Objects that are about to go. Holds none of them; waits for their end, not for time."""

    def __init__(self) -> None:
        self._left: set[weakref.ref[Any]] = set()
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()

    def watch(self, thing: Any) -> None:
        """This one will have to go."""
        self._left.add(weakref.ref(thing, self._gone))

    def _gone(self, ref: weakref.ref[Any]) -> None:
        self._left.discard(ref)
        if not self._left:
            self._loop.call_soon_threadsafe(self._empty.set)

    async def all_gone(self) -> None:
        """Wait for the last one. Fails with what is still there, and who holds it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._left:
                    self._empty.clear()
                    await self._empty.wait()
        left = [thing for ref in self._left if (thing := ref()) is not None]
        assert not left, f"{len(left)} still exist, the first one held by\n{holders(left[0])}"


def holders(thing: Any, depth: int = 4) -> str:
    """Who holds a thing, and who holds those: for the message of a failed test."""
    lines: list[str] = []
    seen: set[int] = set()

    def look(target: Any, level: int) -> None:
        for holder in gc.get_referrers(target):
            if level > depth or len(lines) > 60 or id(holder) in seen:
                continue
            seen.add(id(holder))
            if isinstance(holder, FrameType):
                if holder.f_globals is not globals():
                    lines.append(f"{'  ' * level}frame {holder.f_code.co_qualname}")
                continue
            text = "" if isinstance(holder, (dict, list)) else repr(holder)[:120]
            lines.append(f"{'  ' * level}{type(holder).__name__} {text}")
            look(holder, level + 1)

    look(thing, 0)
    return "\n".join(lines)
