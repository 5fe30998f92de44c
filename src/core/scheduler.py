"""The scheduler: who takes the next turn, and where.

What repeats per message is compiled (``_scheduler.pyx`` and what it stands on: actors, the runner
of the loop and the workers, the ready queue, asks); here is what happens once in a while: starting
and stopping, worker threads, the sweep over long turns, deadlines of asks, reports.

Threads. Everything here runs on the loop unless its docstring says otherwise. Workers live in
``Runner.work``; they touch sessions they were given by the ready queue and the inbox, nothing else.

Cut in the middle. After ``refuse`` nothing new is accepted; ``cut`` drops what is queued with
Closed and cancels what runs (``drain.py`` says when). Every message ends in exactly one counter:
``run``, ``failed``, ``cancelled``, ``expired`` or ``dropped``, or it was ``refused`` and never
accepted.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Container, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from ._actor import Actor
from ._runner import Worker
from ._scheduler import SchedulerCore, hop
from ._turn import Message, Turn
from .answers import Answer
from .eager import Shell
from .errors import Closed, Timeout, WouldBlock
from .jobs import Job
from .settings import Settings
from .timers import Timer
from .turn import HeldTurn, drive, hold_message, run_subscribers
from .types import Clock
from .types import Timer as Alarm
from .waits import begin_wait, end_wait, waiter
from .watchdog import Blockage, Watchdog

__all__ = ["Scheduler"]

logger = logging.getLogger("greenroom")

LATE = 0.005  # asks that end within so many seconds are looked at together


class LoopClock:
    """The loop's own time, for a scheduler that was given no clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time = loop.time
        self._loop = loop

    def call_at(self, when: float, callback: Any, *args: object) -> Alarm:
        return self._loop.call_at(when, callback, *args)


