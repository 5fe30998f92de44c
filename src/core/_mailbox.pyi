"""A mailbox: what one session still has to do, in order, by lane.

The thread rules stand at the top of ``_mailbox.pyx``.
"""

from typing_extensions import disjoint_base

@disjoint_base
class Mailbox:
    """Messages in the order in which their turns run, by lane."""

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    @property
    def queued_bytes(self) -> int:
        """The sizes of the queued messages together."""
