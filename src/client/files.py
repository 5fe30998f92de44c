"""Files of the Python client: beside the stream by HTTP, or in pieces where there is none.

Owner: the client's loop; files are read and written on its pool of threads. Cut in the middle: an
upload that is cancelled or fails is dropped at the server; of a download what was written is
deleted again.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar
from urllib.parse import urljoin

from ..core.errors import Refused
from ..core.file import clean_mime, clean_name
from ..core.packet import object_in
from ..core.types import Bytes, FileRef
from .http import PIECE, Request

if TYPE_CHECKING:
    from .connection import Client

__all__ = ["Download", "Files", "Progress"]

Result = TypeVar("Result")
Progress = Callable[[int, int], object]  #: bytes so far, bytes in all; called on the loop

AHEAD: Final = 4  # pieces that are sent before the first is answered
ADDRESS: Final = re.compile(r"file/[\w-]{20,200}\Z", re.ASCII)
TRIES: Final = 1000  # for a name that is free

_log = logging.getLogger("greenroom.client")


class Download:
    """A file that the server wants saved. Given to the hooks of :meth:`Client.on_download`.

    ``name`` is harmless: no separators, no control characters. ``size`` is in bytes.
    """

    def __init__(self, files: Files, told: dict[str, Any]) -> None:
        self._files = files
        content = told.get("data")
        self._content = content if isinstance(content, bytes) else None
        self._file = str(told.get("file", ""))
        self.name = clean_name(str(told.get("filename") or "download"))
        self.mime = clean_mime(str(told.get("mime", "")), self.name)
        size = told.get("size", 0) if self._content is None else len(self._content)
        self.size = size if isinstance(size, int) else 0

    def __repr__(self) -> str:
        return f"<Download {self.name!r} {self.mime} {self.size} bytes>"

    async def read(self, progress: Progress | None = None) -> bytes:
        """All of it. Raises :class:`Refused` (``not_found``: too late; ``lost``: try again)."""
        target = io.BytesIO()
        await self._files.fetch(self._file, self._content, target, progress)
        return target.getvalue()

    async def save(self, target: str | Path, progress: Progress | None = None) -> Path:
        """Write it to a new file; returns its path.

        A folder takes it under :attr:`name`, or ``name (1)`` and so on; nothing is overwritten.
        Raises FileExistsError for a path that is taken, :class:`Refused` as :meth:`read` does.
        """
        path, file = await _opened(partial(_create, Path(target), self.name), _undo)
        try:
            with file:
                await self._files.fetch(self._file, self._content, file, progress)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


class Files:
    """What a client knows of files. ``base`` is the URL of its socket, where it has one."""

    def __init__(self, client: Client, target: object, folder: str | Path | None) -> None:
        self._client = client
        self._base = re.sub(r"\Aws", "http", target) if isinstance(target, str) else None
        self._folder = None if folder is None else Path(folder)
        self.hooks: list[Callable[[Download], object]] = []

    # -- out ----------------------------------------------------------------------------------

    async def upload(
        self,
        source: str | Path | bytes,
        name: str | None,
        mime: str | None,
        progress: Progress | None,
    ) -> FileRef:
        """See :meth:`Client.upload`."""
        if isinstance(source, (str, Path)):
            name = name or Path(source).name
            body: BinaryIO = await _opened(partial(_read, Path(source)), _close)
        else:
            name = name or str(getattr(source, "name", "")) or "file"
            mime = mime or str(getattr(source, "mime", ""))
            body = io.BytesIO(source)
        with body:
            size = body.seek(0, io.SEEK_END)
            body.seek(0)
            mime = clean_mime(mime or "", name)
            about = {"name": name, "size": size, "mime": mime}
            told = object_in(await self._client.ask("gr:upload", about)) or {}
            ref = FileRef(str(told.get("file", "")), name, mime, size)
            url = self._url(told)
            try:
                if url is not None:
                    await Request(url).post(body, size, self._moved(progress, size))
                else:
                    await self._send_pieces(ref, body, int(told.get("piece") or PIECE), progress)
            except BaseException:
                self._client.send("gr:piece", {"file": ref.id, "drop": True})
                raise
        return ref

    async def _send_pieces(
        self, ref: FileRef, body: BinaryIO, size: int, progress: Progress | None
    ) -> None:
        waiting: deque[tuple[int, asyncio.Future[Any]]] = deque()
        at, last = 0, False
        try:
            while not last:
                raw = await asyncio.to_thread(body.read, size)
                last = at + len(raw) >= ref.size
                piece = {"file": ref.id, "at": at, "data": Bytes(raw), "last": last}
                at += len(raw)
                waiting.append((at, self._client.ask("gr:piece", piece)))
                while waiting and (last or len(waiting) >= AHEAD):
                    so_far, answer = waiting.popleft()
                    await answer
                    if progress is not None:
                        progress(so_far, ref.size)
        finally:
            for _, answer in waiting:
                answer.cancel()  # nobody waits for these any more

    # -- in -----------------------------------------------------------------------------------

    def offered(self, data: Any) -> None:
        """The server wants something saved."""
        download = Download(self, object_in(data) or {})
        if self.hooks:
            for hook in list(self.hooks):
                self._client.run(f"a hook for {download.name!r}", partial(hook, download))
        elif self._folder is not None:
            self._client.run(f"saving {download.name!r}", partial(self._save, download))
        else:
            _log.warning("%r was offered, and nobody wants it: see Client.on_download", download)

    async def _save(self, download: Download) -> None:
        assert self._folder is not None
        path = await download.save(self._folder)
        about = {"path": path, "mime": download.mime, "size": download.size}
        self._client.tell("gr:saved", about)

    async def fetch(
        self, file: str, content: bytes | None, target: BinaryIO, progress: Progress | None
    ) -> None:
        """Write an offered file to ``target``."""
        if content is not None:
            await asyncio.to_thread(target.write, content)
            return
        told = object_in(await self._client.ask("gr:fetch", {"file": file})) or {}
        size, url = int(told.get("size") or 0), self._url(told)
        if url is not None:
            await Request(url).get(target, size, self._moved(progress, size))
            return
        at = 0
        while at < size:
            piece = await self._client.ask("gr:piece", {"file": file, "at": at})
            if not isinstance(piece, bytes) or not piece:
                raise Refused("lost", f"{at} of {size} bytes came")
            await asyncio.to_thread(target.write, piece)
            at += len(piece)
            if progress is not None:
                progress(at, size)

    # -- both ---------------------------------------------------------------------------------

    def _url(self, told: dict[str, Any]) -> str | None:
        address = told.get("url")
        if self._base is None or not isinstance(address, str) or not ADDRESS.match(address):
            return None
        return urljoin(self._base, address)

    def _moved(self, progress: Progress | None, size: int) -> Callable[[int], object]:
        """What the thread calls."""
        if progress is None:
            return _nobody
        loop = asyncio.get_running_loop()
        return lambda at: loop.call_soon_threadsafe(progress, at, size)


def _nobody(_at: int) -> None:
    pass


async def _opened(work: Callable[[], Result], undo: Callable[[Result], object]) -> Result:
    """What ``work()`` opens on a thread; ``undo`` it should nobody wait for it any more."""
    opening = asyncio.get_running_loop().run_in_executor(None, work)

    def late(over: asyncio.Future[Result]) -> None:
        if not over.cancelled() and over.exception() is None:
            undo(over.result())

    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(late)  # the thread goes on
        raise


def _read(path: Path) -> BinaryIO:
    return path.open("rb")


def _close(file: BinaryIO) -> None:
    file.close()


def _undo(created: tuple[Path, BinaryIO]) -> None:
    path, file = created
    file.close()
    path.unlink(missing_ok=True)


def _create(target: Path, name: str) -> tuple[Path, BinaryIO]:
    """A new file at ``target``, or in it."""
    if not target.is_dir():
        return target, target.open("xb")
    stem, suffix = Path(name).stem, Path(name).suffix
    for number in range(TRIES):
        path = target / (f"{stem} ({number}){suffix}" if number else name)
        try:
            return path, path.open("xb")
        except FileExistsError:
            continue
    raise FileExistsError(f"{target} holds {TRIES} files called {name!r}")