class Scheduler(SchedulerCore):
    """Runs the turns of all sessions of one app."""

    def __init__(self, app: Any = None, settings: Settings | None = None) -> None:
        super().__init__()
        if settings is None:
            settings = Settings() if app is None else app.settings
        assert settings is not None
        self.settings: Settings = settings
        self.app = app
        self.keep_on_error = settings.on_error == "keep"
        self.quantum_turns = settings.quantum_turns or 2**31 - 1
        self.quantum_time = settings.quantum_time or float("inf")
        self.max_messages = settings.mailbox_messages
        self.max_bytes = settings.mailbox_bytes
        self.ask_timeout = settings.ask_timeout
        self.max_workers = settings.workers
        self.clock: Clock | None = None
        self.on_report: Callable[[str, BaseException | None], None] | None = None
        self.on_blocked: Callable[[Blockage], None] | None = None
        self.blocked = 0  # how often the watchdog spoke
        self.timer_counts = {"due": 0, "posted": 0, "skipped": 0, "refused": 0}
        self._sweeping: Alarm | None = None
        self._swept_begun = 0
        self._asks_alarm: Alarm | None = None
        self._on_ended: Callable[[], None] | None = None
        self._telling = False
        self._parts: set[asyncio.Future[Any]] = set()  # of what ``run_on_worker`` has under way
        self._watchdog: Watchdog | None = None
        self._switch_interval: float | None = None
        periods = [settings.partial_after, settings.partial_every, settings.turn_timeout or 0.0]
        self._period = max(0.005, min([p for p in periods if p] or [0.1]) / 2)

    # -- life -------------------------------------------------------------------------------

    def start(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Clock | None = None,
        *,
        context: Context | None = None,
    ) -> None:
        """Serve ``loop`` (the running one). Every turn runs in a copy of ``context``."""
        if self.loop is not None:
            raise RuntimeError("the scheduler runs already: stop it first")
        loop = loop or asyncio.get_running_loop()
        own = clock is None or (_is_of_loop(clock) and sys.platform != "win32")
        used: Clock = clock or LoopClock(loop)
        self.clock = used
        self.clock_time = None if own else used.time
        self.refusing = self._telling = False
        self._on_ended = None
        if self.app is not None:
            self.middlewares = tuple(self.app.middlewares)
        self.attach(loop, context or copy_context())
        self.shell = self.make_shell()
        settings = self.settings
        if settings.switch_interval:
            self._switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(settings.switch_interval)
        if settings.watchdog:
            self._watchdog = Watchdog(
                loop, threading.get_ident(), settings.watchdog, self._report_blocked
            )
            self._watchdog.start()

    def refuse(self, on_ended: Callable[[], None]) -> None:
        """Accept nothing more but close messages; ``on_ended()`` is called when messages ended.

        On the loop, once for all that ended in one burst, and after what they made was delivered.
        """
        self.refusing = True
        self._on_ended = on_ended

    def cut(self, spare: Container[Actor] = ()) -> int:
        """Drop what is queued with Closed, cancel what runs. Returns how many messages there were.

        What a worker runs sees ``gr.cancelled()``, and goes on if it likes. ``spare``: actors that
        are left alone.
        """
        left = self.pending
        if left:
            for actor in self.busy_actors():
                if actor not in spare:
                    actor.clear(Closed("the app stops; this message was not run"))
            for turn in self.running_turns():
                if turn.session in spare:
                    continue
                turn.cancelled = True
                if turn.task is not None:
                    turn.task.cancel()
        return left

    async def stop(self) -> None:
        """End threads, timers and the spare task. What still runs on a worker is left behind.

        Turns and jobs that wait on the loop for such a part end as cancelled.
        """
        if self.loop is None:
            return
        self.refusing = True
        await _steps()  # cancelled turns get what they need to unwind
        while self._parts:  # nobody will tell of them: whoever waits, waits no more
            for future in tuple(self._parts):
                future.cancel()
            await _steps()
        for alarm in (self._sweeping, self._asks_alarm):
            if alarm is not None:
                alarm.cancel()
        self._sweeping = self._asks_alarm = None
        self.sweeping = False
        self.next_look = 0.0
        shell: Shell | None = self.shell
        turns = [(worker.thread, worker.turn) for worker in self.workers]
        threads = [thread for thread, turn in turns if turn is None or turn.ended]
        self.detach()
        self.shell = None
        if shell is not None:
            shell.close()
        await asyncio.sleep(0)
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        for thread in threads:
            thread.join(0.5)
        if self._switch_interval is not None:
            sys.setswitchinterval(self._switch_interval)
            self._switch_interval = None

    def running_turns(self) -> list[Turn]:
        """Turns and jobs that somebody could be waiting for: on workers, suspended, held."""
        turns = {worker.turn for worker in self.workers}
        turns.update(self.suspended)
        return [turn for turn in turns if turn is not None and not turn.ended]

    def look_for_end(self) -> None:
        """A message ended while draining. Any thread."""
        if not self._telling:
            self._telling = True
            self.post_to_loop(self._tell_ended)

    def _tell_ended(self) -> None:
        self._telling = False  # first: what ends from now on is told again
        if self._on_ended is not None:
            self._on_ended()

    # -- what sessions use ------------------------------------------------------------------

    def time(self) -> float:
        """Seconds on the clock of timers. Any thread."""
        if self.clock is None:
            raise Closed("the app does not run")
        return self.clock.time()

    def ask_anywhere(self, session: Actor, message: Message, timeout: float | None = None) -> Any:
        """Post ``message`` and hand out its answer: on the loop a future, elsewhere an Answer.

        Raises Busy, Closed, and Cycle when the caller's turn and ``session`` would wait for each
        other. Any thread.
        """
        limit = self.settings.ask_timeout if timeout is None else timeout
        by = waiter()
        if by is not None:
            begin_wait(by, session)
        try:
            if self.on_loop():
                future: asyncio.Future[Any] = self.ask(session, message, limit)
                if by is not None:
                    future.add_done_callback(partial(_end_wait, by, session))
                return future
            answer = Answer(limit or None)
            answer.on_give_up(lambda: self._give_up(session, message))
            if by is not None:
                answer.on_end(lambda: end_wait(by, session))
            message.reply = answer
            session.post(message)
        except BaseException:
            if by is not None:
                end_wait(by, session)
            raise
        return answer

    def _give_up(self, session: Actor, message: Message) -> None:
        session.remove(message, counter="expired")

    def hold(self, session: Actor) -> HeldTurn:
        """``with`` or ``async with`` a turn of ``session``."""
        return HeldTurn(self, session)

    def make_hold(self, reply: object) -> Message:
        """The message of a held turn; ``reply`` gets the turn."""
        return hold_message(Message, reply)

    def delay(self, session: Actor, make: Callable[[Any], Message], delay: float) -> Timer:
        """Post ``make(session)`` after ``delay`` seconds; the handle cancels. Any thread."""
        return Timer(self, session, make, delay=delay)

    def every(
        self,
        session: Actor,
        make: Callable[[Any], Message],
        every: float,
        delay: float | None = None,
    ) -> Timer:
        """Post ``make(session)`` every so many seconds; a handle with ``cancel()``. Any thread."""
        return Timer(self, session, make, delay=every if delay is None else delay, every=every)

    def spawn(self, session: Actor, message: Message) -> Job:
        """Run a message's handlers as a job beside the turns. Any thread."""
        self.count("sent")
        if session.closed or self.refusing:
            self.count("refused_closed")
            raise Closed(f"session {session.id!r} takes nothing new")
        return Job(self, session, message)

    def start_job(self, session: Actor, message: Message) -> None:
        """A ``concurrent`` message was posted. Called by the mailbox."""
        Job(self, session, message)

    def run_on_worker(
        self, call: Callable[..., Any], *args: Any, ended: Callable[[], object] | None = None
    ) -> asyncio.Future[Any]:
        """Run ``call(*args)`` on a worker thread; a future of the loop. On the loop.

        ``ended`` is called there when it has returned, also when nobody waits any more.
        """
        if self.loop is None or not self.on_loop():
            raise WouldBlock("run_on_worker() is for the app's loop: call the function directly")
        future: asyncio.Future[Any] = self.loop.create_future()
        self._parts.add(future)
        future.add_done_callback(self._parts.discard)
        told: list[Any] = [future, *args]  # emptied at the end: what it raised may hold its frame

        def part() -> None:
            try:
                value = call(*told[1:])
            except BaseException as error:  # noqa: BLE001 - it is the awaiter's to judge
                self.post_to_loop(_fail, told[0], error)
            else:
                self.post_to_loop(_succeed, told[0], value)
            finally:
                told.clear()
                if ended is not None:
                    self.post_to_loop(ended)

        self.call_on_worker(part)
        self.watch()
        return future

    def stats(self) -> dict[str, int]:
        """The counters of messages; ``stats.py`` says how they hang together."""
        return {
            "sent": self.sent,
            "accepted": self.accepted,
            "refused": self.refused,
            "refused_busy": self.refused_busy,
            "refused_closed": self.refused_closed,
            "run": self.run,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "expired": self.expired,
            "dropped": self.dropped,
            "pending": self.pending,
            "workers": len(self.workers),
            "waiting_in_pool": self.waiting_in_pool,
            "suspended": len(self.suspended),
            "blocked": self.blocked,
        }

    # -- called by the core -----------------------------------------------------------------

    def run_turn(self, turn: Turn, on_loop: bool) -> Coroutine[Any, Any, Any]:
        """The coroutine of a turn that is more than one call."""
        return drive(self, turn, on_loop)

    async def await_result(self, result: Any, on_loop: bool) -> Any:
        """The rest of a simple turn whose handler returned something awaitable."""
        if not on_loop:
            await hop()
        return await result

    def finish_subscribers(self, turn: Turn, value: Any) -> Coroutine[Any, Any, Any]:
        """The rest of a turn whose assignments called async subscribers."""
        return run_subscribers(self, turn, value)

    def make_shell(self) -> Shell:
        """A spare task for eager steps."""
        assert self.loop is not None
        return Shell(self.loop, self.base)

    def start_worker(self, spare: bool) -> None:
        """Add a thread to the pool. Any thread."""
        worker = Worker(spare)
        worker.thread = threading.Thread(
            target=self.work, args=(worker,), name=f"greenroom-{len(self.workers) + 1}", daemon=True
        )
        self.workers.append(worker)
        try:
            worker.thread.start()
        except BaseException:
            self.workers.remove(worker)
            raise

    def timed_out_error(self, turn: Turn) -> Timeout:
        """What a turn that exceeded ``turn_timeout`` failed with."""
        return Timeout(
            f"{turn.message.event!r} ran longer than turn_timeout ({self.settings.turn_timeout} s) "
            "and was cancelled"
        )

    def expired_error(self, message: Message) -> Timeout:
        """What an ask that was not begun in time failed with."""
        return Timeout(f"{message.event!r} was not begun in time and will not run")

    def report(self, what: str, error: BaseException | None = None) -> None:
        """Something that has nobody to be raised to. Any thread."""
        if self.on_report is not None:
            self.on_report(what, error)
        else:
            logger.error(what, exc_info=error)

    def _report_blocked(self, blockage: Blockage) -> None:
        self.blocked += 1
        if self.on_blocked is not None:
            self.on_blocked(blockage)
        else:
            logger.warning("%s", blockage)

    # -- deadlines of asks ------------------------------------------------------------------

    def set_timer(self, when: float) -> None:
        """Look at the asks at ``when``."""
        if self._asks_alarm is not None:
            self._asks_alarm.cancel()
        self.next_look = when
        assert self.clock is not None
        self._asks_alarm = self.clock.call_at(when + LATE, self._end_asks)

    def _end_asks(self) -> None:
        self._asks_alarm = None
        self.next_look = 0.0
        late, following = self.overdue()
        for message, session in late:
            future: asyncio.Future[Any] | None = message.reply
            if message.stage == 1 and session.remove(
                message, self.expired_error(message), counter="expired"
            ):
                continue
            if future is not None and not future.done():  # a worker may have begun it just now
                future.set_exception(
                    Timeout(f"{message.event!r} did not answer in time; it still runs")
                )
        if following and not self.next_look:
            self.set_timer(following)

    # -- the sweep over long turns ----------------------------------------------------------

    def watch(self) -> None:
        """See to it that long turns are looked at."""
        self.sweeping = True
        if self._sweeping is None and self.clock is not None and self.loop is not None:
            self._sweeping = self.clock.call_at(self.clock.time() + self._period, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        self.sweeping = False  # first: who wakes a thread from here on asks for the next one
        if self.clock is None or self.loop is None:
            return
        now = self.clock.time()
        settings = self.settings
        turns = self.running_turns()
        for turn in turns:
            if not turn.started:
                continue
            age = now - turn.started
            if (
                settings.partial_after
                and age >= settings.partial_after
                and not turn.concurrent
                and now - turn.pushed >= settings.partial_every
            ):
                turn.pushed = now
                try:
                    turn.session.push_partial(turn)
                except Exception as error:  # noqa: BLE001 - one session must not stop the others
                    self.report(f"session {turn.session.id!r} could not ship in part", error)
            spawned = turn.concurrent and not turn.message.wrapped  # it holds nobody up
            limit = None if spawned else settings.turn_timeout
            if limit and age > limit and not turn.reported:
                self._time_out(turn, age)
        waiting = bool(self.parts) or self.waiting_in_pool > 0
        if waiting and self.begun == self._swept_begun and not self.idle_workers:
            for _ in range(min(len(self.workers) or 1, settings.workers_max - len(self.workers))):
                self.start_worker(True)
        self._swept_begun = self.begun
        if turns or waiting or self.idle_workers < len(self.workers):
            self.watch()

    def _time_out(self, turn: Turn, age: float) -> None:
        turn.reported = True
        turn.cancelled = True
        if turn.task is not None and not turn.message.hold:
            turn.timed_out = True
            turn.task.cancel()
        self.report(
            f"{turn.message.event!r} of session {turn.session.id!r} has run for {age:.1f} s, "
            f"turn_timeout is {self.settings.turn_timeout} s"
        )


async def _steps() -> None:
    """Enough of the loop's for a task to hear of a future that is done, and to end."""
    for _ in range(3):
        await asyncio.sleep(0)


def _is_of_loop(clock: Clock) -> bool:
    """Whether the clock is the monotonic one of a loop, which the core can read by itself."""
    owner = getattr(clock.time, "__self__", None)
    return isinstance(owner, asyncio.AbstractEventLoop)


def _end_wait(by: Actor, on: Actor, _: object) -> None:
    end_wait(by, on)


def _succeed(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    elif isinstance(error, (StopIteration, GeneratorExit)):  # they mean something else there
        other = RuntimeError(f"the function raised {error!r}")
        other.__cause__ = error
        future.set_exception(other)
    else:
        future.set_exception(error)
