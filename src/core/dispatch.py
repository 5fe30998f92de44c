"""What clients ask for: one function per kind of request, found in one table.

Owner: the app's loop. A link has checked the frame already (numbered, in turn, well formed);
here it is carried out or refused. Every accepted id gets exactly one answer: events get it when
their turn ends, queries and triggers when their work beside the turns is done, the others at once.
Cut in the middle: work beside the turns is a task of the app, and a cancelled one still answers. An
app that drains begins none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from ._turn import Message
from .encode import encode_value
from .errors import Closed, GreenroomError, Refused
from .link import Request, ServerLink

if TYPE_CHECKING:
    from .beside import Seat
    from .links import Links

__all__ = ["carry_out"]


def carry_out(links: Links, link: ServerLink, request: Request, size: int) -> None:
    """Do what a client's frame of ``size`` bytes asks for, or answer why not. Never raises."""
    try:
        KINDS[request.kind](links, link, request, size)
    except GreenroomError as error:
        links.refuse(link, request, error)


def _event(links: Links, link: ServerLink, request: Request, size: int) -> None:
    links.post_event(link, request, size)


def _query(links: Links, link: ServerLink, request: Request, size: int) -> None:
    name, data, timeout = request.data["name"], request.data["data"], request.data["timeout"]
    session = links.session
    bus = session.app.events
    question = bus.queries.public(name)
    bus.authorize(session, "query", name, data)
    seat = _seat(links, size)
    work = bus.queries.request_for_client(question, data, timeout, session, seat)
    _answer_later(links, link, request, work, seat)


def _trigger(links: Links, link: ServerLink, request: Request, size: int) -> None:
    name, data = request.data["name"], request.data["data"]
    session = links.session
    bus = session.app.events
    bus.check_client_trigger(name, data, size)
    bus.authorize(session, "trigger", name, data)
    seat = _seat(links, size)
    _answer_later(links, link, request, bus.client_trigger(name, data), seat)


def _subscribe(links: Links, link: ServerLink, request: Request, size: int) -> None:
    name = request.data["name"]
    session = links.session
    bus = session.app.events
    bus.check_client_signal(name)  # first: nobody is asked about what does not exist
    bus.authorize(session, "subscribe", name, None)
    bus.subscribe_link(name, links, link)
    _answer(links, link, request, True)


def _unsubscribe(links: Links, link: ServerLink, request: Request, size: int) -> None:
    name = request.data["name"]
    links.session.app.events.unsubscribe_link(name, link)
    _answer(links, link, request, True)


def _cancel(links: Links, link: ServerLink, request: Request, size: int) -> None:
    target = request.data["id"]
    cancelled = links.beside.cancel(link, target)
    if cancelled is None:
        cancelled = links.session.cancel_event(link, target)
    _answer(links, link, request, cancelled)


def _refresh(links: Links, link: ServerLink, request: Request, size: int) -> None:
    connection = link.connection
    if connection is not None and connection.generation != links.session.generation:
        raise Refused("unauthorized", "the tokens of this session have been revoked")
    binding = None if connection is None else connection.binding
    app = links.session.app
    token, expires = app.reception.make_token(links.session, binding)
    told = {"token": token, "expires": expires, "expires_in": app.settings.token_ttl or None}
    _answer(links, link, request, told)


def _reply(links: Links, link: ServerLink, request: Request, size: int) -> None:
    call, value = request.data["call"], request.data["value"]
    _answer(links, link, request, links.confirmed(call, value))


def _named(links: Links, link: ServerLink, request: Request, size: int) -> None:
    """An event whose payload names files."""
    session = links.session
    (payload, context), uploads = session.app.files.fill(session, [request.data, request.context])
    for upload in uploads:
        upload.claim()
    try:
        event = Request("event", request.id, request.type, payload, context)
        links.post_event(link, event, size)
    except GreenroomError:
        for upload in uploads:
            upload.claim("here")
        raise
    for upload in uploads:
        upload.handed_over()


def _upload(links: Links, link: ServerLink, request: Request, size: int) -> None:
    session, about = links.session, request.data
    told = {"size": about["size"], "mime": about["mime"]}
    session.app.events.authorize(session, "upload", about["name"], told)
    connection = link.connection
    _answer(links, link, request, session.app.files.announce(session, link, connection, **about))


def _fetch(links: Links, link: ServerLink, request: Request, size: int) -> None:
    session, connection = links.session, link.connection
    answer = session.app.files.fetch(session, link, connection, request.data["file"])
    _answer(links, link, request, answer)


def _piece(links: Links, link: ServerLink, request: Request, size: int) -> None:
    session = links.session

    async def move() -> Any:
        try:
            return await session.app.files.piece(session, request.data)
        except GreenroomError as error:
            after = getattr(error, "retry_after", None)
            raise Refused(error.code, str(error), after) from None

    seat = _seat(links, size)
    _answer_later(links, link, request, move(), seat)


def _bye(links: Links, link: ServerLink, request: Request, size: int) -> None:
    links.drop(link)


def _hello(links: Links, link: ServerLink, request: Request, size: int) -> None:
    connection = link.connection
    if connection is not None:
        connection.again(request.data)


KINDS: Mapping[str, Callable[[Links, ServerLink, Request, int], None]] = {
    "event": _event,
    "query": _query,
    "trigger": _trigger,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "cancel": _cancel,
    "refresh": _refresh,
    "answer": _reply,
    "named": _named,
    "upload": _upload,
    "fetch": _fetch,
    "piece": _piece,
    "bye": _bye,
    "hello": _hello,
}


def _answer(links: Links, link: ServerLink, request: Request, value: Any) -> None:
    if request.id is not None:
        link.result(request.id, encode_value(value))
    links.flush_soon(link)


def _seat(links: Links, size: int) -> Seat:
    """A seat for work beside the turns. Raises Closed and Busy when it may not begin."""
    if not links.session.app.running:
        raise Closed("the app is stopping and takes nothing new")
    return links.beside.enter(size)


def _answer_later(
    links: Links,
    link: ServerLink,
    request: Request,
    work: Coroutine[Any, Any, Any],
    seat: Seat,
) -> None:
    beside = links.beside

    def ended(task: asyncio.Task[Any]) -> None:
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        value = None if failure is not None else task.result()
        beside.ended(link, request.id, task)
        seat.leave()
        message = Message(request.type, link=link, id=request.id)
        links.session.answer(message, value, failure).push()
        links.flush_soon(link)

    task = links.session.app.start_task(work)
    beside.began(link, request.id, task)
    task.add_done_callback(ended)  # also of one that is cancelled before its first step
