"""What may happen to a link, when, and what is done then: the theory and the table.

Two streams of numbered frames run against each other. The server's (``seq``) is the compiled base
class: a frame that was sent is kept until it is acknowledged, so a client that comes back is sent
what it missed, or, where that is gone, a snapshot. The client's (``id``) is here, and needs less:
the client keeps its frames, so the link only has to take each id once, in order. ``ack`` is the
highest id it took. The next one is taken and *thereby consumed*: from then on it is owed exactly
one answer, whatever comes of it. A known one is a repetition; its answer is or was in the stream.
One beyond the next tells of a loss: a nack names the last good one, and nothing else counts until
the gap is closed. Only evidence moves this machine, never the mere passing of time: a client that
is far away or asleep is not a broken one. So a further nack needs further evidence, a second or
more later, and when three nacks have brought nothing the fourth piece closes the connection.

States::

    new        made; its first connection is about to be attached
    open       connected; ids come in order
    gapped     connected; a nack is out and only ``ack + 1`` counts
    greeting   connected; a further hello is being looked at, and nothing else may come
    closing    connected; the close is decided and whatever still arrives is thrown away
    cut        without a connection; everything is kept for ``window`` seconds
    expired    the window has passed; ids and answers are kept as long as the session lives
    gone       forgotten

Events, from the client's frames::

    next       the id after ``ack``
    known      an id up to ``ack``
    ahead      evidence of a gap: an id beyond the next, or a ping that tells of one not taken
    early      the same, within a second of the last nack
    stuck      the same, after three nacks
    bare       a request without an id
    ack, ping, hello, bye
    bad        a frame that costs the connection

From the app: ``attach``, ``detach``, ``close``, ``leave`` (the link ends too). From time: ``beat``
(a ping is due), ``dead`` (the peer is silent for too long), ``window`` (it has passed), ``full``
(the peer takes too little). A pair that is missing from the table cannot happen; if it does all
the same, the error names it.
"""

from __future__ import annotations

from typing import Final

from .errors import GreenroomError

__all__ = [
    "CLOSING",
    "CUT",
    "EXPIRED",
    "GAPPED",
    "GONE",
    "GREETING",
    "NEW",
    "OPEN",
    "TABLE",
    "IllegalEvent",
]

NEW: Final = "new"
OPEN: Final = "open"
GAPPED: Final = "gapped"
GREETING: Final = "greeting"
CLOSING: Final = "closing"
CUT: Final = "cut"
EXPIRED: Final = "expired"
GONE: Final = "gone"

