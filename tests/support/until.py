"""Waiting for what nobody tells of: another thread's counter, a file, a weak reference.

The one place of the tests that looks again and again. Where there is an event, wait for the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

__all__ = ["eventually"]

PATIENCE: Final = 30.0  # seconds until the test fails
GLANCE: Final = 0.001  # seconds between two looks


async def eventually(condition: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Return as soon as something is so. Raises TimeoutError after ``patience`` seconds."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(GLANCE)
