"""What is left when nobody collects: the tools of the tests for leaks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import Generator
from typing import Any

PATIENCE = 1.0  # seconds until something that should go at once counts as a leak


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
    seen: set[int] = {id(lines)}

    def look(target: Any, level: int) -> None:
        if level > depth or len(lines) > 60:
            return
        for holder in gc.get_referrers(target):
            if id(holder) in seen or type(holder).__name__ in ("frame", "list_iterator"):
                if type(holder).__name__ == "frame" and holder.f_globals is not globals():
                    lines.append("  " * level + f"frame {holder.f_code.co_qualname}")
                continue
            seen.add(id(holder))
            if holder is target or type(holder).__name__ == "cell" and level > depth:
                continue
            text = repr(holder) if not isinstance(holder, (dict, list)) else type(holder).__name__
            lines.append("  " * level + f"{type(holder).__name__} {text[:150]}")
            look(holder, level + 1)

    look(thing, 0)
    return "\n".join(lines)
