"""The ready queue: sessions with work, in the order in which they are served.

The thread rules stand at the top of ``_ready.pyx``.
"""

from typing import Any, Literal, final

from typing_extensions import disjoint_base

from ._mailbox import Mailbox

@disjoint_base
class Runnable(Mailbox):
    """A mailbox whose messages run: what a ready queue lines up."""

    ledger: Any
    @property
    def ready(self) -> Literal["loop", "pool"] | None:
        """Where it waits for its next turn: "loop", "pool" or None."""

@final
class ReadyQueue:
    """Sessions with work, in order, by the highest lane they have work in."""

    def __len__(self) -> int: ...
