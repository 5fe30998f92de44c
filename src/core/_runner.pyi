"""The loop and its workers: they run what is ready, and sleep when nothing is.

The thread rules stand at the top of ``_runner.pyx``.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from threading import Thread
from typing import Any, final

from typing_extensions import disjoint_base

from ._asks import Asks
from ._ready import ReadyQueue
from ._turn import Turn

@final
class Worker:
    """One thread of the pool. ``Runner.work`` is its life."""

    thread: Thread
    def __init__(self, spare: bool = False) -> None: ...
    @property
    def spare(self) -> bool: ...
    @property
    def turn(self) -> Turn | None: ...

@disjoint_base
class Runner(Asks):
    """The loop and its workers: what they have before them, who wakes whom, and what was counted.

    The scheduler provides ``serve``, ``start_worker``, ``report`` and ``watch``.
    """

    loop: asyncio.AbstractEventLoop | None
    base: Context | None
    max_messages: int
    max_bytes: int
    max_workers: int
    sweeping: bool  # somebody has asked for the next look at long turns
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
    def post_to_loop(self, call: Callable[..., object], *args: Any) -> None:
        """Have ``call(*args)`` called on the loop, after what was handed over before; any thread.

        The loop is woken once per burst.
        """
    def at_end_of_burst(self, call: Callable[[], object]) -> None:
        """Have ``call()`` called when the loop has done what is ready now. On the loop."""
    def call_on_worker(self, call: Callable[[], object]) -> None:
        """Have ``call()`` called on a worker, before sessions that wait; any thread."""
    def run_ready(self) -> None:
        """Deliver what came back from workers and run the turns that wait for the loop."""
    def work(self, worker: Worker) -> None:
        """The life of a worker thread."""
