"""A tour of Greenroom: every card on the page is driven by a few of the functions below.

Start it with `greenroom run examples/tour`, open http://127.0.0.1:8000/ and read along. The page
shows the source of each handler beside its card, taken from this very file while it runs.

Five sentences to begin with. Every visitor has a session, and every session has a state: a tree of
plain values. Browsers show that tree and send events; a handler is the plain function that an event
names. What a handler assigns is sent when it ends, and only what changed. Parameters are filled in
by name: ask for `state`, `payload`, `session`, `context`, or for nothing at all. Functions whose
name begins with `_` are yours alone: no browser can call them.
"""

import asyncio
import hashlib
import inspect
import os
from typing import Annotated, Literal

import msgspec

import greenroom as gr

# How long one step of the slow things takes, in seconds. Tests hurry: GREENROOM_TOUR_SPEED=20.
PAUSE = 0.1 / float(os.environ.get("GREENROOM_TOUR_SPEED", "1"))


# ---------------------------------------------------------------- a counter


def add(state, payload: int):
    """The button sends 1 or -1. What is no integer is refused."""
    state["count"] += payload


# ---------------------------------------------------------------- words, as they come


async def ask(state, payload: Literal["turn", "patch", "cable"]):
    """One long turn: ten times a second the page is told how far it is."""
    state["answer"] = ""
    for word in ANSWERS[payload].split():
        state["answer"] += word + " "  # only the new words travel
        await asyncio.sleep(PAUSE / 2)


ANSWERS = {
    "turn": (
        "A turn is one message, handled. A session takes one at a time, so a handler never meets "
        "half of another one's work, and there is nothing to lock. Click the counter while this "
        "is written: the click waits in the mailbox until this turn has ended, and then it counts."
    ),
    "patch": (
        "What changed, and nothing else. Greenroom watches what a handler assigns. Had it sent "
        "this text anew for every word, the whole page would have been smaller than the traffic. "
        "Look at the frames: each one carries the words that were added since the last."
    ),
    "cable": (
        "Nothing is lost. The page keeps what you click, the server keeps what you should see, "
        "and both know by number how far the other one got. When the line is back they go on "
        "from there. Each click has then run exactly once."
    ),
}


# ---------------------------------------------------------------- slow work, with a way out

STEPS = 50


async def start_job(state, session):
    """The turn ends at once; the job goes on beside the session."""
    if not state["job"]["running"]:
        state["job"].update(running=True, done=0, note="Painting the set")
        state["_job"] = session.spawn(_paint)  # private: never sent


async def _paint(session):
    """Between its short turns the session is free for everything else."""
    for done in range(1, STEPS + 1):
        await asyncio.sleep(PAUSE)
        async with session.turn() as state:
            state["job"]["done"] = done
    async with session.turn() as state:
        state["job"].update(running=False, note="The set is painted")
        session.notify("The set is painted", kind="success")


async def cancel_job(state, session):
    if state["job"]["running"]:
        session.cancel(state["_job"])
        state["job"].update(running=False, note="Cancelled")


# ---------------------------------------------------------------- a form


class Booking(msgspec.Struct):
    """What the form must send. A dataclass would do as well."""

    name: Annotated[str, msgspec.Meta(min_length=2, max_length=40)]
    email: Annotated[str, msgspec.Meta(pattern=r"^\S+@\S+\.\S+$")]
    seats: Annotated[int, msgspec.Meta(ge=1, le=6)]


def reserve(state, payload: Booking):
    """Runs with a valid Booking or not at all; returns the answer."""
    if payload.seats > state["seats"]:
        return f"Sorry, only {state['seats']} seats are left"
    state["seats"] -= payload.seats
    state.append("guests", {"name": payload.name, "seats": payload.seats})
    print(f"{payload.name} takes {payload.seats} of the seats")  # to the terminal and this log
    return f"Thank you, {payload.name}: a letter goes to {payload.email}"


# ---------------------------------------------------------------- a file, there and back


def check_in(state, payload: gr.File):
    """A file input sends this. However large, it came beside the stream and is on disk."""
    with payload.open() as coat:
        ticket = hashlib.file_digest(coat, "sha256").hexdigest()
    state["coat"] = {"name": payload.name, "size": payload.size, "ticket": ticket[:8]}
    state["_coat"] = payload  # it stays until the session ends


