"""Deadlines: one timer for everything that has to be looked at later. On the app's loop."""

from typing import Any, Protocol, final

from .types import Clock

__all__ = ["Deadlines"]

class _Due(Protocol):
    """Something that wants to be looked at at a certain time."""

    watched: Any  #: its entry in the heap, or None; owned by Deadlines

    def deadline(self) -> float | None: ...
    def due(self, now: float) -> None: ...

@final
class Deadlines:
    """A heap of subjects by deadline, and the one timer that wakes it."""

    def __init__(self, clock: Clock) -> None: ...
    def __len__(self) -> int: ...
    def watch(self, subject: _Due) -> None:
        """Look at ``subject`` when its deadline comes; cheap when it is watched already."""

    def stop(self) -> None:
        """Forget everything."""

    def run(self) -> None:
        """The timer has come."""
