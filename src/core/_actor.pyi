"""Actors: what can be sent a message, and has at most one turn at a time.

The thread rules stand at the top of ``_actor.pyx``.
"""

from typing import Any, Literal

from typing_extensions import disjoint_base

from ._ready import Runnable
from ._runner import Runner
from ._turn import Message, Turn

@disjoint_base
class Actor(Runnable):
    """A mailbox, the turn that runs, and the session's place in the ready queue.

    A subclass provides ``settle(turn, error)``, ``push_partial(turn)`` and may provide
    ``dropped(message, error)``.
    """

    linked: bool
    closed: bool
    waiting: dict[Actor, int] | None
    timers: set[Any] | None
    jobs: set[Any] | None
    def __init__(self, id: Any, ledger: Any, scheduler: Runner) -> None: ...
    @property
    def scheduler(self) -> Any:
        """The scheduler that runs its turns."""
    @property
    def id(self) -> Any: ...
    @property
    def running(self) -> Turn | None: ...
    @property
    def posted(self) -> int:
        """Messages it was ever sent and took; the control and background lanes do not count."""
    def post(self, message: Message) -> None:
        """Put a message into the mailbox; from any thread.

        Raises Busy when the mailbox is full and Closed when the session has ended or the app
        drains; then nothing was queued. A ``concurrent`` message starts at once beside the turns.
        """
    def remove(
        self, message: Message, error: BaseException | None = None, *, counter: str = "cancelled"
    ) -> bool:
        """Take a message out of the mailbox before its turn: true when it was still there.

        It counts as ``counter`` (cancelled, expired or dropped) and ``dropped(message, error)`` is
        called; ``error`` is CancelledError when none is given.
        """
    def dropped(self, message: Message, error: BaseException) -> None:
        """An accepted message ends without a turn. Answers its ``reply``; a session adds to it."""
    def cancel_event(self, link: Any, id: Any) -> bool:
        """Cancel the message of a client's frame; false when it is over or unknown. On the loop."""
    def cancel_message(self, message: Message) -> Literal["queued", "running"] | None:
        """Cancel a message: "queued", "running" or None when it is over or unknown. On the loop.

        Queued: it never runs. Running: an async turn gets CancelledError, a sync one sees
        ``gr.cancelled()``.
        """
    def shut(self) -> None:
        """End the mailbox: what is queued is dropped with Closed, and nothing more is accepted.

        A turn that runs goes on. Timers and jobs are cancelled.
        """
    def clear(self, error: BaseException) -> int:
        """Drop every queued message with ``error``; how many there were."""
    def settle(self, turn: Turn, error: BaseException | None) -> None:
        """Ship what a turn made, and answer ``turn.message.reply``. Overridden by the session.

        Called on the thread that ran the turn, after commit or rollback, when the session is
        linked, has an outbox, failed, or has a link or a reply that is no future to answer.
        """
    def push_partial(self, turn: Turn) -> None:
        """Ship what a long turn has so far. Overridden by the session."""
    def over(self) -> None:
        """A turn of a closed session has ended. Overridden by the session."""
    def add_timer(self, timer: Any) -> None:
        """Have a timer cancelled when the session closes. Raises Closed when it has."""
