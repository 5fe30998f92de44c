"""The links of one session: who is connected, who may come back, and what each is sent.

Owner: the app's loop. A session has this from its first client on. A link has at most one
connection; one without waits in ``by_id`` for its client's return. Cut in the middle: a connection
that ends detaches its link and nothing else; what was in the link's stream stays there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ._patch import Segmented
from ._route import LinksCore
from .beside import Beside
from .dispatch import carry_out
from .encode import encode_value
from .errors import GreenroomError
from .hello import GOING, Hello, LinkError, Retry, make_close
from .link import Request, ServerLink
from .link_table import EXPIRED
from .types import DEFAULT_LABEL

if TYPE_CHECKING:
    from .actions import Confirmation
    from .connection import Connection
    from .session import Session

__all__ = ["Links"]

Encoded: TypeAlias = bytes | Segmented


class SessionLink(ServerLink):
    """A link of a session: looked at when its time comes, for pings, a dead peer, or its window."""

    __slots__ = ("links", "watched")

    links: Links | None  # None: it is forgotten
    watched: Any  # owned by Deadlines

    def due(self, now: float) -> None:
        links, connection = self.links, self.connection
        if links is None:
            return
        happened = self.tick(now, 0 if connection is None else connection.transport.buffered)
        if happened == "expired":
            links.expired(self)
        links.flush_soon(self)


class Links(LinksCore):
    """The links and connections of one session, and its open questions to the user."""

    __slots__ = ("_beside", "_calls", "_checking", "_questions")

    session: Session
    by_id: dict[str, SessionLink]

    def __init__(self, session: Session) -> None:
        super().__init__(session, session.app.reception.outlet)
        self._beside: Beside | None = None  # from the first question on
        self._questions: dict[int, Confirmation] | None = None  # from the first one on
        self._calls = 0
        self._checking = False

    @property
    def beside(self) -> Beside:
        """What its clients ask beside the turns."""
        if self._beside is None:
            settings = self.session.app.settings
            self._beside = Beside(settings.inflight, settings.mailbox_bytes)
        return self._beside

    @property
    def idle(self) -> bool:
        """Whether there is no link, and nothing that one began goes on."""
        return not (self.by_id or self.asked() or self._questions)

    def connected(self) -> list[SessionLink]:
        """The links that have a connection."""
        return [link for link in self.by_id.values() if link.connection is not None]

    # -- coming and going ---------------------------------------------------------------------

    def attach(self, connection: Connection, hello: Hello) -> None:
        """Give ``connection`` the link its hello asks for, or a new one."""
        session, app = self.session, self.session.app
        now = app.clock.time()
        link = self.by_id.get(hello.link) if hello.link else None
        fresh = link is None or link.state == EXPIRED
        if link is None:
            link = self._open(hello, now)
        previous = link.connection
        if previous is not None and previous.number > connection.number:
            # The client gave this connection up before its hello came through the network.
            raise LinkError("replaced", "another connection resumed this link")
        if previous is not None and previous is not connection:
            previous.end(make_close("replaced", "another connection resumed this link"))
            previous.let_go()
        token, expires = app.reception.make_token(session, connection.binding)
        link.connection = connection
        connection.attached(self, link)
        connection.generation = session.generation
        link.attach(
            hello,
            now,
            session=session.id,
            token=token,
            expires=expires,
            profile=connection.profile,
        )
        app.deadlines.watch(link)
        app.reception.outlet.mark(connection)
        if app.broken is not None and fresh:
            link.push_event("gr:broken", encode_value({"traceback": app.broken}))
        if fresh:
            session.view_event("view:opened", link)

    def _open(self, hello: Hello, now: float) -> SessionLink:
        app = self.session.app
        limit = app.settings.max_links
        if limit and len(self.by_id) >= limit:
            waiting = [link for link in self.by_id.values() if link.connection is None]
            if not waiting:
                raise LinkError("busy", f"max_links ({limit}) are connected", after=5.0)
            self.drop(min(waiting, key=lambda link: link.detached_at))
        link = SessionLink(
            secrets.token_urlsafe(12),
            DEFAULT_LABEL if hello.label == DEFAULT_LABEL else hello.label,  # one string for all
            hello.binary,
            app.settings,
            app.budget,
            self._snapshot,
            now,
        )
        app.counters["links_opened"] += 1
        self.by_id[link.id] = link
        link.links = self
        link.watched = None
        self.session.linked = True
        return link

    def detach(self, link: SessionLink, connection: Connection) -> None:
        """The connection of a link has ended; the link waits for its client's return."""
        if link.connection is not connection:
            return
        link.connection = None
        session, app = self.session, self.session.app
        link.detach(app.clock.time())
        app.deadlines.watch(link)
        session.acknowledged = session.acknowledged or link.acknowledged
        if not self.connected():
            session.left()

    def expired(self, link: ServerLink) -> None:
        """A link was away for longer than ``window``: its view is closed, its answers are kept."""
        self.session.app.counters["links_expired"] += 1
        self.session.app.events.drop_link(link)
        self.session.view_event("view:closed", link)
        self._view_closed()
        if all(each.state == EXPIRED for each in self.by_id.values()):
            self.session.ledger.forget()  # whoever comes back begins with a snapshot

    def _view_closed(self) -> None:
        """With the last view that was asked go the questions to the user."""
        for call, question in tuple((self._questions or {}).items()):
            if not self._has_views(question.label):
                self.confirmed(call, None)

    def _has_views(self, label: str | None) -> bool:
        """Whether there is a client, or one that may come back to where it was."""
        return any(
            link.state != EXPIRED and (label is None or link.label == label)
            for link in self.by_id.values()
        )

    def drop(self, dropped: ServerLink) -> None:
        """Forget a link: its client said bye, or it made room for another."""
        link = self.by_id.pop(dropped.id, None)
        if link is None:
            return
        session = self.session
        if link.state != EXPIRED:  # else it was told already
            session.view_event("view:closed", link)
        session.acknowledged = session.acknowledged or link.acknowledged
        self._forget(link)
        connection, link.connection = link.connection, None
        if connection is not None:
            connection.end(make_close("bye"))
            connection.let_go()
        if not self.by_id:
            session.linked = False
            session.ledger.forget()
        session.left()
        self._view_closed()

    def close(self, code: str, reason: str, retry: Retry | None = None) -> None:
        """The session ends: every client is told, every link is forgotten."""
        for link in tuple(self.by_id.values()):
            connection = link.connection
            if connection is not None:
                if code == "bye":  # what was made, and how every frame ended, goes first
                    for number in link.pending():
                        link.error(number, "closed", reason)
                    connection.flush()
                link.connection = None
                link.close(code, reason, retry=retry)
                connection.flush()
            self._forget(link)
        self.by_id.clear()
        self.session.linked = False
        self.dismiss_questions()

    def send_away(self, after: Callable[[], float]) -> None:
        """The server goes: tell every client when to come back, behind what is in its stream."""
        for link in self.connected():
            connection = link.connection
            connection.flush()
            link.close("draining", GOING, after=after(), retry="fresh")
            connection.flush()

    def unsent(self) -> bool:
        """Whether a client that is connected has not been handed all there is for it."""
        return any(link.waiting for link in self.connected())

    def turn_out(self, code: str, reason: str) -> None:
        """End every connection. The links wait for whoever may come back."""
        for link in self.connected():
            link.close(code, reason)
            link.connection.flush()

    def _forget(self, link: SessionLink) -> None:
        self.session.app.counters["links_closed"] += 1
        self.session.app.events.drop_link(link)
        if self._beside is not None:
            self._beside.forget(link)
        link.links = link.watched = None
        link.forget()

    # -- both directions ----------------------------------------------------------------------

    def request(self, link: ServerLink, request: Request, size: int) -> None:
        """A frame of ``size`` bytes that the link has checked: carry it out."""
        session = self.session
        session.last_active = session.app.clock.time()
        session.acknowledged = True
        carry_out(self, link, request, size)

    def refuse(self, link: ServerLink, request: Request, error: Exception) -> None:
        """A request cannot be carried out: its client is told why."""
        if not isinstance(error, GreenroomError):
            raise error
        link.error(request.id, error.code, str(error), getattr(error, "retry_after", None))
        self.flush_soon(link)

    def push_event(self, type: str, data: Encoded | None, label: str | None) -> bool:
        """Put an event into the streams, or those of one label; whether there was one to take it.

        One whose client was away for longer than the window takes none; it counts that.
        """
        heard = False
        for link in tuple(self.by_id.values()):
            if label is None or link.label == label:
                heard = link.push_event(type, data, link.label) or heard
                self._soon(link)
        return heard

    def push_signal(self, link: ServerLink, name: str, data: Encoded) -> None:
        """Put a signal into the stream of a link that subscribed to it."""
        link.push_signal(name, data)
        self._soon(link)

    def _soon(self, link: ServerLink) -> None:
        """Something is in a stream: hand it over, or see that it does not grow without bounds.

        A link with a connection looks at its limits when it hands over; for the others it is done
        once the burst is over, and not in the middle of a commit.
        """
        if link.connection is not None:
            self.flush_soon(link)
        elif not self._checking:
            self._checking = True
            self.session.app.scheduler.at_end_of_burst(self._check)

    def _check(self) -> None:
        self._checking = False
        self.committed()

    def _snapshot(self) -> tuple[Encoded, int] | None:
        """The state for one link; first, what is pending goes to the links there are.

        None when it has to wait: until on_open has ended, or until the patch that a worker is
        encoding just now is here.
        """
        session, ledger = self.session, self.session.ledger
        if session.phase == "opening" or ledger.shipping:
            return None
        foreign = ledger.in_turn and not ledger.owned
        patch = session.ship(foreign)
        ledger.shipped()
        if patch is not None:
            self.push_patch(patch)
            self.flush()
        snapshot: tuple[Encoded, int] = ledger.snapshot(foreign)
        return snapshot

    def asked(self) -> bool:
        """Whether questions are worked on beside the turns."""
        return self._beside is not None and self._beside.working

    # -- questions to the user ----------------------------------------------------------------

    def ask_user(self, question: Confirmation, message: str) -> None:
        """Show a dialog in every view, or those of its label; the first that answers wins."""
        if not self._has_views(question.label) or not self.session.app.running:
            self.session.app.questions["unanswered"] += 1
            question.settle(None)
            return
        self._calls += 1
        if self._questions is None:
            self._questions = {}
        self._questions[self._calls] = question
        self.session.app.questions["open"] += 1
        told = {"call": self._calls, "message": message, "timeout": question.timeout}
        self.push_event("gr:confirm", encode_value(told), question.label)
        clock = self.session.app.clock
        question.timer = clock.call_at(
            clock.time() + question.timeout, self.confirmed, self._calls, None
        )

    def dismiss_questions(self) -> None:
        """Nobody will answer any more."""
        for call in tuple(self._questions or ()):
            self.confirmed(call, None)

    def confirmed(self, call: object, value: object) -> bool:
        """An answer has come; False when nothing was asked, or somebody answered before."""
        asked = self._questions
        question = asked.pop(call, None) if asked and isinstance(call, int) else None
        if question is not None:  # what is neither yes nor no would be taken for a yes
            answered = isinstance(value, bool)
            questions = self.session.app.questions
            questions["open"] -= 1
            questions["answered" if answered else "unanswered"] += 1
            question.settle(value if answered else None)
            # Another view, or its time-out, decided: nobody looks at a question without effect.
            self.push_event("gr:settled", encode_value({"call": call}), question.label)
        return question is not None
