"""Visits without the collector: what they made must go by itself and leave no circle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from tests.core.visitor import Visitor
from tests.leaks.census import Going, circles, collector_off

from greenroom import App, Settings
from greenroom.testing import ManualClock

__all__ = ["Expected", "Shape", "Visit", "advance", "rest", "tell_visits"]

#: What a visitor does, and what an app is made of that allows it.
Visit = Callable[[Visitor], Awaitable[None]]
Shape = Callable[[App], Visit]

VISITS = 3
STATE: dict[str, Any] = {"count": 0, "rows": [1], "nest": {"a": 1, "deep": {"x": []}}}


class Expected(Exception):
    """What handlers here raise on purpose."""


async def rest(visitor: Visitor) -> None:
    """Everything up to the end of the line."""
    with contextlib.suppress(EOFError):
        while True:
            await visitor.next()


def advance(visitor: Visitor, seconds: float) -> None:
    """Move the clock of the visitor's app."""
    clock = visitor.app.clock
    assert isinstance(clock, ManualClock)
    clock.advance(seconds)


async def tell_visits(shape: Shape, **options: Any) -> None:
    """Some visits to an app of this shape; every session ends by ``close``, if not before."""
    settings: dict[str, Any] = {"watchdog": 0.0, "workers": 2, "rate": 0.0}
    app = App(STATE, settings=Settings(**(settings | options)), clock=ManualClock())
    visit = shape(app)

    async def once(going: Going) -> None:
        visitor = await Visitor(app).open()
        session = visitor.session
        for thing in (session, visitor.line, visitor.line.connection):
            going.watch(thing)
        await visit(visitor)
        session.close("the visit is over")
        del session, thing
        await rest(visitor)

    async with app:
        await once(Going())  # what is made at the first use is made now
        going = Going()
        with collector_off():
            for _ in range(VISITS):
                await once(going)
            await going.all_gone()
            await at_rest(app)
            left = circles()
            assert not left, dict(left)
        stats = app.stats()
        assert stats["sessions"] == stats["links"] == stats["connections"] == 0
        assert not app.budget.total
        assert not app.budget.links


async def at_rest(app: App) -> None:
    """Nothing is queued, nothing runs, and no worker still cleans up after a turn."""
    pool = app.scheduler
    while pool.pending or pool.idle_workers < len(pool.workers):
        await asyncio.sleep(0)
