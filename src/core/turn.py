"""Turns that are more than one plain call: middlewares, several callbacks, async parts, held turns.

The compiled core runs the simple turn (one callback, no middleware) by itself. Everything else is
one coroutine, :func:`drive`, that the core steps: on a worker until it asks for the loop
(:func:`hop`), from then on in a task on the loop. So async parts share one task, whose
``current_task()`` is the same before and after a middleware's ``yield``; sync parts run on a
worker, inline ones on the loop.

Threads. A turn has one owner at a time. ``drive`` hands the ledger over (``adopt``) at each change
of thread and waits for a part that runs on a worker even when it is cancelled meanwhile, so the
two never run at once. Such a part runs in a copy of the turn's context: what it sets in context
variables is not seen by later parts.

Cut in the middle. Whatever raises unwinds the middlewares that have begun, innermost first; before
the first of them is told, everything the turn has assigned so far is undone and its outbox emptied
(unless ``Settings.on_error`` is "keep"). The core commits or rolls back at the end, on the thread
where the last part ran. A thread that waits for a turn when the one it runs in is cancelled leaves
the queue and gets CancelledError (``Turn.wake``); a wait that begins later is one like any other,
so that it can take a last turn to say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from functools import partial
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Protocol

from ._scheduler import hop
from ._turn import Turn, current_turn, enter_turn, leave_turn
from .answers import Answer
from .errors import BadHandler, WouldBlock
from .types import Lane, Place
from .waits import begin_wait, end_wait, waiter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from types import FrameType, TracebackType

    from ._actor import Actor
    from ._turn import CallPlan, Message
    from .scheduler import Scheduler

__all__ = ["HeldTurn", "Part", "cancelled", "current_turn", "drive", "run_subscribers"]

CARRIERS = frozenset((__name__, f"{__package__}.scheduler"))  # whose frames carry a turn's error
SIGNS = (StopIteration, StopAsyncIteration, GeneratorExit)  # they end what carries them
ROUNDS = 128  # of async subscribers that make each other run


class Part(Protocol):
    """What a turn is made of: a handler or a middleware."""

    @property
    def plan(self) -> CallPlan: ...
    @property
    def place(self) -> int: ...


#: The job or handler that holds a turn of its own just now, in ``with session.turn()``.
_holder: ContextVar[Turn | None] = ContextVar("greenroom_holder", default=None)


def cancelled() -> bool:
    """Whether the turn or job this code runs in was cancelled; for long sync handlers to ask."""
    turn, holder = current_turn(), _holder.get()
    return (turn is not None and turn.cancelled) or (holder is not None and holder.cancelled)


class Runner:
    """Where a turn is at the moment, and how it gets elsewhere."""

    __slots__ = ("on_loop", "scheduler", "turn")

    def __init__(self, scheduler: Scheduler, turn: Turn, on_loop: bool) -> None:
        self.scheduler = scheduler
        self.turn = turn
        self.on_loop = on_loop

    async def call(self, place: int, fn: Callable[..., Any], *args: Any) -> Any:
        """Call a part in its place."""
        if place != Place.WORKER:
            await self.go_to_loop()
        elif self.on_loop:
            return await self._on_worker(fn, *args)
        try:
            return fn(*args)
        except (StopIteration, GeneratorExit) as error:
            raise RuntimeError(f"the function raised {error!r}") from error

    async def go_to_loop(self) -> None:
        """Go on, on the loop; there for good."""
        if not self.on_loop:
            await hop()
            self.on_loop = True

    async def call_and_wait(self, part: Part, what: object) -> Any:
        """Call a part; await its result when it is awaitable."""
        value = await self.call(part.place, part.plan, what)
        if inspect.isawaitable(value):
            await self.go_to_loop()
            value = await value
        return value

    async def _on_worker(self, fn: Callable[..., Any], *args: Any) -> Any:
        turn, ledger = self.turn, self.turn.ledger
        assert turn.variables is not None
        context = turn.variables.copy()
        given: list[Any] = [fn, *args]  # emptied at the end: one may be what is raised through here
        del fn, args

        def part() -> Any:
            if not turn.concurrent:
                ledger.adopt()
            try:
                return given[0](*given[1:])
            finally:
                given.clear()

        future = self.scheduler.run_on_worker(context.run, part)
        interrupted: asyncio.CancelledError | None = None
        while True:
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as error:
                if not future.cancelled():
                    interrupted = error  # it is for the turn, also when the part has just ended
                if not future.done():
                    continue  # the part still runs: the turn cannot end before it
            except BaseException:  # noqa: BLE001 - it is in the future
                pass
            break
        if not turn.concurrent:
            ledger.adopt()
        try:
            if interrupted is not None and not future.cancelled():
                future.exception()
                raise interrupted
            return future.result()
        finally:
            del future, interrupted  # a frame that holds its own exception is a circle

    def undo(self) -> None:
        """Take back what the turn has done so far, after a failure."""
        if self.turn.concurrent or self.scheduler.keep_on_error:
            return
        self.turn.ledger.undo()
        self.turn.ledger.take_async()  # of assignments that are undone: nobody is to hear of them
        self.scheduler.undo_outbox(self.turn)


async def drive(scheduler: Scheduler, turn: Turn, on_loop: bool) -> Any:
    """Everything of a turn up to its commit; returns the answer."""
    runner = Runner(scheduler, turn, on_loop)
    message: Message = turn.message
    around = scheduler.middlewares if message.wrapped else ()
    if not turn.concurrent:
        turn.ledger.open()
    begun: list[tuple[Any, Any]] = []
    result: Any = None
    error: BaseException | None = None
    before: BaseException | None = None
    try:
        for middleware in around:
            await _enter(runner, middleware, begun)
        result = await _run_handlers(runner, message.handlers)
        if not turn.concurrent:
            await _run_async_subscribers(runner)
    except BaseException as raised:  # noqa: BLE001 - middlewares may swallow it, or it is raised below
        error = raised
        result = None
        runner.undo()
    for middleware, generator in reversed(begun):
        before = error
        try:
            swallowed = await _leave(runner, middleware, generator, result, error)
        except BaseException as raised:  # noqa: BLE001 - as above
            error = raised
        else:
            error = None if swallowed else error
        if before is not None and before is not error:
            forget_frames(before)
        if error is not None and error is not before:
            result = None
            runner.undo()
    if error is not None:
        try:
            forget_frames(error)
            raise error
        finally:
            del error, before  # a frame that holds its own exception is a circle
    del before  # the same of one that was swallowed
    return result


def forget_frames(error: BaseException) -> None:
    """Empty the frames of ours that an exception came through: some were given the exception.

    Each of those is a circle, and with the turn it holds the session. Frames of users stay whole.
    From Python 3.13 on that of a generator that has ended also holds those that it was resumed by.
    """
    for frame, _ in walk_tb(error.__traceback__):
        _empty(frame)
        behind = frame.f_back
        while behind is not None and _empty(behind):
            behind = behind.f_back


def _empty(frame: FrameType) -> bool:
    """Drop what a frame of ours holds; false when it is none."""
    if frame.f_globals.get("__name__") not in CARRIERS:
        return False
    with contextlib.suppress(RuntimeError):  # it is still running
        frame.clear()
    return True


async def _enter(runner: Runner, middleware: Any, begun: list[tuple[Any, Any]]) -> None:
    turn = runner.turn
    if middleware.kind == "generator":
        generator: Generator[Any, Any, Any] = middleware.plan(turn)
        begun.append((middleware, generator))
        try:
            await runner.call(middleware.place, _advance, generator)
        except BaseException:
            if inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED:
                begun.pop()  # it ended by itself: there is nothing to tell it
            raise
        return
    if middleware.kind == "async_generator":
        await runner.go_to_loop()
        stream: AsyncGenerator[Any, Any] = middleware.plan(turn)
        try:
            await anext(stream)
        except StopAsyncIteration:
            raise BadHandler(_never(stream)) from None
        begun.append((middleware, stream))
        return
    value = await runner.call_and_wait(middleware, turn)
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise BadHandler(
            f"middleware {middleware.name} returned the generator {value.__qualname__}, which "
            "nobody runs: register the generator function itself, or let a wrapper be made with "
            "functools.wraps"
        )


async def _leave(
    runner: Runner, middleware: Any, generator: Any, result: Any, error: BaseException | None
) -> bool:
    """Let a middleware run on after its ``yield``; true when it swallowed ``error``."""
    try:
        if middleware.kind == "generator":
            return bool(await runner.call(middleware.place, _end, generator, result, error))
        return await _end_async(generator, result, error)
    except RuntimeError as raised:
        if isinstance(error, SIGNS) and raised.__cause__ is error:
            # It went through: what carries them makes another error of these, a circle with it.
            raised.with_traceback(None).__cause__ = None
            return False
        raise


def _advance(generator: Generator[Any, Any, Any]) -> None:
    # StopIteration must not leave a coroutine, so it is dealt with here.
    try:
        next(generator)
    except StopIteration:
        raise BadHandler(_never(generator)) from None


def _end(generator: Generator[Any, Any, Any], result: Any, error: BaseException | None) -> bool:
    try:
        if error is None:
            generator.send(result)
        else:
            generator.throw(error)
    except StopIteration:
        return error is not None
    with contextlib.suppress(RuntimeError):  # it yields once more even now
        generator.close()
    raise BadHandler(_twice(generator))


async def _end_async(
    generator: AsyncGenerator[Any, Any], result: Any, error: BaseException | None
) -> bool:
    try:
        if error is None:
            await generator.asend(result)
        else:
            await generator.athrow(error)
    except StopAsyncIteration:
        return error is not None
    with contextlib.suppress(RuntimeError):  # it yields once more even now
        await generator.aclose()
    raise BadHandler(_twice(generator))


def _never(generator: Any) -> str:
    return (
        f"middleware {generator.__qualname__} ended without a yield: the handler runs at its "
        "`result = yield`; to skip the handler raise an exception"
    )


def _twice(generator: Any) -> str:
    return f"middleware {generator.__qualname__} yielded twice: it must yield exactly once"


async def _run_handlers(runner: Runner, handlers: tuple[Any, ...]) -> Any:
    """Run all callbacks in order; the result of the first that answers, or the first exception."""
    turn = runner.turn
    answer: Any = None
    answering = next((index for index, part in enumerate(handlers) if part.answers), -1)
    failure: Exception | None = None
    for index, handler in enumerate(handlers):
        try:
            value = await runner.call_and_wait(handler, turn)
        except Exception as error:  # noqa: BLE001 - the others still run, then it is raised
            failure = failure or error
        else:
            if index == answering:
                answer = value
    if failure is not None:
        try:
            raise failure
        finally:
            del failure
    return answer


async def _run_async_subscribers(runner: Runner) -> None:
    ledger = runner.turn.ledger
    rounds = 0
    while calls := ledger.take_async():
        rounds += 1
        if rounds > ROUNDS:
            raise RecursionError(f"async subscribers made each other run {ROUNDS} times")
        await runner.go_to_loop()
        for call in calls:
            waited: Awaitable[Any] | None = call()
            if waited is not None:
                await waited
    ledger.settle()  # here a middleware sees what a property raises


async def run_subscribers(scheduler: Scheduler, turn: Turn, value: Any) -> Any:
    """The async subscribers of a turn whose handler has returned ``value``. On the loop."""
    await _run_async_subscribers(Runner(scheduler, turn, on_loop=True))
    return value


class HeldTurn:
    """``with session.turn() as state:`` on threads, ``async with`` on the loop.

    The block is a turn: it waits for its place in the mailbox, and commits at its end or rolls
    back when it raises. Inside the session's own turn it joins: the outer turn commits.
    """

    __slots__ = ("_held_by", "_joined", "_scheduler", "_session", "_token", "_turn")

    def __init__(self, scheduler: Scheduler, session: Actor) -> None:
        self._scheduler = scheduler
        self._session = session
        self._turn: Turn | None = None
        self._token: object = None
        self._held_by: Token[Turn | None] | None = None
        self._joined = False

    def _join(self) -> Turn | None:
        if self._turn is not None:
            raise RuntimeError("this turn is held already: call session.turn() again")
        turn = current_turn()
        if turn is None or turn.ended or turn.concurrent or turn.session is not self._session:
            return None
        self._joined = True
        self._turn = turn
        return turn

    def _open(self, turn: Turn) -> Any:
        turn.ledger.open()
        self._turn = turn
        if _holder.get() is None:  # else this turn is held inside another one
            self._held_by = _holder.set(current_turn())
        self._token = enter_turn(turn)
        return turn.state

    def _shut(self) -> Turn | None:
        """Leave the context; the turn to end, or None when it was joined."""
        turn, self._turn = self._turn, None
        if self._joined:
            self._joined = False
            return None
        leave_turn(self._token)
        self._token = None
        if self._held_by is not None:
            _holder.reset(self._held_by)
            self._held_by = None
        return turn

    # -- threads ----------------------------------------------------------------------------

    def __enter__(self) -> Any:
        turn = self._join()
        if turn is not None:
            return turn.state
        if self._scheduler.on_loop():
            raise WouldBlock(
                "`with session.turn()` would block the app's loop: use `async with` there"
            )
        by = waiter()
        if by is not None:
            begin_wait(by, self._session)
        mine = [one for one in (current_turn(), _holder.get()) if one and not one.cancelled]
        try:
            turn = self._queue(mine).result()
        finally:
            while mine:  # emptied, for what is raised through here may be the failure of one
                mine.pop().wake = None
            if by is not None:
                end_wait(by, self._session)
        assert turn is not None
        return self._open(turn)

    def _queue(self, mine: list[Turn]) -> Answer:
        """Wait for a place in the mailbox. No frame that is raised through may keep the answer."""
        answer = Answer()
        message = self._scheduler.make_hold(answer)
        leave = partial(self._session.remove, message)  # answers it with CancelledError
        answer.on_give_up(leave)
        self._session.post(message)
        for one in mine:
            one.wake = leave
            if one.cancelled:  # just now
                leave()
        return answer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        turn = self._shut()
        if turn is None:
            return
        message = turn.message
        if error is None:
            answers = [Answer()]
            message.reply = answers[0]
            self._scheduler.finish(turn)
            answers.pop().result()  # async subscribers run on the loop; they raise here
        else:
            message.reply = None
            self._scheduler.finish(turn, error)

    # -- the loop ---------------------------------------------------------------------------

    async def __aenter__(self) -> Any:
        turn = self._join()
        if turn is not None:
            return turn.state
        scheduler = self._scheduler
        if not scheduler.on_loop() or scheduler.loop is None:
            raise WouldBlock("`async with session.turn()` works on the app's loop: use `with` here")
        by = waiter()
        if by is not None:
            begin_wait(by, self._session)
        try:
            future: asyncio.Future[Turn] = scheduler.loop.create_future()
            message = scheduler.make_hold(future)
            self._session.post(message)
            try:
                turn = await future
            except asyncio.CancelledError:
                if not future.done() or future.cancelled():
                    self._session.remove(message)
                elif future.exception() is None:  # else it was dropped at the same moment
                    scheduler.abandon(future.result())
                raise
        finally:
            if by is not None:
                end_wait(by, self._session)
        turn.task = asyncio.current_task()
        return self._open(turn)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scheduler = self._scheduler
        if error is None and self._turn is not None and not self._joined:
            try:
                await run_subscribers(scheduler, self._turn, None)  # it is the current turn still
            except BaseException as raised:
                turn = self._shut()
                assert turn is not None
                scheduler.finish(turn, raised)
                raise
        turn = self._shut()
        if turn is not None:
            scheduler.finish(turn, error)


def hold_message(make: Callable[..., Message], reply: object) -> Message:
    """The message by which a held turn queues."""
    return make(
        "turn", None, (), lane=Lane.NORMAL, place=Place.INLINE, reply=reply,
        wrapped=False, hold=True,
    )  # fmt: skip