# (event, state): (action, next state). An action is the method of ServerLink called _do_<action>.
TABLE: Final[dict[tuple[str, str], tuple[str, str]]] = {
    # -- a connection comes or goes
    ("attach", NEW): ("welcome", OPEN),
    ("attach", OPEN): ("welcome", OPEN),  # the earlier connection is closed with `replaced`
    ("attach", GAPPED): ("welcome", OPEN),
    ("attach", GREETING): ("welcome", OPEN),
    ("attach", CLOSING): ("welcome", OPEN),
    ("attach", CUT): ("welcome", OPEN),
    ("attach", EXPIRED): ("welcome", OPEN),
    ("detach", OPEN): ("part", CUT),
    ("detach", GAPPED): ("part", CUT),
    ("detach", GREETING): ("part", CUT),
    ("detach", CLOSING): ("part", CUT),
    ("detach", GONE): ("nothing", GONE),
    # -- a frame with an id
    ("next", OPEN): ("accept", OPEN),
    ("next", GAPPED): ("accept", OPEN),
    ("next", GREETING): ("refuse", CLOSING),
    ("next", CLOSING): ("nothing", CLOSING),
    ("next", GONE): ("nothing", GONE),
    ("known", OPEN): ("ignore", OPEN),
    ("known", GAPPED): ("ignore", GAPPED),
    ("known", GREETING): ("refuse", CLOSING),
    ("known", CLOSING): ("nothing", CLOSING),
    ("known", GONE): ("nothing", GONE),
    ("ahead", OPEN): ("nack", GAPPED),
    ("ahead", GAPPED): ("nack", GAPPED),
    ("ahead", GREETING): ("refuse", CLOSING),
    ("ahead", CLOSING): ("nothing", CLOSING),
    ("ahead", GONE): ("nothing", GONE),
    ("early", GAPPED): ("ignore", GAPPED),
    ("stuck", GAPPED): ("give_up", CLOSING),
    # -- a frame without an id
    ("bare", OPEN): ("run", OPEN),
    ("bare", GAPPED): ("run", GAPPED),
    ("bare", GREETING): ("refuse", CLOSING),
    ("bare", CLOSING): ("nothing", CLOSING),
    ("bare", GONE): ("nothing", GONE),
    ("ack", OPEN): ("acknowledge", OPEN),
    ("ack", GAPPED): ("acknowledge", GAPPED),
    ("ack", GREETING): ("refuse", CLOSING),
    ("ack", CLOSING): ("nothing", CLOSING),
    ("ack", GONE): ("nothing", GONE),
    ("ping", OPEN): ("pong", OPEN),
    ("ping", GAPPED): ("pong", GAPPED),
    ("ping", GREETING): ("refuse", CLOSING),
    ("ping", CLOSING): ("nothing", CLOSING),
    ("ping", GONE): ("nothing", GONE),
    ("hello", OPEN): ("greet", GREETING),
    ("hello", GAPPED): ("greet", GREETING),
    ("hello", GREETING): ("refuse", CLOSING),
    ("hello", CLOSING): ("nothing", CLOSING),
    ("hello", GONE): ("nothing", GONE),
    ("bye", OPEN): ("depart", GONE),
    ("bye", GAPPED): ("depart", GONE),
    ("bye", GREETING): ("depart", GONE),
    ("bye", CLOSING): ("nothing", CLOSING),
    ("bye", GONE): ("nothing", GONE),
    ("bad", OPEN): ("shut", CLOSING),
    ("bad", GAPPED): ("shut", CLOSING),
    ("bad", GREETING): ("shut", CLOSING),
    ("bad", CLOSING): ("nothing", CLOSING),
    ("bad", GONE): ("nothing", GONE),
    # -- the app ends it
    ("close", NEW): ("shut", CLOSING),
    ("close", OPEN): ("shut", CLOSING),
    ("close", GAPPED): ("shut", CLOSING),
    ("close", GREETING): ("shut", CLOSING),
    ("close", CLOSING): ("nothing", CLOSING),  # the first close counts
    ("close", CUT): ("nothing", CUT),  # there is nobody to tell
    ("close", EXPIRED): ("nothing", EXPIRED),
    ("close", GONE): ("nothing", GONE),
    ("leave", NEW): ("leave", GONE),
    ("leave", OPEN): ("leave", GONE),
    ("leave", GAPPED): ("leave", GONE),
    ("leave", GREETING): ("leave", GONE),
    ("leave", CLOSING): ("forget", GONE),
    ("leave", CUT): ("forget", GONE),
    ("leave", EXPIRED): ("forget", GONE),
    ("leave", GONE): ("nothing", GONE),
    # -- time
    ("beat", OPEN): ("ping", OPEN),
    ("beat", GAPPED): ("ping", GAPPED),
    ("beat", GREETING): ("ping", GREETING),
    ("dead", OPEN): ("hang_up", CLOSING),
    ("dead", GAPPED): ("hang_up", CLOSING),
    ("dead", GREETING): ("hang_up", CLOSING),
    ("full", OPEN): ("shut", CLOSING),
    ("full", GAPPED): ("shut", CLOSING),
    ("full", GREETING): ("shut", CLOSING),
    ("full", NEW): ("lose", NEW),
    ("full", CLOSING): ("lose", CLOSING),
    ("full", CUT): ("lose", CUT),
    ("window", CUT): ("lapse", EXPIRED),
}


class IllegalEvent(GreenroomError, LookupError):
    """An event that cannot happen in the state a link is in: an error of the caller."""

    def __init__(self, event: str, state: str) -> None:
        super().__init__(f"event {event!r} is illegal in state {state!r}")
        self.event = event
        self.state = state
