"""Mailboxes, the queues of ready sessions, and the loops that run turns.

The thread rules stand at the top of ``_fast.pyx``.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from threading import Thread
from typing import Any, Literal, final

from typing_extensions import disjoint_base

from ._turn import CallPlan as CallPlan
from ._turn import Message as Message
from ._turn import Turn as Turn
from ._turn import current_turn as current_turn
from ._turn import enter_turn as enter_turn
from ._turn import leave_turn as leave_turn

async def hop() -> None:
    """In the coroutine of a turn that runs on a worker: go on, on the loop."""

@final
class ReadyQueue:
    """Sessions with work, in order, by the highest lane they have work in."""

    def __len__(self) -> int: ...

@disjoint_base
class Actor:
    """A mailbox, the turn that runs, and the session's place in the ready queue.

    A subclass provides ``settle(turn, error)``, ``push_partial(turn)`` and may provide
    ``dropped(message, error)``.
    """

    ledger: Any
    linked: bool
    closed: bool
    waiting: dict[Actor, int] | None
    timers: set[Any] | None
    jobs: set[Any] | None
    def __init__(self, id: Any, ledger: Any, scheduler: Core) -> None: ...
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
    @property
    def queued_bytes(self) -> int:
        """The sizes of the queued messages together."""
    @property
    def ready(self) -> Literal["loop", "pool"] | None:
        """Where it waits for its next turn: "loop", "pool" or None."""
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
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

@final
class Worker:
    """One thread of the pool. ``Core.work`` is its life."""

    thread: Thread
    def __init__(self, spare: bool = False) -> None: ...
    @property
    def spare(self) -> bool: ...
    @property
    def turn(self) -> Turn | None: ...

@disjoint_base
class Core:
    """The compiled half of the scheduler: queues, drain, workers' loop, and how turns end.

    ``scheduler.Scheduler`` is its one subclass and provides ``start_job``, ``run_turn``,
    ``await_result``, ``finish_subscribers``, ``make_shell``, ``start_worker``, ``set_timer``,
    ``look_for_end``, ``report`` and ``watch``.
    """

    loop: asyncio.AbstractEventLoop | None
    base: Context | None
    app: Any
    middlewares: tuple[Any, ...]
    keep_on_error: bool
    quantum_turns: int
    ask_timeout: float
    quantum_time: float
    max_messages: int
    max_bytes: int
    max_workers: int
    sweeping: bool  # somebody has asked for the next look at long turns
    clock_time: Callable[[], float] | None
    shell: Any
    next_look: float
    refusing: bool
    accepted: int
    run: int
    failed: int
    cancelled: int
    expired: int
    dropped: int
    begun: int
    @property
    def sent(self) -> int:
        """Messages posted or spawned, whatever came of it."""
    @property
    def refused(self) -> int:
        """Messages that were never accepted."""
    @property
    def refused_busy(self) -> int: ...
    @property
    def refused_closed(self) -> int: ...
    @property
    def emitted(self) -> int:
        """Events for clients, each of which ends in one of the next three."""
    @property
    def shipped(self) -> int:
        """Those that entered the stream of a link."""
    @property
    def unheard(self) -> int:
        """Those whose session had no client for them."""
    @property
    def undone(self) -> int:
        """Those that were never sent, because their turn failed."""
    @property
    def late_calls(self) -> int:
        """What was handed to the loop of an app that has stopped."""
    @property
    def loop_queue(self) -> ReadyQueue: ...
    @property
    def pool_queue(self) -> ReadyQueue: ...
    @property
    def inbox(self) -> deque[Any]: ...
    @property
    def parts(self) -> deque[Callable[[], object]]: ...
    @property
    def suspended(self) -> dict[Turn, None]: ...
    @property
    def workers(self) -> list[Worker]: ...
    @property
    def stopped(self) -> bool: ...
    @property
    def pending(self) -> int:
        """Accepted messages that are not over: queued or running."""
    @property
    def waiting_in_pool(self) -> int:
        """Sessions that wait for a worker."""
    @property
    def idle_workers(self) -> int:
        """Worker threads that sleep."""
    def attach(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        """Serve ``loop``, the running loop of this thread; every turn runs in a copy of context."""
    def detach(self) -> None:
        """Serve no loop any more; workers end when they find no work."""
    def on_loop(self) -> bool:
        """Whether the calling thread is the loop's."""
    def count(self, counter: str, more: int = 1) -> None:
        """Count something. Any thread: a sum in Python would be three steps, this is one.

        The counters are cancelled, expired, dropped, sent, refused_busy, refused_closed, emitted,
        shipped, unheard and late_calls.
        """
    def undo_outbox(self, turn: Turn) -> None:
        """The turn failed: what it wanted to send is not sent. On the thread that runs it."""
    def post_to_loop(self, call: Callable[..., object], *args: Any) -> None:
        """Have ``call(*args)`` called on the loop, after what was handed over before; any thread.

        The loop is woken once per burst.
        """
    def at_end_of_burst(self, call: Callable[[], object]) -> None:
        """Have ``call()`` called when the loop has done what is ready now. On the loop."""
    def call_on_worker(self, call: Callable[[], object]) -> None:
        """Have ``call()`` called on a worker, before sessions that wait; any thread."""
    def ask(self, actor: Actor, message: Message, timeout: float) -> asyncio.Future[Any]:
        """Post a message; a future of the loop with its answer. On the loop.

        After ``timeout`` seconds (0: never) the future gets Timeout, and the message is dropped
        when its turn has not begun. All asks share one timer, which is a few ms late.
        """
    def overdue(self) -> tuple[list[tuple[Message, Actor]], float]:
        """The asks whose deadline has passed, with their sessions; and the next deadline or 0."""
    def run_ready(self) -> None:
        """Deliver what came back from workers and run the turns that wait for the loop."""
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
    def work(self, worker: Worker) -> None:
        """The life of a worker thread."""
