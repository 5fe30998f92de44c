"""Files over HTTP: ``POST`` and ``GET .../file/<capability>``, for whichever adapter speaks HTTP.

What may be moved, by whom and how much of it, is decided in ``core/files.py``; here are the bytes.

- A request with an ``Origin`` comes from a page: it must be one that may open the WebSocket, too.
  Pages of other allowed origins get the CORS headers that they need.
- Whatever is wrong with a capability is one 404. Only a request of the right method and the right
  client uses it up.
- Reading waits for the disk before it takes the next piece from the socket, and writing for the
  socket before the next piece from the disk, so one transfer holds one piece in memory.
- An answer is a download and nothing else: attachment, nosniff, no-store, and a sandbox, should a
  browser show it after all.

Owner: the loop that the server calls us on, which is the app's. Cut in the middle: the transfer can
be ended by the other side (a disconnect), by the app (session closed, stalled, no room: its
``on_end`` makes the pending read or write time out), or by the server, which cancels the task. All
three come through the ``finally`` here; the part is deleted by the core.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

from ..core.errors import GreenroomError, NotFound, TooLarge
from ..core.files import Files
from ..core.offers import PIECE, Download, Offer
from ..core.packet import dumps
from ..core.settings import Settings
from ..core.uploads import Upload
from .guard import Head, origin_allowed

__all__ = ["PREFIX", "serve"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[str, str]]

PREFIX: Final = "/file/"
LINGER: Final = 2.0  # seconds in which the rest of a refused body is thrown away

STATUS: Final = {
    "bad_payload": 400,
    "unauthorized": 403,
    "not_found": 404,
    "timeout": 408,
    "closed": 410,
    "too_large": 413,
    "busy": 503,
}
ASCII: Final = re.compile(r"[^\w .()+,=@!#$&'~^-]", re.ASCII)


class Leash:
    """A block whose waiting somebody else may cut short: it then raises TimeoutError."""

    def __init__(self) -> None:
        self._limit = asyncio.timeout(None)
        self._inside = False

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._inside = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False
        await self._limit.__aexit__(kind, error, traceback)

    def cut(self) -> None:
        """Now. Does nothing when the block has been left, or was told before."""
        if self._inside:
            self._inside = False
            self._limit.reschedule(0.0)


class Gone(Exception):
    """The client has gone: there is nobody to answer."""


async def serve(
    files: Files, settings: Settings, head: Head, method: str, receive: Receive, send: Send
) -> None:
    """Answer one request below :data:`PREFIX`."""
    if not origin_allowed(head, settings):
        await _refuse(receive, send, 403, "unauthorized", "this page may not (Settings.origins)")
        return
    cors = _cors(head)
    word = head.path[len(PREFIX) :]
    try:
        if method == "OPTIONS":
            headers = [*cors, ("allow", "GET, POST, OPTIONS"), ("content-length", "0")]
            headers += [
                ("access-control-allow-methods", "GET, POST"),
                ("access-control-allow-headers", "content-type"),
                ("access-control-max-age", "600"),
            ]
            await _start(send, 204, headers)
            await send({"type": "http.response.body", "body": b""})
        elif method == "POST":
            subject = files.redeem(word, method, head.binding())
            if isinstance(subject, Upload):
                await _take_in(subject, head, receive)
                answer = dumps({"file": subject.id, "size": subject.got})
                await _start(send, 200, [*cors, *_json(answer)])
                await send({"type": "http.response.body", "body": answer})
        elif method == "GET":
            subject = files.redeem(word, method, head.binding())
            if isinstance(subject, Offer):
                await _give_out(files, subject, cors, receive, send)
        else:
            await _refuse(
                receive, send, 405, "bad_frame", "GET or POST",
                [*cors, ("allow", "GET, POST, OPTIONS")],
            )  # fmt: skip
    except Gone:
        return
    except GreenroomError as error:
        status = STATUS.get(error.code, 500)
        await _refuse(receive, send, status, error.code, str(error), cors)


# -- in -------------------------------------------------------------------------------------------


async def _take_in(upload: Upload, head: Head, receive: Receive) -> None:
    """Put the body into the upload. Raises what ended it, or Gone."""
    leash = Leash()
    try:
        length = head.headers.get("content-length", "")
        if length.isdecimal() and int(length) > upload.size:
            raise TooLarge(f"the body is larger than the {upload.size} bytes that were announced")
        async with leash:
            await upload.begin(leash.cut)
            pieces: list[bytes] = []
            waiting, more = 0, True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Gone
                piece: bytes = message.get("body", b"")
                more = bool(message.get("more_body", False))
                pieces.append(piece)
                waiting += len(piece)
                if waiting >= PIECE or (waiting and not more):
                    await upload.write(b"".join(pieces))
                    pieces.clear()
                    waiting = 0
            await upload.finish()
    except TimeoutError:
        if upload.error is None:
            raise
        raise upload.error from None
    finally:
        if upload.file is None:  # else it is whole
            upload.end()


# -- out ------------------------------------------------------------------------------------------


async def _give_out(
    files: Files, offer: Offer, cors: Headers, receive: Receive, send: Send
) -> None:
    """Send the file. Raises NotFound before the first byte."""
    leash = Leash()
    download = Download(files, offer, leash.cut)
    watcher: asyncio.Task[None] | None = None
    at = 0
    started = False
    try:
        async with leash:
            await download.open()
            watcher = asyncio.get_running_loop().create_task(_watch(receive, download))
            await _start(send, 200, [*cors, *_attachment(offer)])
            started = True
            while at < offer.size:
                piece = await download.read(at)
                if not piece:
                    raise Gone  # the file became shorter: the client sees that it is not whole
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                at += len(piece)
            await send({"type": "http.response.body", "body": b""})
    except (Gone, TimeoutError):
        if not started:
            raise NotFound("the file is gone") from None
        # A response that is not whole: the server closes the connection, and the client knows.
    finally:
        if watcher is not None:
            watcher.cancel()
        download.over(whole=at == offer.size)


async def _watch(receive: Receive, download: Download) -> None:
    """Servers take what is sent to a client that has gone, and say nothing."""
    while (await receive())["type"] == "http.request":
        pass
    download.leave()


def _attachment(offer: Offer) -> Headers:
    plain = ASCII.sub("_", offer.name)
    return [
        ("content-type", offer.mime),
        ("content-length", str(offer.size)),
        (
            "content-disposition",
            f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(offer.name, safe='')}",
        ),
        ("content-security-policy", "sandbox; default-src 'none'"),
        *_private(),
    ]


# -- answers --------------------------------------------------------------------------------------


def _private() -> Headers:
    return [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ]


def _json(body: bytes) -> Headers:
    return [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        *_private(),
    ]


def _cors(head: Head) -> Headers:
    """For a page of another origin that may be here."""
    origin = head.headers.get("origin")
    if origin is None:
        return []
    return [
        ("access-control-allow-origin", origin),
        ("access-control-allow-credentials", "true"),
        ("vary", "origin"),
    ]


async def _start(send: Send, status: int, headers: Headers) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _refuse(
    receive: Receive,
    send: Send,
    status: int,
    code: str,
    message: str,
    extra: Headers | None = None,
) -> None:
    """Say why not. What is still on its way is read and thrown away for a while: a connection that
    is closed on a client that sends is reset, and the answer lost with it.
    """
    body = dumps({"code": code, "message": message})
    await _start(send, status, [*(extra or []), *_json(body)])
    await send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(LINGER):
            while True:
                rest = await receive()
                if rest["type"] != "http.request" or not rest.get("more_body", False):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})
