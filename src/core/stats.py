"""What an app counts, and the equations that must hold between the counters (guarantee G23).

Every place where a message, a frame, a connection or an event can end has exactly one counter, and
counts are the app's from the beginning, so nothing vanishes with the link or session it happened
in. At any quiet point, when nothing is being done on the loop or a worker, what went in is what
came out, plus what is still there; :data:`BALANCE` says it in full. In words:

- A *connection* ends by its transport (``eof``) or by a close, which has a code.
- A *hello* is welcomed, refused with a code, or abandoned because its transport went first or
  its time was over.
- A *frame* that a connection receives is accepted (it had the next id), bare (a request without
  id), known already, behind a gap, about the conversation, bad, or came too late.
- An *accepted id* is answered with a result or an error, or its link ended first.
- A *message* (the event in such a frame, a tell, an ask, a firing, a held turn, a job) is refused,
  or accepted: then it runs, fails, is cancelled, expires or is dropped with its session.
- An *emitted event* enters the streams of its session's links, or nobody was there, or its turn
  failed.
- A *frame for a client* enters the unsent log of a link, once per link, or is joined with what is
  there; it leaves that log with a number, or because a snapshot stands for it, or with its link. A
  frame with a number is acknowledged, or given up in one of a few ways.
- An *upload* comes whole, never begins or is cut; one that is whole is named by a payload or
  thrown away. An *offer* of a file expires or ends with its session. An *address* of a file is
  used, expires, or is dropped with its file.
- A *signal* is delivered to a listener or refused; in the queue of a reaction or stream it is
  taken, pushed out, or still there when the listener ends.

Owner: the app's loop. What other threads count they count by ``Runner.count``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from .app import App

__all__ = ["BALANCE", "EQUATIONS", "Equation", "gather", "unbalanced"]


class Equation(NamedTuple):
    """The sum of some counters is the sum of others. Names are paths: ``messages.accepted``."""

    inflow: tuple[str, ...]
    outflow: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' + '.join(self.inflow)} = {' + '.join(self.outflow)}"


BALANCE: Final = """
sessions_opened = sessions_closed + sessions
links_opened = links_closed + links
connections_opened = closes + connections
hellos.received = hellos.welcomed + hellos.refused + hellos.abandoned + hellos.pending

frames_in.received = frames_in.accepted + frames_in.bare + frames_in.repeated + frames_in.gapped
    + frames_in.acks + frames_in.pings + frames_in.hellos + frames_in.byes + frames_in.batches
    + frames_in.parts + frames_in.bad + frames_in.discarded
frames_in.accepted = answers.results + answers.errors + answers.forgotten + answers.open

messages.sent = messages.accepted + messages.refused
messages.refused = messages.refused_busy + messages.refused_closed
messages.accepted = messages.run + messages.failed + messages.cancelled + messages.expired
    + messages.dropped + messages.pending
timers.due = timers.posted + timers.skipped + timers.refused

emits.made = emits.shipped + emits.unheard + emits.undone + emits.pending
frames_out.patches + frames_out.snapshots + frames_out.events + frames_out.signals
    + answers.results + answers.errors + frames_out.renewed
    = frames_out.merged + frames_out.swallowed + frames_out.missed + frames_out.cancelled_out
    + frames_out.collapsed + frames_out.lost_unsent + frames_out.sent + frames_out.unsent
frames_out.sent = frames_out.acknowledged + frames_out.unkept + frames_out.trimmed
    + frames_out.superseded + frames_out.renewed + frames_out.lost_sent + frames_out.kept
refusals.made = refusals.sent + refusals.dropped + refusals.due

events.offered = events.delivered + events.refused
events.delivered = events.to_links + events.to_reactions + events.to_streams + events.to_sessions
events.to_links = frames_out.signals
events.to_reactions + events.to_streams = events.reacted + events.reactions_failed + events.heard
    + events.dropped_oldest + events.expired + events.waiting
events.asks = events.answers + events.queries_failed + events.queries_timed_out
    + events.queries_cancelled + events.queries_pending
questions.asked = questions.answered + questions.unanswered + questions.open

files.uploads_offered = files.uploads_done + files.uploads_unsent + files.uploads_cut
    + files.uploads_open
