"""One file on its way in. The rules of files are at the head of ``files.py``.

The life of an upload is a table::

    offered    --begin-->  receiving    (its capability is used up, or its first piece is here)
    receiving  --whole-->  here         (a gr.File exists, and waits for a payload to name it)
    here       --named-->  claimed      (it is the app's, until the session ends)
    any        --end--->   gone         (expired, stalled, cut, dropped, closed, kept, session over)

Owner: the app's loop. The file itself is touched by one thread of the pool at a time: each method
that does waits for it, and who has begun it, a request or pieces in frames, is who goes on. Cut in
the middle: :meth:`Upload.end` may come at any moment; a part that a thread is writing is deleted
when that piece is written, and whoever waits is told why. A piece that is cancelled ends it all.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from .errors import BadPayload, Busy, Closed, GreenroomError, NotFound, Timeout, TooLarge
from .file import File
from .types import Bytes

if TYPE_CHECKING:
    from .files import Capability, Files
    from .session import Session

__all__ = ["IN_MEMORY", "START", "Upload"]

START: Final = 60.0  # seconds from an offer to the first byte
IN_MEMORY: Final = 16 * 1024 * 1024  # bytes of one that arrives as bytes, not as a file
CROWD: Final = 8  # pieces of one upload that may wait for the disk


class Upload:
    """One file on its way in. See the table above."""

    __slots__ = (
        "__weakref__",
        "_descriptor",
        "_files",
        "_lock",
        "_on_end",
        "_path",
        "_raw",
        "_working",
        "capability",
        "crowd",
        "error",
        "file",
        "got",
        "id",
        "in_memory",
        "mime",
        "name",
        "session",
        "size",
        "state",
        "touched",
        "watched",
    )

    def __init__(
        self,
        files: Files,
        session: Session,
        name: str,
        size: int,
        mime: str,
        in_memory: bool = False,
    ) -> None:
        self._files = files
        self.id = secrets.token_urlsafe(12)
        self.session = session
        self.name = name
        self.mime = mime
        self.size = size  # as announced
        self.in_memory = in_memory  # bytes, too large for a frame: nobody asked for a file
        self.got = 0
        self.state = "offered"
        self.error: GreenroomError | None = None  # why it is gone
        self.file: File | None = None
        self.capability: Capability | None = None
        self.touched = files.now()
        self.watched: Any = None  # owned by Deadlines
        self.crowd = 0
        self._descriptor: int | None = None
        self._path: Path | None = None
        self._raw: bytes | None = None
        self._working = False  # a thread of ours is at the file
        self._lock = asyncio.Lock()  # pieces come as tasks of their own; first come, first written
        self._on_end: Callable[[], object] | None = None  # of the request that brings it

    # -- moving bytes -------------------------------------------------------------------------

    async def begin(self, on_end: Callable[[], object] | None = None) -> None:
        """The first byte is about to come; ``on_end()`` is called if it ends meanwhile."""
        if self.state != "offered":
            raise NotFound("no such upload, or it has begun already")
        self.state = "receiving"
        self._on_end = on_end
        self._files.revoke(self.capability)
        self.touch()
        await self._work(self._open)

    async def write(self, piece: bytes) -> None:
        """Append. Raises whatever ended the upload: too much, no room, gone."""
        self._check()  # before it is counted: it may have ended since this piece was read
        size = len(piece)
        if self.got + size > self.size:
            self.end(TooLarge(f"the file is larger than the {self.size} bytes it was announced as"))
        else:
            self._files.take(self, size)
        self._check()
        self.touch()
        await self._work(self._append, piece)

    async def finish(self) -> File:
        """All of it is here."""
        await self._work(self._read if self.in_memory else self._sync)
        self._check()
        assert self._path is not None
        self._on_end = None
        self.state = "here"
        path = None if self.in_memory else self._path
        self.file = File(self.name, self.mime, self.got, path=path, raw=self._raw)
        self.file.when_ended(partial(self._files.app.call_on_loop, self.end))
        self._path = self._raw = None
        self._files.counters["uploads_done"] += 1
        self.touch()
        return self.file

    def named(self) -> File | Bytes | None:
        """What a payload that names it gets: a file, or bytes; None while it is not whole."""
        if self.file is None or not self.in_memory:
            return self.file
        return Bytes(self.file.read(), self.mime, self.name)

    async def piece(self, at: int, raw: bytes, last: bool) -> int:
        """The next piece of one that comes in frames; how much is here now."""
        if self.crowd >= CROWD:
            raise Busy(f"more than {CROWD} pieces of one file wait for the disk: send fewer ahead")
        self.crowd += 1
        try:
            async with self._lock:
                if self.state == "offered":
                    await self.begin()
                if self.file is not None:  # it may be the app's already: nothing ends it from here
                    raise BadPayload("this file is here already, whole")
                if self._on_end is not None:  # two at once would write over each other
                    raise BadPayload("this file is on its way over HTTP")
                if at != self.got:
                    self.end(BadPayload(f"the next piece of this file begins at {self.got}"))
                await self.write(raw)
                if last:
                    await self.finish()
                return self.got
        except asyncio.CancelledError:
            if self.file is None:  # its thread goes on: nobody else may go on beside it
                self.end(Closed("a piece of this file was cancelled"))
            raise
        finally:
            self.crowd -= 1

    def _open(self) -> None:
        self._path = self._files.folder() / secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._path, flags, 0o600)

    def _append(self, piece: bytes) -> None:
        assert self._descriptor is not None
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _sync(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _read(self) -> None:
        """Here already, on a thread of the pool: reading it later would keep the loop waiting."""
        self._sync()
        assert self._path is not None
        self._raw = self._path.read_bytes()
        self._path.unlink()

    async def _work(self, fn: Callable[..., None], *args: Any) -> None:
        """Do something to the file on a thread; a failure of the disk ends the upload."""
        self._working = True
        work = self._files.on_thread(fn, *args)
        work.add_done_callback(self._worked)
        try:
            await asyncio.shield(work)  # whoever waits may be cancelled; the thread goes on
        except OSError as error:
            self._files.app.log.error(f"an upload could not be written: {error}")
            self.end(Busy("the server cannot store this file now", 5.0))
        self._check()

    def _worked(self, work: asyncio.Future[Any]) -> None:
        self._working = False
        if not work.cancelled():
            work.exception()  # whoever waited was told, or has gone
        if self.state == "gone":
            self._discard()

    # -- life ---------------------------------------------------------------------------------

    def touch(self) -> None:
        """It has moved: the time to its deadline begins anew."""
        self.touched = self._files.now()
        self._files.watch(self)

    def claim(self, to: Literal["claimed", "here"] = "claimed") -> None:
        """A payload names it; back to ``here`` if that was not accepted."""
        step = 1 if to == "claimed" else -1
        if self.state == ("here" if step > 0 else "claimed"):
            self.state = to
            self._files.counters["uploads_claimed"] += step
            self.touch()

    def handed_over(self) -> None:
        """The payload that names it was accepted: bytes are the app's now, not held here."""
        if self.in_memory and self.state == "claimed":
            self.end()

    def end(self, error: GreenroomError | None = None) -> None:
        """It is over, for whatever reason; what there is of it is deleted. On the loop."""
        if self.state == "gone":
            return
        counters = self._files.counters
        if self.state in ("offered", "receiving"):
            counters["uploads_cut" if self.state == "receiving" else "uploads_unsent"] += 1
        elif self.state == "here":
            counters["uploads_unclaimed"] += 1
        self.state, self.error = "gone", error or Closed("this file is gone")
        self._files.revoke(self.capability)
        self._files.forget(self)
        tell, self._on_end = self._on_end, None
        if tell is not None:
            tell()
        if not self._working:
            self._discard()

    def _discard(self) -> None:
        file, path, self._path = self.file, self._path, None
        if file is not None:
            file.when_ended(None)
            if not file.ended:
                self._files.later(file.close)
        elif path is not None:
            self._files.later(self._remove, path)

    def _remove(self, path: Path) -> None:
        self._sync()
        path.unlink(missing_ok=True)

    def _check(self) -> None:
        if self.state == "gone":
            raise self.error or Closed("this file is gone")

    def deadline(self) -> float | None:
        settings = self._files.app.settings
        wait = {"offered": START, "receiving": settings.file_stall, "here": settings.file_ttl}
        seconds = wait.get(self.state, 0.0)
        return self.touched + seconds if seconds else None

    def due(self, now: float) -> None:
        self.end(Timeout("the upload has stalled" if self.state == "receiving" else "too late"))
