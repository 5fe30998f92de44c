"""What a turn is made of, besides middlewares: a function, and all that a turn must know of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from ._turn import CallPlan
from .errors import BadHandler
from .exposure import Options, options_of
from .payloads import converter
from .plans import INJECTABLE, Filling, describe, fill_by_name, is_async, layers, location
from .types import Place, Slot

__all__ = ["Handler"]

Function = Callable[..., Any]


class Handler:
    """A function as a turn calls it."""

    __slots__ = (
        "answers",
        "concurrent",
        "fn",
        "is_async",
        "name",
        "place",
        "plan",
        "qualified",
        "where",
    )

    fn: Function
    plan: CallPlan
    place: Place  # async: LOOP, sync: WORKER, inline: INLINE
    is_async: bool
    concurrent: bool  # starts beside the session's turns
    answers: bool  # False for a listener to everything: its result is dropped
    name: str  # what clients call it; for callbacks the event
    qualified: str  # module.name
    where: str  # file:line

    def __init__(
        self,
        fn: Function,
        name: str,
        *,
        qualified: str = "",
        filling: Filling[Slot] | None = None,
        what: str = "handler",
        answers: bool = True,
    ) -> None:
        options = options_of(fn) or Options()
        if filling is None:
            filling = fill_by_name(fn, INJECTABLE, what, payload=Slot.PAYLOAD)
        self.fn = fn
        self.is_async = _is_coroutine_function(fn, options, what)
        convert = converter(fn, filling.payloads, what)
        target = fn if answers else _without_answer(fn, self.is_async)
        self.plan = CallPlan(target, filling.positional, filling.keywords, convert)
        self.place = (
            Place.LOOP if self.is_async else Place.INLINE if options.inline else Place.WORKER
        )
        self.concurrent = options.concurrent
        self.answers = answers
        self.name = name
        self.qualified = qualified or name
        self.where = location(fn)

    def __repr__(self) -> str:
        return f"<Handler {self.qualified} {self.place.name} {self.where}>"


def _is_coroutine_function(fn: Any, options: Options, what: str) -> bool:
    for layer in layers(fn):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            raise BadHandler(
                f"{what} {describe(fn)} is a generator: clients would get no answer. Assign state "
                f"as the work goes on, and return the result"
            )
    found = is_async(fn)
    if found and options.inline:
        raise BadHandler(f"{what} {describe(fn)} is async: drop inline=True, it runs on the loop")
    return found


def _without_answer(fn: Function, coroutine: bool) -> Function:
    """``fn``, whose result nobody gets."""
    if coroutine:

        async def listen(*args: Any, **kwargs: Any) -> None:
            await fn(*args, **kwargs)

        return listen

    async def finish(result: Awaitable[Any]) -> None:
        await result

    def hear(*args: Any, **kwargs: Any) -> Awaitable[None] | None:
        result = fn(*args, **kwargs)
        return finish(result) if inspect.isawaitable(result) else None

    return hear
