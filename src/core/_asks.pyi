"""Asks: messages whose answer somebody waits for, and not for ever.

The thread rules stand at the top of ``_asks.pyx``.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from ._actor import Actor
from ._turn import Message

@disjoint_base
class Asks:
    """The scheduler's clock, and the asks that have a deadline on it.

    The scheduler provides ``set_timer``.
    """

    ask_timeout: float
    clock_time: Callable[[], float] | None
    next_look: float
    def ask(self, session: Actor, message: Message, timeout: float) -> asyncio.Future[Any]:
        """Post a message; a future of the loop with its answer. On the loop.

        After ``timeout`` seconds (0: never) the future gets Timeout, and the message is dropped
        when its turn has not begun. All asks share one timer, which is a few ms late.
        """
    def overdue(self) -> tuple[list[tuple[Message, Actor]], float]:
        """The asks whose deadline has passed, with their sessions; and the next deadline or 0."""
