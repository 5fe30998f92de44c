"""A file that a client sent, as handlers see it, and bytes made ready to be sent.

Threads: a :class:`File` may be used from any thread; a lock keeps its end in one piece. Cut in the
middle: whoever ends it first (``close``, ``keep``, the end of its session) decides; the others find
it gone and do nothing.
"""

from __future__ import annotations

import mimetypes
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

from .errors import Closed
from .types import Bytes

__all__ = ["PLAIN_MIME", "File", "clean_mime", "clean_name", "pack_bytes", "pack_file"]

PLAIN_MIME: Final = "application/octet-stream"
NAME_BYTES: Final = 255  # of UTF-8; what file systems take

_MIME: Final = re.compile(r"[\w.+-]{1,63}/[\w.+-]{1,63}\Z", re.ASCII)
_EDGES: Final = re.compile(r"\A[\s.]+|[\s.]+\Z")  # a dot in front hides a file, or means a folder
_FORBIDDEN: Final = str.maketrans(dict.fromkeys('<>:"|?*', "_"))


class File:
    """A file that a client uploaded. It lives until its session ends; see :meth:`keep`.

    ``name`` and ``mime`` are what the client said, made harmless; ``size`` is in bytes. Reading
    blocks: in async handlers use ``await asyncio.to_thread(file.read)``.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_lock",
        "_on_end",
        "_path",
        "_raw",
        "_spool",
        "mime",
        "name",
        "size",
    )

    def __init__(
        self,
        name: str,
        mime: str,
        size: int,
        *,
        path: Path | None = None,
        raw: bytes | None = None,
        spool: Callable[[File, bytes], Path] | None = None,
    ) -> None:
        self.name = name
        self.mime = mime
        self.size = size
        self._path = path
        self._raw = raw  # a small one, that came inside of a frame
        self._spool = spool  # puts such a one on disk
        self._ended = False
        self._lock = threading.Lock()
        self._on_end: Callable[[], object] | None = None

    def __repr__(self) -> str:
        return f"<File {self.name!r} {self.mime} {self.size} bytes>"

    @property
    def path(self) -> Path:
        """Where it is on disk, until it ends. Raises :class:`Closed` afterwards."""
        with self._lock:
            return self._here()

    @property
    def ended(self) -> bool:
        """Whether it was kept, closed, or deleted with its session."""
        return self._ended

    def open(self) -> BinaryIO:
        """A new binary reader; close it. Raises :class:`Closed` when the file has ended."""
        return cast("BinaryIO", self.path.open("rb"))

    def read(self) -> bytes:
        """All of it. Raises :class:`Closed` when the file has ended."""
        raw = self._raw
        if raw is not None and not self._ended:
            return raw
        return self.path.read_bytes()

    def keep(self, target: str | Path) -> Path:
        """Move it to ``target``, where it is yours; returns that path.

        A folder takes it under :attr:`name`. A file that is there already is replaced. Raises
        :class:`Closed` when the file has ended, ``OSError`` when it cannot be moved:
        IsADirectoryError when a folder has that name.
        """
        target = Path(target)
        if target.is_dir():
            target /= self.name
            if target.is_dir():  # the client chose the name: nothing happens to a folder
                raise IsADirectoryError(f"{target} is a folder: give the file another name")
        with self._lock:
            shutil.move(self._here(), target)
            target.chmod(0o666 & ~_umask())
            self._end()
        self._tell()
        return target

    def close(self) -> None:
        """Delete it now. Does nothing when it has ended."""
        with self._lock:
            if self._ended:
                return
            path = self._path
            self._end()
        if path is not None:
            path.unlink(missing_ok=True)
        self._tell()

    def when_ended(self, tell: Callable[[], object] | None) -> None:
        """Have ``tell()`` called, by whichever thread it is, when it was kept or closed."""
        self._on_end = tell

    def _here(self) -> Path:
        if self._ended:
            raise Closed(f"the file {self.name!r} was kept, closed, or went with its session")
        if self._path is None:
            if self._spool is None or self._raw is None:
                raise Closed(f"{self.name!r} came outside of a session: read() it")
            self._path, self._raw = self._spool(self, self._raw), None
        return self._path

    def _end(self) -> None:
        self._ended = True
        self._path = self._raw = self._spool = None

    def _tell(self) -> None:
        tell, self._on_end = self._on_end, None
        if tell is not None:
            tell()


def _umask() -> int:
    """The process's mask; there is no way to read it but to set it, so it is read once."""
    global _mask
    if _mask is None:
        _mask = os.umask(0o077)
        os.umask(_mask)
    return _mask


_mask: int | None = None


# -- what strangers call their files --------------------------------------------------------------


def clean_name(name: str) -> str:
    """A file name out of whatever a client says: the last part of a path, short and printable.

    It holds no separators, no control or direction-changing characters and none that a file system
    gives a meaning to; it is never empty, ``.`` or ``..``.
    """
    name = name.replace("\\", "/").rsplit("/", 1)[-1].translate(_FORBIDDEN)
    name = "".join(c for c in name if unicodedata.category(c)[0] != "C")
    name = _EDGES.sub("", name)
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > 16:
        stem, dot, suffix = name, "", ""
    room = NAME_BYTES - len(suffix.encode()) - len(dot)
    stem = stem.encode()[:room].decode(errors="ignore")
    stem = _EDGES.sub("", stem)
    name = f"{stem}.{suffix}" if suffix else stem
    return name or "file"


def clean_mime(mime: str, name: str = "") -> str:
    """``mime`` without parameters if it is a media type, else a guess by the name."""
    mime = mime.partition(";")[0].strip().lower()
    if not _MIME.match(mime):
        mime = mimetypes.guess_type(name)[0] or PLAIN_MIME
    return mime


# -- bytes to send ------------------------------------------------------------------------------


def pack_bytes(raw: Any, mime: str = PLAIN_MIME, name: str = "") -> Bytes:
    """Bytes for the state or an event, with their media type: an image, say, as the page shows it.

    ``raw`` is anything with the buffer protocol. Raises TypeError for a str or a number.
    """
    if isinstance(raw, (str, int)):
        raise TypeError(f"pack_bytes takes bytes, got {type(raw).__name__}: encode it first")
    return Bytes(raw, mime, name)


def pack_file(source: str | Path | IO[bytes] | File, mime: str | None = None) -> Bytes:
    """The content of a file as :class:`Bytes`, with its name, and its type by its name.

    ``source`` is a path, a binary file object, or a :class:`File`. It is read here and now, into
    memory; for large ones there is ``session.download``. Raises ``OSError`` like ``open``.
    """
    if isinstance(source, File):
        return Bytes(source.read(), mime or source.mime, source.name)
    if isinstance(source, (str, Path)):
        path = Path(source)
        return Bytes(path.read_bytes(), clean_mime(mime or "", path.name), path.name)
    raw = source.read()
    if not isinstance(raw, bytes):
        raise TypeError("pack_file takes a file opened in binary mode: open(path, 'rb')")
    given = getattr(source, "name", "")
    name = os.path.basename(given) if isinstance(given, str) else ""
    return Bytes(raw, clean_mime(mime or "", name), name)
