"""The turns: how they begin, suspend and end. The compiled half of ``scheduler.Scheduler``.

The thread rules stand at the top of ``_scheduler.pyx``.
"""

from collections.abc import Coroutine
from typing import Any

from typing_extensions import disjoint_base

from ._actor import Actor
from ._runner import Runner
from ._turn import Message, Turn

async def hop() -> None:
    """In the coroutine of a turn that runs on a worker: go on, on the loop."""

@disjoint_base
class SchedulerCore(Runner):
    """The compiled half of the scheduler: how turns begin, suspend and end.

    ``scheduler.Scheduler`` is its one subclass and provides ``start_job``, ``run_turn``,
    ``await_result``, ``finish_subscribers``, ``make_shell``, ``start_worker``, ``set_timer``,
    ``look_for_end``, ``report`` and ``watch``.
    """

    app: Any
    middlewares: tuple[Any, ...]
    keep_on_error: bool
    quantum_turns: int
    quantum_time: float
    shell: Any
    @property
    def suspended(self) -> dict[Turn, None]: ...
    def undo_outbox(self, turn: Turn) -> None:
        """The turn failed: what it wanted to send is not sent. On the thread that runs it."""
    def resume(self, turn: Turn, coro: Coroutine[Any, Any, Any]) -> None:
        """Go on with a turn that a worker handed over. On the loop."""
    def ended(self, turn: Turn, value: Any, error: BaseException | None) -> None:
        """A suspended turn has come to its end. On the loop, in the turn's task."""
    def drop(self, actor: Actor, message: Message, error: BaseException) -> None:
        """Tell a session that an accepted message ends without a turn."""
    def finish(self, turn: Turn, error: BaseException | None = None) -> bool:
        """End a held turn, on the thread that holds it: commit, or roll back when there is error.

        True when it ended. False when async subscribers have to run first: then it ends on the
        loop, and the message's ``reply`` is answered.
        """
    def abandon(self, turn: Turn) -> None:
        """Give back a held turn that was never used."""
    def step_job(self, turn: Turn, coro: Coroutine[Any, Any, Any]) -> bool:
        """Take the first step of a job; true when it has ended. On the loop."""
    def begin_job(self, actor: Actor, message: Message, job: Any) -> None:
        """Count a message that starts beside the turns, and have its job end with the session.

        Raises Closed when the session has ended, and Busy when it has too many jobs.
        """
    def busy_actors(self) -> set[Any]:
        """Sessions that wait in a queue or whose turn runs."""
