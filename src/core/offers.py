"""One file on its way out. The rules of files are at the head of ``files.py``.

An :class:`Offer` stands until nobody asked for it for ``Settings.file_ttl``, or its session ends;
bytes in memory, once one client has them, for a minute. Each client that takes it over HTTP is a
:class:`Download`; in pieces it needs none, each piece is read by itself.

Owner: the app's loop; files are opened and read on threads of the pool. Cut in the middle: the end
of the offer, a client that reads nothing for ``file_stall`` and one that has gone all end in
:meth:`Download.cut`, which makes whoever sends stop.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from .errors import BadPayload, Closed, GreenroomError, NotFound, Timeout
from .types import Bytes

if TYPE_CHECKING:
    from .files import Capability, Files
    from .session import Session

__all__ = ["PIECE", "Download", "Offer"]

PIECE: Final = 256 * 1024  # what of a file is in memory at once
GRACE: Final = 60.0  # seconds that bytes stay for the other clients


class Offer:
    """A file that a session offers to its clients: a path of the app's, or bytes in memory."""

    __slots__ = (
        "__weakref__",
        "_files",
        "capabilities",
        "ended",
        "id",
        "mime",
        "name",
        "path",
        "raw",
        "sending",
        "session",
        "size",
        "stamp",
        "taken_once",
        "touched",
        "watched",
    )

    def __init__(
        self, files: Files, session: Session, source: bytes | Path, name: str, mime: str
    ) -> None:
        self._files = files
        self.id = secrets.token_urlsafe(12)
        self.session = session
        self.name = name
        self.mime = mime
        self.raw = source if isinstance(source, bytes) else None
        self.path = source if isinstance(source, Path) else None
        self.stamp: tuple[int, int] | None = None
        if isinstance(source, bytes):
            self.size = len(source)
        else:
            status = _regular(source)
            self.size = status.st_size
            self.stamp = status.st_size, status.st_mtime_ns
        self.capabilities: dict[str, Capability] = {}  # one for each link that asked
        self.taken_once = False
        self.ended = False
        self.sending: set[Download] = set()
        self.touched = files.now()
        self.watched: Any = None  # owned by Deadlines

    @property
    def held(self) -> int:
        """Bytes of memory it holds."""
        return 0 if self.raw is None else len(self.raw)

    def open(self) -> BinaryIO | None:
        """A reader of the path. On a thread. Raises :class:`NotFound` when it has changed."""
        if self.path is None:
            return None
        try:
            file = self.path.open("rb")
        except OSError:
            raise NotFound("this file is not there any more") from None
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != self.stamp or not stat.S_ISREG(status.st_mode):
            file.close()
            raise NotFound("this file has changed since it was offered")
        return file

    async def piece(self, at: int) -> Bytes:
        """A piece of it, for a client that takes it in frames."""
        if not 0 <= at <= self.size:
            raise BadPayload(f"this file has {self.size} bytes")
        self.touch()
        raw = await self._files.on_thread(self._read, at)
        if at + len(raw) >= self.size:
            self.taken()
        return Bytes(raw)

    def _read(self, at: int) -> bytes:
        if self.raw is not None:
            return self.raw[at : at + PIECE]
        file = self.open()
        assert file is not None
        with file:
            file.seek(at)
            return file.read(PIECE)

    def touch(self) -> None:
        self.touched = self._files.now()
        self._files.watch(self)

    def taken(self) -> None:
        """A client has all of it."""
        self._files.counters["downloads_done"] += 1
        self.taken_once = True
        self.touch()

    def end(self, why: Literal["closed", "expired"] = "closed") -> None:
        """It stands no more; who is at it is cut off. On the loop."""
        self.ended = True
        if self._files.forget(self):
            self._files.counters[f"offers_{why}"] += 1
            for capability in tuple(self.capabilities.values()):
                self._files.revoke(capability)
            for download in tuple(self.sending):
                download.cut(Closed("the session has ended"))

    def deadline(self) -> float | None:
        ttl = self._files.app.settings.file_ttl
        if self.raw is not None and self.taken_once:
            ttl = min(ttl or GRACE, GRACE)  # it holds memory, and the others got the event, too
        waits = bool(ttl) and not self.sending and not self.ended
        return self.touched + ttl if waits else None

    def due(self, now: float) -> None:
        self.end("expired")


class Download:
    """One client that takes an offered file over HTTP."""

    __slots__ = (
        "__weakref__", "_files", "_on_cut", "error", "file", "offer", "touched", "watched",
    )  # fmt: skip

    def __init__(self, files: Files, offer: Offer, on_cut: Callable[[], object]) -> None:
        self._files = files
        self._on_cut: Callable[[], object] | None = on_cut
        self.offer = offer
        self.file: BinaryIO | None = None
        self.error: GreenroomError | None = None
        self.watched: Any = None  # owned by Deadlines
        offer.sending.add(self)
        self.touch()

    async def open(self) -> None:
        """Look whether it is there. Raises :class:`NotFound`."""
        work = self._files.on_thread(self.offer.open)
        try:
            self.file = await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(_close)
            raise

    async def read(self, at: int) -> bytes:
        """The piece at ``at``."""
        self.touch()
        if self.file is None:
            assert self.offer.raw is not None
            await asyncio.sleep(0)  # others have their turn, and may tell that the client has gone
            return self.offer.raw[at : at + PIECE]
        # No more than was announced, should the file grow meanwhile: a log, say.
        return await self._files.on_thread(self.file.read, min(PIECE, self.offer.size - at))

    def over(self, *, whole: bool) -> None:
        """It has ended, well or not."""
        self._on_cut = None
        self.offer.sending.discard(self)
        if self.file is not None:
            self._files.later(self.file.close)
        if whole:
            self.offer.taken()
        else:
            self._files.counters["downloads_cut"] += 1
            self.offer.touch()

    def cut(self, error: GreenroomError) -> None:
        """It ends in the middle."""
        tell, self._on_cut = self._on_cut, None
        if tell is not None:
            self.error = error
            tell()

    def leave(self) -> None:
        """The client has gone."""
        self.cut(Closed("the client has gone"))

    def touch(self) -> None:
        self.touched = self._files.now()
        self._files.watch(self)

    def deadline(self) -> float | None:
        stall = self._files.app.settings.file_stall
        return self.touched + stall if stall and self._on_cut is not None else None

    def due(self, now: float) -> None:
        self.cut(Timeout("the client has stopped reading"))


def _close(work: asyncio.Future[BinaryIO | None]) -> None:
    """Nobody waits any more for the file that was being opened."""
    if not work.cancelled() and work.exception() is None:
        file = work.result()
        if file is not None:
            file.close()


def _regular(path: Path) -> os.stat_result:
    """The status of a regular file; an error that says what else it is."""
    status = path.stat()  # FileNotFoundError names the path
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no regular file, it cannot be downloaded")
    return status