def check_out(state, session):
    """The page fetches it from an address that is good once, and saves it."""
    session.download(state["_coat"])


# ---------------------------------------------------------------- a picture


def take_picture(state, payload: bytes):
    """A click on the camera sends a PNG. In the state it is an image that the page shows."""
    state["picture"] = payload


# ---------------------------------------------------------------- a question


async def strike(state, session):
    """What is assigned before the question is on the page while it stands."""
    state["stage"] = "The crew waits for your word"
    answer = await session.confirm("Strike the set? It cannot be put back.", timeout=30)
    state["stage"] = {
        True: "The set is gone",
        False: "The set stays",
        None: "Nobody said a word, so the set stays",  # after 30 seconds
    }[answer]


# ---------------------------------------------------------------- a live table

ACTS = {
    "magician": {"name": "The Late Magician", "sold": 12, "house": 40},
    "quartet": {"name": "Quartet for Three", "sold": 3, "house": 24},
    "puppets": {"name": "Puppets, No Strings", "sold": 21, "house": 32},
    "poet": {"name": "A Poet, Probably", "sold": 0, "house": 16},
}


def open_sales(state, session):
    """A timer sends this session the message `sell`, over and over."""
    if not state["selling"]:
        state["selling"] = True
        state["_timer"] = session.tell("sell", every=4 * PAUSE)


def close_sales(state):
    if state["selling"]:
        state["selling"] = False
        state["_timer"].cancel()


def sell(state):
    """One seat, where most are free. Only that cell of the table is sent."""
    emptiest = max(state["acts"].values(), key=_seats_left)
    if _seats_left(emptiest):
        emptiest["sold"] += 1
    else:
        close_sales(state)  # handlers are functions: call them


def _seats_left(act):
    return act["house"] - act["sold"]


def buy(state, context):
    """A button in a row: `context` says which one."""
    act = state["acts"][context["act"]]
    if _seats_left(act):
        act["sold"] += 1


# ---------------------------------------------------------------- something everybody shares

_applause = 0  # an ordinary global belongs to all visitors
gr.events.create_signal("tour:applause")


async def applaud():
    """Async handlers share one thread, so this needs no lock."""
    global _applause
    _applause += 1
    await gr.events.trigger("tour:applause", _applause)


@gr.events.event("tour:applause")
def _hear_applause(data, state):
    """Runs once in every live session, as a turn of its own."""
    state["applause"] = data


@gr.on_open
def _take_a_seat(state):
    """Runs when a session opens, before its page shows anything."""
    state["applause"] = _applause


# ---------------------------------------------------------------- two windows


@gr.on("view:opened")
@gr.on("view:closed")
def _count_windows(state, session):
    """A window is a link of its session; all show the one state."""
    state["windows"] = len(session.links)


# ---------------------------------------------------------------- a crash


def crash(state):
    """Assigns, then raises: what it assigned is undone and never seen."""
    state["till"] = 0
    raise RuntimeError("the trapdoor opened")


# ---------------------------------------------------------------- what a new session starts with


def _source(*things):
    """The text of functions and classes, as it stands in this file."""
    return "\n\n".join(inspect.getsource(thing).strip() for thing in things)


gr.init_state(
    {
        "count": 0,
        "answer": "",
        "job": {"running": False, "done": 0, "steps": STEPS, "note": "Nothing to do"},
        "seats": 40,
        "guests": [],
        "coat": None,
        "picture": None,
        "stage": "The set stands",
        "acts": ACTS,
        "selling": False,
        "applause": 0,
        "windows": 1,
        "till": 100,
        "sources": {
            "counter": _source(add),
            "stream": _source(ask),
            "job": _source(start_job, _paint, cancel_job),
            "form": _source(Booking, reserve),
            "files": _source(check_in, check_out),
            "camera": _source(take_picture),
            "question": _source(strike),
            "table": _source(open_sales, sell, close_sales, buy),
            "shared": _source(applaud, _hear_applause, _take_a_seat),
            "windows": _source(_count_windows),
            "crash": _source(crash),
        },
    }
)
