"""Work that takes long: what it looks like in the page, and how to get out of it.

Start it with `greenroom run examples/long_work`. Each kind of work that docs/long-work.md describes
is here, with its progress and a way to cancel it.
"""

import asyncio
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import primes

import greenroom as gr

# How long one step takes, in seconds. Tests hurry: GREENROOM_TOUR_SPEED=20.
PAUSE = 0.1 / float(os.environ.get("GREENROOM_TOUR_SPEED", "1"))
STEPS = 30
IDLE = {"running": False, "done": 0, "note": "nothing to do"}

gr.init_state({"clicks": 0, "turn": "", "job": IDLE, "sum": IDLE, "steps": STEPS})


def click(state):
    """To see what else the session does meanwhile."""
    state["clicks"] += 1


# ---------------------------------------------------------------- one long turn


async def think(state):
    """Nothing else happens in this session until it returns; its client may cancel it."""
    state["turn"] = ""
    for _ in range(STEPS):
        await asyncio.sleep(PAUSE)
        state["turn"] += "."  # sent while it runs
    return STEPS


# ---------------------------------------------------------------- a job beside the turns


def start(state, session):
    """Begin, and return at once."""
    if not state["job"]["running"]:
        state["job"] = IDLE | {"running": True, "note": "working"}
        state["_job"] = session.spawn(_work)  # private: stays here


async def _work(session):
    """Waits between its turns, not in them."""
    note = "failed"  # what it raises is in the session's log
    try:
        for step in range(STEPS):
            await asyncio.sleep(PAUSE)
            async with session.turn() as state:
                state["job"]["done"] = step + 1
        note = "done"
    finally:
        await _end(session, "job", note)


async def _end(session, key, note):
    if not gr.cancelled():  # else whoever cancelled it says so
        async with session.turn() as state:
            state[key].update(running=False, note=note)


@gr.handler(concurrent=True)
async def cancel(state, session):
    """Concurrent, so that it need not wait until `think` has ended."""
    await _cancel(session, state["_job"], "job")


async def _cancel(session, job, key):
    if session.cancel(job):
        async with session.turn() as state:
            if state[key]["running"]:
                state[key].update(running=False, note="cancelled")


# ---------------------------------------------------------------- work for the processor

# Processes have a GIL each. They are spawned, because a fork of a process with threads may hang,
# and Ctrl-C is for this process alone.
_pool = ProcessPoolExecutor(
    max_workers=2,
    mp_context=get_context("spawn"),
    initializer=signal.signal,
    initargs=(signal.SIGINT, signal.SIG_IGN),
)


def count(state, session, payload: int = 300_000):
    """Count primes below a limit, piece by piece."""
    if not state["sum"]["running"]:
        state["sum"] = IDLE | {"running": True, "note": "counting"}
        state["_sum"] = session.spawn(_count, payload)


async def _count(session, payload):
    """A process does not listen while it counts: pieces make progress and cancelling possible."""
    loop, piece, found, note = asyncio.get_running_loop(), payload // STEPS, 0, "failed"
    try:
        for step in range(STEPS):
            begin = step * piece
            found += await loop.run_in_executor(_pool, primes.count, begin, begin + piece)
            async with session.turn() as state:
                state["sum"]["done"] = step + 1
        note = f"{found} primes"
    finally:
        await _end(session, "sum", note)


@gr.handler(concurrent=True)
async def stop_counting(state, session):
    await _cancel(session, state["_sum"], "sum")
