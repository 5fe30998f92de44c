"""What every key of ``App.stats()`` means, and the same numbers as Prometheus reads them.

A key whose value is a dict holds a count for each code (of a close, an error, a reason); it becomes
one metric with the label ``code``. Names are stable. No I/O; on the app's loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """One key of the stats. A ``gauge`` is how many there are now, a ``counter`` only grows."""

    path: str
    kind: str
    help: str

    @property
    def name(self) -> str:
        """Its name in Prometheus."""
        name = f"greenroom_{self.path.replace('.', '_')}"
        return f"{name}_total" if self.kind == "counter" else name


# One key per line; those without "now" count from the start of the process.
_KEYS: Final = """
sessions: now: live sessions
sessions_opened: sessions opened, by a client's hello or by the app
sessions_closed: sessions that have ended
sessions_refused: sessions not opened: max_sessions, or the app was not running
links: now: links, those that wait for their client included
links_opened: links opened by hellos
links_closed: links forgotten: bye, max_links, or the end of their session
links_expired: times a link was without its client for longer than window
links_resumed: times a client came back and went on where it was
links_renewed: times a client came back and had to begin with a snapshot
connections: now: open connections
connections_opened: connections accepted
connections_refused: connections refused: max_connections, or the app was not running
closes: connections that ended, by code of the close; eof: the transport ended by itself
handshakes_refused: handshakes that an adapter refused, by reason: host, origin, path, head
hellos.received: hellos that made sense
hellos.welcomed: hellos answered with a welcome
hellos.refused: hellos refused, by code
hellos.abandoned: hellos whose connection ended before the answer
hellos.pending: now: hellos that a verifier or the state factory is looking at
frames_in.received: frames from clients, in whatever way they ended
frames_in.accepted: frames with the next id: consumed, and owed an answer
frames_in.bare: requests without an id: run or refused, and not answered
frames_in.repeated: frames whose id was taken before
frames_in.gapped: frames behind a gap: thrown away, the client sends them again
frames_in.acks: acknowledgements
frames_in.pings: pings and pongs
frames_in.hellos: first and further hellos
frames_in.byes: clients that left for good
frames_in.batches: batches; what is in them is received by itself
frames_in.parts: parts of frames; the whole is received by itself
frames_in.bad: frames that cost their connection
frames_in.discarded: frames that came after the end of their connection was decided
frames_in.nacks: gaps that clients were told of
frames_in.over_rate: frames beyond rate and burst
answers.results: accepted frames answered with a result
answers.errors: accepted frames answered with an error, by code
answers.forgotten: accepted frames whose link ended before the answer
answers.open: now: accepted frames without an answer yet
answers.late: answers that nobody was owed any more
messages.sent: messages posted to mailboxes, and jobs
messages.accepted: messages that were taken
messages.refused: messages that were not taken
messages.refused_busy: of these: the mailbox was full
messages.refused_closed: of these: the session had ended, or the app was stopping
messages.run: turns and jobs that ended well
messages.failed: turns and jobs that raised
messages.cancelled: messages cancelled before or in their turn
messages.expired: asks that were not begun in time
messages.dropped: messages whose session ended, or whose app stopped, before their turn
messages.pending: now: messages in mailboxes, and turns and jobs that run
messages.workers: now: worker threads
messages.waiting_in_pool: now: sessions that wait for a worker
messages.suspended: now: turns and jobs between two steps, or held
messages.blocked: times the watchdog saw the loop blocked
timers.due: firings of timers (delay=, every=)
timers.posted: firings that posted their message
timers.skipped: firings that found the last message of their timer still waiting
timers.refused: firings whose message was refused
emits.made: events emitted for clients
emits.shipped: events that entered the stream of at least one link
emits.unheard: events for which there was no client
emits.undone: events of turns that failed
emits.pending: now: events of turns that run
frames_out.patches: patches offered to links; each counts once per link, like all below
frames_out.snapshots: snapshots due
frames_out.events: events offered to links
frames_out.signals: signals offered to links
frames_out.merged: patches joined with one that waits
frames_out.swallowed: patches that a snapshot has or will have
frames_out.missed: events, signals and answers for links whose window has passed
frames_out.unsent: now: frames that wait for a number
frames_out.sent: frames that got a number and were handed to a transport
frames_out.cancelled_out: patches that undid each other while they waited
frames_out.collapsed: patches that waited until a snapshot took their place
frames_out.lost_unsent: frames that were waiting when their link's log was emptied
frames_out.kept: now: frames that were sent and are not acknowledged
frames_out.acknowledged: frames that clients have applied
frames_out.unkept: frames too large to be kept after they were sent
frames_out.trimmed: frames forgotten unacknowledged, beyond log_bytes or window
frames_out.superseded: sent frames that the snapshot of a renewal stands for
frames_out.renewed: sent frames that wait again, for a new number after a renewal
frames_out.lost_sent: frames unacknowledged when their link's log was emptied
frames_out.resent: frames sent once more after a resume
frames_out.emptied: times the logs of a link were emptied
frames_out.bytes_out: bytes handed to transports
frames_out.log_bytes: now: bytes in the logs of all links
refusals.made: errors about frames without an id, which are best effort
refusals.sent: of these: sent
refusals.dropped: of these: dropped, because too many waited or the connection ended
refusals.due: now: of these: waiting
events.triggered: signals triggered
events.offered: listeners that a signal was offered to
events.delivered: offers that were taken
events.refused: offers that were refused: a full queue or mailbox, a closed stream
events.to_links: deliveries to subscribed clients
events.to_reactions: deliveries to queues of reactions
events.to_streams: deliveries to listen()
events.to_sessions: deliveries to mailboxes of sessions
events.reacted: reactions that ended well
events.reactions_failed: reactions that raised
events.heard: values that a listen() has yielded
events.dropped_oldest: values pushed out of a listen() by newer ones
events.expired: values that waited, or were worked on, when their listener ended
events.waiting: now: values in queues of reactions and streams, or in work
events.dropped_newest: refusals by streams that keep the oldest, or were full for a second
events.closed_slow: streams closed because they were full
events.queries: questions asked
events.asks: those who were asked
events.answers: those who answered
events.queries_failed: those who raised
events.queries_timed_out: those who were not back in time
events.queries_cancelled: those whose asker was gone
events.queries_pending: now: those who are waited for
questions.asked: questions to users (confirm)
questions.answered: questions that were answered
questions.unanswered: questions without a view, or that timed out
questions.open: now: questions on screens
files.uploads: now: uploads, in whatever state
files.uploads_open: now: uploads agreed to that have not come whole
files.uploads_waiting: now: uploads that are here and were not named yet
files.uploads_offered: uploads announced, and agreed to
files.uploads_refused: uploads announced, and not agreed to
files.uploads_done: uploads that came whole
files.uploads_unsent: uploads of which nothing came in time, or that were dropped before
files.uploads_cut: uploads that stalled, were too large or dropped, or lost client or session
files.uploads_claimed: uploads that a payload has named
files.uploads_unclaimed: uploads that no payload named in time
files.offers: now: files that may be downloaded
files.offers_made: files offered for download
files.offers_expired: offers whose time was over
files.offers_closed: offers that ended with their session
files.downloads_done: times a client has got all of an offer
files.downloads_cut: times a client has not
files.capabilities: now: addresses of files that would be answered
files.capabilities_made: addresses of files made
files.capabilities_used: addresses that were used
files.capabilities_expired: addresses that were not used in time
files.capabilities_dropped: addresses replaced by another, or whose file has ended
files.capabilities_refused: requests with an address that is not, or no more, good
files.bytes: now: bytes of the files that are kept
late_calls: calls to an app that had stopped, which do nothing
tasks: now: asyncio tasks of the app
"""


def _metric(line: str) -> Metric:
    path, _, text = line.partition(": ")
    if text.startswith("now: "):
        return Metric(path, "gauge", text.removeprefix("now: "))
    return Metric(path, "counter", text)


METRICS: Final[Mapping[str, Metric]] = {
    metric.path: metric for metric in map(_metric, _KEYS.strip().splitlines())
}


def exposition(stats: Mapping[str, Any]) -> bytes:
    """What :meth:`App.stats` told, in the text format 0.0.4 of Prometheus."""
    lines: list[str] = []
    for path, value in _leaves(stats, ""):
        metric = METRICS.get(path) or Metric(path, "untyped", path)
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        if isinstance(value, dict):
            counts = cast("dict[str, int]", value)
            for code, count in sorted(counts.items()):
                lines.append(f'{metric.name}{{code="{_escaped(code)}"}} {count}')
        else:
            lines.append(f"{metric.name} {value}")
    return ("\n".join(lines) + "\n").encode()


def _leaves(stats: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Paths and values; a dict that is known as one metric is one value."""
    for key, value in stats.items():
        path = prefix + key
        if isinstance(value, dict) and path not in METRICS:
            yield from _leaves(cast("dict[str, Any]", value), f"{path}.")
        else:
            yield path, value


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
