"""One HTTP request for one file, with the standard library, on a thread.

Threads: a request runs on a thread of the loop's pool and touches nothing of the client;
:meth:`Request.abort` comes from the loop and closes its socket. Cut in the middle: the thread then
fails at its next read or write, and nobody looks at how.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit

from ..core.errors import Refused
from ..core.packet import loads, object_in

__all__ = ["PIECE", "Request"]

PIECE: Final = 256 * 1024
PATIENCE: Final = 30.0  # seconds without a byte

Moved = Callable[[int], object]  # bytes so far; called on the thread
Result = TypeVar("Result")


class Request:
    """A request to one URL, to be used once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._path = parts.path
        self._connection = kind(parts.hostname or "", parts.port, timeout=PATIENCE)
        self._response: http.client.HTTPResponse | None = None  # holds the socket if it is the last
        self._aborted = threading.Event()

    async def post(self, body: BinaryIO, size: int, moved: Moved) -> None:
        """Send ``size`` bytes. Raises :class:`Refused`."""
        await self._run(partial(self._post, body, size, moved))

    async def get(self, target: BinaryIO, size: int, moved: Moved) -> None:
        """Write the answer into ``target``. Raises :class:`Refused`."""
        await self._run(partial(self._get, target, size, moved))

    def abort(self) -> None:
        """End it, wherever it is."""
        self._aborted.set()
        sock: Any = self._connection.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is not connected any more

    async def _run(self, work: Callable[[], Result]) -> Result:
        running = asyncio.get_running_loop().run_in_executor(None, self._do, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self.abort()
            running.add_done_callback(lambda over: over.cancelled() or over.exception())
            raise

    # -- on the thread ------------------------------------------------------------------------

    def _do(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except (OSError, http.client.HTTPException) as error:
            raise Refused("lost", f"the transfer broke off: {error}") from None
        finally:
            if self._response is not None:
                self._response.close()
            self._connection.close()

    def _post(self, body: BinaryIO, size: int, moved: Moved) -> None:
        connection = self._connection
        connection.putrequest("POST", self._path)
        connection.putheader("Content-Length", str(size))
        connection.putheader("Content-Type", "application/octet-stream")
        connection.endheaders()
        at = 0
        try:
            while at < size:
                self._check()
                piece = body.read(min(PIECE, size - at))
                if not piece:
                    raise OSError("the file became shorter")
                connection.send(piece)
                at += len(piece)
                moved(at)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server may have said why
        self._answer().read()

    def _get(self, target: BinaryIO, size: int, moved: Moved) -> None:
        self._connection.request("GET", self._path)
        answer = self._answer()
        at = 0
        while piece := answer.read(PIECE):
            self._check()
            at += len(piece)
            if at > size:  # a server that never ends fills no disk
                raise OSError(f"more than the {size} bytes came that were announced")
            target.write(piece)
            moved(at)
        if at != size:
            raise OSError(f"{at} of {size} bytes came")

    def _answer(self) -> http.client.HTTPResponse:
        """The answer. Raises :class:`Refused` for one that is none."""
        self._check()
        answer = self._response = self._connection.getresponse()
        if answer.status == 200:
            return answer
        text = answer.read(10_000)
        try:
            told = object_in(loads(text)) or {}
        except ValueError:
            told = {}
        message = str(told.get("message") or f"the server answered {answer.status}")
        raise Refused(str(told.get("code") or "lost"), message)

    def _check(self) -> None:
        if self._aborted.is_set():
            raise OSError("aborted")
