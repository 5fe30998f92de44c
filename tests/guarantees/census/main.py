"""The app of the leak tests: it works without the collector, and counts what lives here."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import greenroom as gr
from greenroom.core import _live

gc.disable()
if _live.COUNTING:
    _live.start()

PAGE = os.sysconf("SC_PAGE_SIZE")

gr.init_state({"count": 0, "rows": [], "nest": {"deep": {"x": 1}}})


def work(session: gr.Session, state: Any, payload: int) -> int:
    state["count"] += payload
    state["nest"]["deep"] = {"x": [payload, {"y": 2}]}
    state.append("rows", payload)
    session.emit("app:did", payload)
    session.tell("inline", 1, delay=60.0)
    return int(state["count"])


@gr.handler(inline=True)
def inline(state: Any, payload: int) -> None:
    state["count"] += payload


async def later(session: gr.Session, state: Any) -> None:
    await asyncio.sleep(0)
    state["nest"]["deep"]["x"] = {"z": 1}

    async def job() -> None:
        async with session.turn() as own:
            own["count"] += 1
        raise RuntimeError("a job that fails")

    session.spawn(job)
    session.on("app:own", lambda: session.id)
    state.subscribe_mutation("count", lambda: session.id)


def fails(state: Any) -> None:
    state["count"] = -1
    raise RuntimeError("a handler that fails")


@gr.handler(inline=True)
def census(session: gr.Session) -> dict[str, Any]:
    """What there is in this process now."""
    app = session.app
    statm = Path("/proc/self/statm").read_text("ascii")
    return {
        "resident": int(statm.split()[1]) * PAGE,
        "objects": Counter(type(thing).__qualname__ for thing in gc.get_objects()),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "sessions": len(app.sessions),
        "connections": len(app.reception.connections),
        "links": len(app.budget.links),
        "log_bytes": app.budget.total,
        "pending": app.scheduler.pending,
        "live": _live.live(),
    }


@gr.handler(inline=True)
def circles(session: gr.Session) -> dict[str, int]:
    """What only the collector could free, by type; it is freed now, and the app's log emptied."""
    session.app.log.clear()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found: dict[str, int] = {}
    for thing in gc.garbage:
        name = f"{type(thing).__module__}.{type(thing).__qualname__}"
        found[name] = found.get(name, 0) + 1
    gc.garbage.clear()
    gc.collect()
    return found
