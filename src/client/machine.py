"""The client's half of the wire machine as a table, and the theory of it.

A link is a numbered conversation with one session; it survives the connections that carry it.
Four states:

apart     no connection carries the link (before the first one, and between two)
opening   a hello was sent; until the welcome the client says nothing and hears nothing else
live      frames flow
closed    it is over; nothing leads out of here

*What we say.* A frame of ours (:class:`Entry`) waits without a number. It gets the next id when it
is handed to a transport, and from then on it is kept, unchanged, until its answer has come. So at
any time our frames are: waiting, or kept. Kept frames may or may not have reached the server; its
``ack`` says how far it got. Three answers to a hello, hence three ways on:

resumed   the same link, nothing missing: what is above ``ack`` goes out again, in order
gap       the same link, but the server's frames do not reach back to what we have: its numbers go
          on from ``welcome.seq``, a snapshot comes first. Of our kept frames at or below ``ack``
          the server still owes those in ``pending``; the others are *lost*: they may or may not
          have run, and nobody will ever know
new       another link: the server knows nothing of the old one. All kept frames are lost; waiting
          ones count from 1 again, after our subscriptions, so that they find them in place

*What we hear.* Numbered frames are taken exactly in order: the next is applied, an older one is a
repetition, a later one means that something is missing. Then, and when a ping tells of a number
that we have not seen, a second hello asks again from where we are (``behind``); the third in a row
that brings nothing hangs up (``stuck``). What we applied is acknowledged within a second, or after
64 KiB or 128 frames.

*Silence.* The server pings; we ping when we have heard nothing for 1.5 x ``ping``. After
3 x (``ping`` + ``dead``) without a byte the connection is dead. A machine that slept wakes up far
beyond that with frames perhaps still to be read, so then, and when the driver says ``wake``, one
more ping is allowed to take ``dead`` seconds.

The table below is the machine. Frames and calls are first given an event's name (``Link._name_of``
in ``link.py``); the table gives the actions, which are methods of that class, and the next state.
An event that has no cell cannot happen, and raises :class:`LinkError` if it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, cast

from .codec import is_list

__all__ = ["TABLE", "LinkError", "State", "makes_sense", "retry_after_cut"]


class State(StrEnum):
    APART = "apart"
    OPENING = "opening"
    LIVE = "live"
    CLOSED = "closed"


APART, OPENING, LIVE, CLOSED = State.APART, State.OPENING, State.LIVE, State.CLOSED

# The ways a connection ends, the same wherever there is one.
_ENDS: Final[dict[str, tuple[tuple[str, ...], State]]] = {
    "close_resume": (("hang_up", "retry"), APART),  # gr:close with that retry
    "close_fresh": (("forget", "hang_up", "retry"), APART),
    "close_never": (("settle_all", "hang_up", "retry"), CLOSED),
    "cut_resume": (("retry",), APART),  # the transport ended without gr:close
    "cut_fresh": (("forget", "retry"), APART),
    "cut_never": (("settle_all", "retry"), CLOSED),
    "garbage": (("hang_up", "retry"), APART),  # what came is no frame
    "silent": (("hang_up", "retry"), APART),  # nothing was heard for too long
    "diverged": (("forget_link", "hang_up", "retry"), APART),  # a patch does not fit the mirror
}

TABLE: Final[dict[tuple[State, str], tuple[tuple[str, ...], State]]] = {
    # -- apart
    (APART, "open"): (("hello",), OPENING),
    (APART, "submit"): (("keep_offline",), APART),
    (APART, "bye"): (("settle_all",), CLOSED),
    (APART, "wake"): ((), APART),
    (APART, "late"): ((), APART),  # a frame, or the end, of a connection we gave up
    # -- opening
    (OPENING, "submit"): (("keep_offline",), OPENING),
    (OPENING, "bye"): (("settle_all", "hang_up"), CLOSED),
    (OPENING, "wake"): ((), OPENING),
    (OPENING, "early"): ((), OPENING),  # a frame before the welcome: it will be sent again
    (OPENING, "welcome_resumed"): (("adopt", "resend"), LIVE),
    (OPENING, "welcome_gap"): (("adopt", "skip", "settle_unknown", "resend"), LIVE),
    (OPENING, "welcome_new"): (("adopt", "settle_handed", "renumber", "subscribe_again"), LIVE),
    (OPENING, "welcome_broken"): (("forget_link", "hang_up", "retry"), APART),
    (OPENING, "welcome_foreign"): (("settle_all", "hang_up", "retry"), CLOSED),
    **{(OPENING, event): cell for event, cell in _ENDS.items()},
    # -- live
    (LIVE, "submit"): (("keep",), LIVE),
    (LIVE, "bye"): (("farewell", "settle_all", "hang_up"), CLOSED),
    (LIVE, "wake"): (("probe",), LIVE),
    (LIVE, "next"): (("apply",), LIVE),
    (LIVE, "old"): ((), LIVE),
    (LIVE, "behind"): (("hello",), OPENING),
    (LIVE, "stuck"): (("hang_up", "retry"), APART),
    (LIVE, "ping"): (("pong",), LIVE),
    (LIVE, "pong"): ((), LIVE),
    (LIVE, "nack"): (("resend",), LIVE),
    (LIVE, "nack_broken"): (("forget_link", "hang_up", "retry"), APART),
    (LIVE, "chunk"): (("collect",), LIVE),
    (LIVE, "refusal"): (("tell_refusal",), LIVE),  # an error about a frame without an id
    (LIVE, "stray"): ((), LIVE),  # unnumbered and unknown, or a second welcome
    (LIVE, "ack_due"): (("ack",), LIVE),
    (LIVE, "ping_due"): (("ping",), LIVE),
    **{(LIVE, event): cell for event, cell in _ENDS.items()},
    # -- closed
    (CLOSED, "submit"): (("refuse",), CLOSED),
    (CLOSED, "bye"): ((), CLOSED),
    (CLOSED, "wake"): ((), CLOSED),
    (CLOSED, "late"): ((), CLOSED),
}

# What a WebSocket close code says where no gr:close came before it; all others: resume.
_FRESH: Final = frozenset({1013, 4001})
_NEVER: Final = frozenset({1000, 1007, 1009, 4002, 4006})


def retry_after_cut(code: int, had_token: bool) -> str:
    """How to go on after a transport closed with ``code`` and no ``gr:close``."""
    if code in _NEVER or (code == 4001 and not had_token):
        return "never"
    return "fresh" if code in _FRESH else "resume"


def makes_sense(welcome: Mapping[str, Any]) -> bool:
    """Whether a welcome has what goes on being counted and timed by, in its types."""
    owed: Any = welcome.get("pending", [])
    return (
        isinstance(welcome.get("link"), str)
        and _is_count(welcome.get("ack"))
        and all(_is_count(welcome.get(name) or 0) for name in ("seq", "max_frame_in", "inflight"))
        and all(_is_time(welcome.get(name, 0)) for name in ("ping", "dead"))
        and is_list(owed)
        and all(map(_is_count, owed))
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= cast("float", value) < 1e9


class LinkError(Exception):
    """The driver did something that the machine has no cell for."""
