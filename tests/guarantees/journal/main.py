"""The app of the tests that kill their server: what it did survives in a file.

A line is on disk (in the page cache of the machine, which outlives the process) before the handler
goes on, so the journal is the truth about what ran, whenever the process is killed.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import greenroom as gr

_file = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

gr.init_state({"tags": [], "count": 0})


def _work(state: Any, tag: str) -> str:
    os.write(_file, f"{tag}\n".encode())
    state.append("tags", tag)
    state["count"] += 1
    gr.emit("app:did", tag)
    return tag


@gr.handler(inline=True)
def note(state: Any, payload: str) -> str:
    return _work(state, payload)


def note_sync(state: Any, payload: str) -> str:
    return _work(state, payload)


async def note_async(state: Any, payload: str) -> str:
    await asyncio.sleep(0)
    return _work(state, payload)


async def note_slow(state: Any, payload: str) -> str:
    await asyncio.sleep(0.2)
    return _work(state, payload)


async def forever() -> None:
    """Until it is cancelled."""
    await asyncio.get_running_loop().create_future()


@gr.handler(inline=True)
def seen(state: Any) -> list[str]:
    return list(state["tags"])
