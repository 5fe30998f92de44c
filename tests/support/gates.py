"""Handlers that wait until the test lets them go on: random delays without sleeping."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable

PATIENCE = 20.0  # seconds; a gate that nobody opens is a failure, not a hang


class Gates:
    """Where handlers wait, on the loop and on workers, until :meth:`open_one` picks them."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    async def pause(self) -> None:
        """Wait on the loop."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def go_on() -> None:
            if not future.done():
                future.set_result(None)

        self._waiting.append(go_on)
        await future

    def block(self) -> None:
        """Wait on a worker thread."""
        event = threading.Event()
        self._waiting.append(event.set)
        if not event.wait(PATIENCE):
            raise TimeoutError("nobody opened the gate")

    def open_one(self, rng: random.Random) -> None:
        """On the loop: let one of those who wait go on."""
        if self._waiting:
            self._waiting.pop(rng.randrange(len(self._waiting)))()

    def open_all(self) -> None:
        while self._waiting:
            self._waiting.pop()()
