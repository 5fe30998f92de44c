"""Files beside the stream: what sessions upload, what they offer for download, and who may have it.

The rules:

- A client never names a path. A file of its own has an id, good in its session only, and a name
  made by us in a private folder (0700; files 0600). What the client calls it is text.
- Over HTTP a file moves by a *capability*: an unguessable word in a URL, good once, for one
  direction, for 60 s until its first byte; bound to the session, and to the binding cookie of the
  client that asked. Elsewhere it moves in pieces, as numbered frames of the session.
- An upload is announced with its size and may be smaller, never larger. What has arrived counts
  towards the limits of the session and of the app; nothing is reserved for what may never come.
  Files are counted, too: empty ones cost memory and a place in the folder.
- A download is offered to every client of the session, or of a label, by one event; each that gets
  it asks for it (``gr:fetch``) and is answered according to its own transport. So it does not
  matter who comes later, or comes back over another kind of line: no event, no file; with the
  event, the file, as long as the offer stands.

What one upload does is in ``uploads.py``, what one download does in ``offers.py``.

Owner: the app's loop; the tables and the counters are touched there only. :meth:`Files.provide` and
:meth:`Files.spool` may be called from any thread. Bytes are read and written on threads of our own,
one piece of one file at a time; whoever sends a file waits for the disk, nobody else does.

Cut in the middle: ``Upload.end`` may come at any moment, also while a piece is being written.
Nothing is unlinked under the thread that writes: it ends its piece, then the part is deleted. After
:meth:`Files.stop` the folder is gone.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from .errors import BadPayload, Busy, Closed, GreenroomError, NotFound, TooLarge
from .file import File, clean_mime, clean_name
from .offers import PIECE, Offer
from .packet import is_list, object_in
from .types import FileRef
from .uploads import IN_MEMORY, START, Upload

if TYPE_CHECKING:
    from .app import App
    from .connection import Connection
    from .link import ServerLink
    from .session import Session

__all__ = ["Capability", "Files"]

THREADS: Final = 4

Result = TypeVar("Result")


class Capability:
    """The right to move one file once, in one direction."""

    __slots__ = (
        "__weakref__", "binding", "files", "holder", "method", "subject", "until", "watched",
        "word",
    )  # fmt: skip

    def __init__(
        self,
        files: Files,
        method: str,
        subject: Upload | Offer,
        holder: str,
        binding: str | None,
    ) -> None:
        self.files = files
        self.word = secrets.token_urlsafe(32)
        self.method = method
        self.subject = subject
        self.holder = holder  # the link that asked for it
        self.binding = binding
        self.until = files.now() + START
        self.watched: Any = None  # owned by Deadlines

    def deadline(self) -> float | None:
        return self.until if self.word in self.files.capabilities else None

    def due(self, now: float) -> None:
        self.files.revoke(self, "expired")


class Files:
    """The files of an app. See the head of this file."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.capabilities: dict[str, Capability] = {}
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._things: dict[str, dict[str, Upload | Offer]] = {}  # by session and id
        self._spooled: dict[str, set[File]] = {}  # by session; small files that have a path now
        self._held: dict[str, int] = {}  # bytes by session
        self.total = 0  # bytes of all of them
        self._pool: ThreadPoolExecutor | None = None
        self._work: set[asyncio.Future[Any]] = set()
        self._folder: Path | None = None
        self._folder_lock = threading.Lock()

    # -- uploads --------------------------------------------------------------------------------

    def announce(
        self,
        session: Session,
        link: ServerLink,
        connection: Connection | None,
        name: str,
        size: int,
        mime: str,
        in_memory: bool = False,
    ) -> dict[str, Any]:
        """A client wants to send a file: its id, and how it may travel.

        With ``in_memory`` the payload that names it gets :class:`Bytes`.
        Raises NotFound (no uploads here), TooLarge, Busy.
        """
        settings = self.app.settings
        try:
            if not settings.uploads:
                raise NotFound("this server takes no uploads (Settings.uploads)")
            if settings.max_upload and size > settings.max_upload:
                raise TooLarge(f"a file is at most {settings.max_upload} bytes (max_upload)")
            if in_memory and size > IN_MEMORY:
                raise TooLarge(f"bytes in a payload are at most {IN_MEMORY}: send them as a file")
            open_ones = sum(upload.state != "claimed" for upload in self._uploads(session))
            if settings.max_uploads and open_ones >= settings.max_uploads:
                raise Busy(f"{open_ones} uploads of this session are open (max_uploads)", 1.0)
            self._check_room(session, size, more=1)
        except GreenroomError:
            self.counters["uploads_refused"] += 1
            raise
        name = clean_name(name)
        upload = Upload(self, session, name, size, clean_mime(mime, name), in_memory)
        self._things.setdefault(session.id, {})[upload.id] = upload
        self.counters["uploads_offered"] += 1
        self.watch(upload)
        answer: dict[str, Any] = {"file": upload.id, "piece": self._piece()}
        upload.capability = self._capability("POST", upload, link, connection)
        if upload.capability is not None:
            answer["url"] = f"file/{upload.capability.word}"
        return answer

    def fill(self, session: Session, payload: Any) -> tuple[Any, list[Upload]]:
        """``payload`` with a File, or Bytes, for each it names. Raises :class:`BadPayload`."""
        found: list[Upload] = []

        def fill(value: Any) -> Any:
            if isinstance(value, FileRef):
                upload = self._things.get(session.id, {}).get(value.id)
                named = upload.named() if isinstance(upload, Upload) else None
                if not isinstance(upload, Upload) or named is None:
                    raise BadPayload(
                        "the payload names a file that is not here: upload it first, "
                        "and name it in the same session"
                    )
                found.append(upload)
                return named
            fields = object_in(value)
            if fields is not None:
                return {key: fill(item) for key, item in fields.items()}
            return [fill(item) for item in value] if is_list(value) else value

        return fill(payload), found

    def spool(self, session: Session, file: File, raw: bytes) -> Path:
        """Put a small file on disk, for whoever wants its path. Any thread. Raises Busy."""
        self._check_room(session, len(raw), more=1)
        path = self.folder() / secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(path, "wb", opener=lambda name, _: os.open(name, flags, 0o600)) as target:
            target.write(raw)
        self.app.call_on_loop(self._spooled_one, session, file)
        return path

    def _spooled_one(self, session: Session, file: File) -> None:
        if session.ended:
            self.later(file.close)
        else:
            self._spooled.setdefault(session.id, set()).add(file)
            self._hold(session.id, file.size)
            file.when_ended(partial(self.app.call_on_loop, self._unspool, session.id, file))

    def _unspool(self, session: str, file: File) -> None:
        mine = self._spooled.get(session, set())
        if file in mine:
            mine.discard(file)
            self._hold(session, -file.size)

    # -- downloads ------------------------------------------------------------------------------

    def provide(self, session: Session, source: bytes | Path, name: str, mime: str) -> Offer:
        """Offer a file to the clients of a session. Any thread.

        Raises FileNotFoundError or ValueError for a path that is no regular file, TooLarge for
        bytes that exceed what a session, or all of them, may hold.
        """
        offer = Offer(self, session, source, name, mime)
        limit, everybody = self.app.settings.file_bytes, self.app.settings.total_file_bytes
        if everybody and offer.held and self.total + offer.held > everybody:
            raise TooLarge(
                f"with these {offer.held} bytes the server holds more than total_file_bytes "
                f"({everybody}): write them to a file, and give its path"
            )
        if limit and offer.held and self._held.get(session.id, 0) + offer.held > limit:
            raise TooLarge(
                f"with these {offer.held} bytes the session holds more than file_bytes ({limit}): "
                "write them to a file, and give its path"
            )
        self.app.call_on_loop(self._provide, offer)
        return offer

    def _provide(self, offer: Offer) -> None:
        if offer.session.ended:
            return
        self.counters["offers_made"] += 1
        self._things.setdefault(offer.session.id, {})[offer.id] = offer
        self._hold(offer.session.id, offer.held)
        self.watch(offer)

    def fetch(
        self, session: Session, link: ServerLink, connection: Connection | None, id: str
    ) -> dict[str, Any]:
        """A client wants an offered file: how it gets it. Raises :class:`NotFound`, Busy."""
        offer = self._offer(session, id)
        limit = self.app.settings.max_links  # each has it once at a time
        if limit and len(offer.sending) >= limit:
            raise Busy("this file is being sent too many times at once (max_links)", 1.0)
        offer.touch()
        answer: dict[str, Any] = {
            "file": offer.id, "name": offer.name, "mime": offer.mime, "size": offer.size,
            "piece": self._piece(),
        }  # fmt: skip
        self.revoke(offer.capabilities.get(link.id))  # one for each client
        capability = self._capability("GET", offer, link, connection)
        if capability is not None:
            offer.capabilities[link.id] = capability
            answer["url"] = f"file/{capability.word}"
        return answer

    def _offer(self, session: Session, id: str) -> Offer:
        offer = self._things.get(session.id, {}).get(id)
        if not isinstance(offer, Offer):
            raise NotFound("no such file is offered to this session, or not any more")
        return offer

    async def piece(self, session: Session, data: Mapping[str, Any]) -> Any:
        """A piece of a file, in or out; or the end of an upload."""
        file, raw = data["file"], data["data"]
        thing = self._things.get(session.id, {}).get(file)
        if data["drop"]:
            if isinstance(thing, Upload) and thing.state != "claimed":
                thing.end(Closed("the upload was dropped"))
                return True
            return False
        if raw is None:
            return await self._offer(session, file).piece(data["at"])
        if not isinstance(thing, Upload):
            raise NotFound("no such upload, or it has ended")
        return await thing.piece(data["at"], raw, data["last"])

    # -- capabilities ---------------------------------------------------------------------------

    def _capability(
        self,
        method: str,
        subject: Upload | Offer,
        link: ServerLink,
        connection: Connection | None,
    ) -> Capability | None:
        """The right to move it over HTTP, for a client that came over HTTP."""
        if connection is None or not connection.profile.http:
            return None
        capability = Capability(self, method, subject, link.id, connection.binding)
        self.capabilities[capability.word] = capability
        self.counters["capabilities_made"] += 1
        self.watch(capability)
        return capability

    def redeem(self, word: str, method: str, binding: str | None) -> Upload | Offer:
        """What a capability is good for; from now on it is good for nothing.

        Raises :class:`NotFound` for one that was used, has expired, or is another client's; the
        last stays good for its owner.
        """
        capability = self.capabilities.get(word)
        if (
            capability is None
            or capability.method != method
            or self.now() >= capability.until
            or (capability.binding is not None and capability.binding != binding)
        ):
            self.counters["capabilities_refused"] += 1
            raise NotFound("no such file, or its address has been used or is too old")
        self.revoke(capability, "used")
        return capability.subject

    def revoke(
        self, capability: Capability | None, why: Literal["used", "expired", "dropped"] = "dropped"
    ) -> None:
        """It is good for nothing any more."""
        if capability is None or self.capabilities.pop(capability.word, None) is None:
            return
        self.counters[f"capabilities_{why}"] += 1
        if isinstance(capability.subject, Upload):
            capability.subject.capability = None
        else:
            capability.subject.capabilities.pop(capability.holder, None)

    # -- room -----------------------------------------------------------------------------------

    def _uploads(self, session: Session) -> list[Upload]:
        """What of a session's there is, in whatever state. Any thread."""
        things = tuple(self._things.get(session.id, {}).values())
        return [thing for thing in things if isinstance(thing, Upload)]

    def _check_room(self, session: Session, size: int, *, more: int = 0) -> None:
        """Whether so many bytes, and so many ``more`` files, may be held. Any thread."""
        settings = self.app.settings
        if settings.max_files and more:
            here = len(self._uploads(session)) + len(self._spooled.get(session.id, ()))
            if here + more > settings.max_files:
                raise Busy(f"this session has {here} files already (max_files)", 5.0)
        if settings.file_bytes and self._held.get(session.id, 0) + size > settings.file_bytes:
            raise Busy(f"the files of this session exceed {settings.file_bytes} bytes", 5.0)
        if settings.total_file_bytes and self.total + size > settings.total_file_bytes:
            raise Busy("the server holds too many files just now", 5.0)

    def take(self, upload: Upload, size: int) -> None:
        """So much more has arrived; without room for it the upload ends."""
        try:
            self._check_room(upload.session, size)
        except Busy as error:
            upload.end(error)
        else:
            upload.got += size
            self._hold(upload.session.id, size)

    def _hold(self, session: str, size: int) -> None:
        self._held[session] = self._held.get(session, 0) + size
        self.total += size

    def forget(self, thing: Upload | Offer) -> bool:
        """It has ended: what it held is free again. False when that was known."""
        session = thing.session.id
        mine = self._things.get(session, {})
        if mine.pop(thing.id, None) is None:
            return False
        self._hold(session, -(thing.got if isinstance(thing, Upload) else thing.held))
        if not mine:
            self._things.pop(session, None)
        return True

    def _piece(self) -> int:
        """How large a piece in a frame may be: base64 and the rest of the frame fit, too."""
        limit = self.app.settings.max_frame_in
        return min(PIECE, max(1, (limit - 1024) // 2)) if limit else PIECE

    # -- life -----------------------------------------------------------------------------------

    def session_ended(self, session: Session) -> None:
        """Its files go with it."""
        for thing in tuple(self._things.get(session.id, {}).values()):
            thing.end()
        for file in self._spooled.pop(session.id, ()):
            file.when_ended(None)
            self._hold(session.id, -file.size)
            self.later(file.close)
        self._held.pop(session.id, None)

    async def stop(self) -> None:
        """Nothing is left, in memory or on disk. All sessions have ended."""
        while self._work:
            await asyncio.wait(self._work)
        folder, self._folder = self._folder, None
        if folder is not None:
            await self.on_thread(partial(shutil.rmtree, folder, ignore_errors=True))
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def stats(self) -> dict[str, int]:
        """What there is, and the places a file can end."""
        things = [thing for mine in self._things.values() for thing in mine.values()]
        uploads = Counter(thing.state for thing in things if isinstance(thing, Upload))
        return {
            "uploads_open": uploads["offered"] + uploads["receiving"],
            "uploads_waiting": uploads["here"],  # to be named
            "uploads": uploads.total(),
            "offers": len(things) - uploads.total(),
            "capabilities": len(self.capabilities),
            "bytes": self.total,
            **self.counters,
        }

    def now(self) -> float:
        return self.app.clock.time()

    def watch(self, subject: Any) -> None:
        self.app.deadlines.watch(subject)

    def on_thread(self, fn: Callable[..., Result], *args: Any) -> asyncio.Future[Result]:
        """Run ``fn(*args)`` on a thread of ours."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, "greenroom-files")
        work = asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        return work

    def later(self, fn: Callable[..., object], *args: Any) -> None:
        """The same, and nobody waits: a failure goes to the log."""

        def ended(work: asyncio.Future[Any]) -> None:
            error = None if work.cancelled() else work.exception()
            if error is not None:
                self.app.log.exception("a file could not be put away", error)

        self.on_thread(fn, *args).add_done_callback(ended)

    def folder(self) -> Path:
        """The private folder, made when it is first needed. On a thread."""
        with self._folder_lock:
            # Machines clean their temporary folders of what nobody has touched for days.
            if self._folder is None or not self._folder.is_dir():
                place = self.app.settings.upload_dir
                self._folder = Path(tempfile.mkdtemp(prefix="greenroom-", dir=place))
            return self._folder


COUNTERS: Final = (
    "uploads_offered",  #       announced, and agreed to; each ends as one of the next four,
    "uploads_unsent",  #        nothing came within 60 s, or it was dropped
    "uploads_cut",  #           it stalled, was too large, was dropped; or client or session went
    "uploads_done",  #          it came whole; of these
    "uploads_claimed",  #         a payload named it
    "uploads_unclaimed",  #       none did, within file_ttl
    "uploads_refused",  #       announced, and not agreed to
    "offers_made",  #           for download; each ends as one of the next two
    "offers_expired",
    "offers_closed",  #         with its session
    "downloads_done",  #        one client has all of an offer
    "downloads_cut",  #         one client has not, over HTTP
    "capabilities_made",  #     each ends as one of the next three
    "capabilities_used",
    "capabilities_expired",
    "capabilities_dropped",  #  another took its place, or its file has ended
    "capabilities_refused",  #  a request with one that is not good (any more)
)