files.uploads_done = files.uploads_claimed + files.uploads_unclaimed + files.uploads_waiting
files.offers_made = files.offers_expired + files.offers_closed + files.offers
files.capabilities_made = files.capabilities_used + files.capabilities_expired
    + files.capabilities_dropped + files.capabilities
"""


def _equations(text: str) -> tuple[Equation, ...]:
    """One per line; lines that are indented go on with the one before."""
    lines = text.replace("\n    ", " ").splitlines()
    sides = [[side.split(" + ") for side in line.split(" = ")] for line in lines if line]
    return tuple(Equation(tuple(inflow), tuple(outflow)) for inflow, outflow in sides)


EQUATIONS: Final = _equations(BALANCE)


def gather(app: App, tasks: int) -> dict[str, Any]:
    """What :meth:`App.stats` tells. On the loop."""
    counts, scheduler, reception = app.counts, app.scheduler, app.reception
    turns = scheduler.running_turns()
    return {
        "sessions": len(app.sessions),
        "links": len(app.budget.links),
        "connections": len(reception.connections),
        "tasks": tasks,
        **app.counters,
        **reception.counters,
        "links_resumed": counts.resumes,
        "links_renewed": counts.renewals,
        "late_calls": scheduler.late_calls,
        "handshakes_refused": dict(reception.handshakes),
        "closes": dict(reception.closes),
        "hellos": {**reception.hellos, "refused": dict(reception.refused)},
        "frames_in": {name: getattr(counts, name) for name in FRAMES_IN},
        "answers": {
            "results": counts.results,
            "errors": dict(counts.errors),
            "forgotten": counts.forgotten,
            "open": counts.open_ids,
            "late": counts.late,
        },
        "messages": scheduler.stats(),
        "timers": dict(scheduler.timer_counts),
        "emits": {
            "made": scheduler.emitted,
            "shipped": scheduler.shipped,
            "unheard": scheduler.unheard,
            "undone": scheduler.undone,
            "pending": sum(len(turn.outbox) for turn in turns if turn.outbox),
        },
        "frames_out": {
            **{name: getattr(counts, name) for name in FRAMES_OUT},
            "log_bytes": app.budget.total,
        },
        "refusals": {
            "made": counts.refusals,
            "sent": counts.refusals_sent,
            "dropped": counts.refusals_dropped,
            "due": counts.refusals_due,
        },
        "events": {
            **app.events.counters,
            **app.events.queries.counters,
            "waiting": app.events.waiting,
            "queries_pending": app.events.queries.pending,
        },
        "questions": dict(app.questions),
        "files": app.files.stats(),
    }


FRAMES_IN: Final = (
    "received", "accepted", "bare", "repeated", "gapped", "acks", "pings", "hellos", "byes",
    "batches", "parts", "bad", "discarded", "nacks", "over_rate",
)  # fmt: skip
FRAMES_OUT: Final = (
    "patches", "snapshots", "events", "signals", "merged", "swallowed", "missed", "unsent", "sent",
    "cancelled_out", "collapsed", "lost_unsent", "kept", "acknowledged", "unkept", "trimmed",
    "superseded", "renewed", "lost_sent", "resent", "emptied", "bytes_out",
)  # fmt: skip


def unbalanced(stats: Mapping[str, Any]) -> list[str]:
    """The equations that do not hold in what :meth:`App.stats` told, with their numbers."""
    return [
        f"{equation}: {_told(stats, equation.inflow)} is not {_told(stats, equation.outflow)}"
        for equation in EQUATIONS
        if _sum(stats, equation.inflow) != _sum(stats, equation.outflow)
    ]


def _value(stats: Mapping[str, Any], path: str) -> int:
    found: Any = stats
    for name in path.split("."):
        found = found[name]
    return sum(cast("dict[str, int]", found).values()) if isinstance(found, dict) else int(found)


def _sum(stats: Mapping[str, Any], paths: tuple[str, ...]) -> int:
    return sum(_value(stats, path) for path in paths)


def _told(stats: Mapping[str, Any], paths: tuple[str, ...]) -> str:
    return " + ".join(str(_value(stats, path)) for path in paths)
