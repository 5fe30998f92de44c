"""What was heard, waiting for more of it, and giving everything else its steps."""

from __future__ import annotations

import asyncio
from typing import Any


class Heard(list[Any]):
    """What a reaction heard; `await heard.until(3)` waits until it has so many."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def note(self, data: Any) -> None:
        self.append(data)
        self._more.set()

    async def until(self, number: int) -> Heard:
        while len(self) < number:
            self._more.clear()
            await self._more.wait()
        return self


async def steps(number: int = 5) -> None:
    """Let everything that can go on do so."""
    for _ in range(number):
        await asyncio.sleep(0)
