"""What a session, or the app, has to tell its developer: a bounded ring of records.

Threads. A log may be written and read from any thread; readers look at a copy. What a turn prints
goes through `capture`, which finds the log.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from . import capture
from .calm import Calm
from .lines import Lines

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["LEVELS", "AppLog", "Level", "Record", "SessionLog", "one_line"]

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")

SESSION_RECORDS: Final = 200
SESSION_SIZE: Final = 256 * 1024  # characters, of text and tracebacks
APP_RECORDS: Final = 2_000
APP_SIZE: Final = 2 * 1024 * 1024
MAX_TEXT: Final = 8_192  # characters of one record; what is longer is cut, and says so

_lock = threading.RLock()  # of all rings; reentrant, since a finalizer may print in between
_logger = logging.getLogger("greenroom")
_ours = (__file__.rpartition("log.py")[0], "src/core/_")  # files of the core: plain, compiled
_numbers: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Record(NamedTuple):
    """One thing that was said."""

    level: Level
    text: str
    time: float  # seconds since 1970
    handler: str | None = None  # the event whose turn said it
    traceback: str | None = None  # kept apart: it never reaches a browser without debug


class _Log:
    """A ring of records; the oldest give way."""

    __slots__ = ("_clock", "_lines", "_records", "_size", "limit", "max_size", "on_record")

    def __init__(
        self,
        limit: int,
        max_size: int,
        on_record: Callable[[Record], object] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limit = limit  # records
        self.max_size = max_size  # characters
        self._size = 0
        self.on_record = on_record  # called with every record, on the thread that said it
        self._clock = clock
        self._records: deque[Record] | None = None  # made when something is said
        self._lines: Lines | None = None  # what was printed without an end of line yet

    def write(
        self,
        level: Level,
        text: str,
        *,
        handler: str | None = None,
        traceback: str | None = None,
    ) -> Record:
        """Add a record. ``handler`` is that of the current turn unless given."""
        if level not in _numbers:
            raise ValueError(f"no level {level!r}: use one of {', '.join(LEVELS)}")
        if handler is None:
            handler = capture.current_handler()
        record = Record(level, _cut(text), self._clock(), handler, traceback and _cut(traceback))
        self._keep(record)
        if self.on_record is not None:
            self._told(record)
        return record

    def _keep(self, record: Record) -> None:
        with _lock:
            records = self._records
            if records is None:
                records = self._records = deque()
            records.append(record)
            self._size += _size(record)
            while len(records) > self.limit or (self._size > self.max_size and len(records) > 1):
                self._size -= _size(records.popleft())

    def _told(self, record: Record) -> None:
        try:
            with capture.Paused():  # what it prints is not captured again
                assert self.on_record is not None
                self.on_record(record)
        except Exception:
            _logger.exception("passing on a log record failed", extra=capture.OURS)

    def debug(self, text: str) -> None:
        """Say something only a developer wants to know."""
        self.write("debug", text)

    def info(self, text: str) -> None:
        """Say something."""
        self.write("info", text)

    def warning(self, text: str) -> None:
        """Say something that should be looked at."""
        self.write("warning", text)

    def error(self, text: str) -> None:
        """Say that something failed."""
        self.write("error", text)

    def _failed(
        self, text: str, error: BaseException, *, details: bool = True, handler: str | None = None
    ) -> None:
        kept = _formatted(error) if details else None
        self.write("error", f"{text}: {one_line(error)}", traceback=kept, handler=handler)

    def printed(self, text: str, handler: str | None = None) -> None:
        """Take what was printed; every whole line becomes a record."""
        lines = self._lines
        if lines is None:
            made = Lines()
            with _lock:
                lines = self._lines = self._lines or made
        for line, said_by in lines.feed(text, handler):
            self.write("info", line, handler=said_by)

    def logged(self, record: logging.LogRecord, handler: str | None = None) -> None:
        """Take a record of the standard library's logging."""
        level = LEVELS[0]
        for name in LEVELS:
            if record.levelno >= _numbers[name]:
                level = name
        error = record.exc_info[1] if record.exc_info else None
        details = None if error is None else _formatted(error)
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 arguments that do not fit: logging itself reports those
            text = record.msg if isinstance(record.msg, str) else f"<{type(record.msg).__name__}>"
        self.write(level, text, handler=handler, traceback=details)

    def flush(self) -> None:
        """Make records of lines that were begun with ``print(..., end="")`` and not ended."""
        if self._lines is not None:
            for line, said_by in self._lines.rest():
                self.write("info", line, handler=said_by)

    def clear(self) -> None:
        """Forget everything."""
        with _lock:
            self._records = self._lines = None
            self._size = 0

    def records(self) -> list[Record]:
        """A copy of what is kept, oldest first. Lines that were begun and not ended end here."""
        self.flush()
        with _lock:
            return list(self._records or ())

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records())

    def __len__(self) -> int:
        return len(self.records())

    def __bool__(self) -> bool:
        return True  # a log without records is a log

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} records>"


class SessionLog(_Log):
    """What one session's turns printed, logged and failed with.

    Calling it is the short form: ``session.log("saved")``.
    """

    __slots__ = ()

    def __init__(
        self,
        on_record: Callable[[Record], object] | None = None,
        *,
        limit: int = SESSION_RECORDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(limit, SESSION_SIZE, on_record, clock=clock)

    def __call__(self, text: str, level: Level = "info") -> None:
        """Say something."""
        self.write(level, text)

    def exception(
        self, text: str, error: BaseException, *, details: bool = True, handler: str | None = None
    ) -> None:
        """Say that something failed with ``error``, and keep its traceback as ``details``.

        ``handler`` is that of the current turn unless given.
        """
        self._failed(text, error, details=details, handler=handler)


class AppLog(_Log):
    """What the app has to say: start-up, imports, failures that belong to no session.

    What Greenroom says here itself also goes to the logger ``greenroom``; what was printed or
    logged by others has its own way out already. Of many warnings and errors of one kind (the text
    unless ``kind`` is given) the first few are said, the others counted in ``calm``. Between
    :meth:`start` and :meth:`stop` output is routed to the logs of sessions; several apps may do so
    at once.
    """

    __slots__ = ("_started", "calm")

    def __init__(
        self,
        on_record: Callable[[Record], object] | None = None,
        *,
        limit: int = APP_RECORDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(limit, APP_SIZE, on_record, clock=clock)
        self._started = False
        self.calm = Calm(clock)

    def start(self) -> None:
        """Route what turns print and log to their sessions. Again: does nothing."""
        if not self._started:
            self._started = True
            capture.install()

    def stop(self) -> None:
        """End what :meth:`start` began."""
        if self._started:
            self._started = False
            capture.uninstall()
            for kind, count in self.calm.rest():
                self.warning(f"{count} more were not shown: {kind}")

    def hear_context(self) -> None:
        """From now on this context's output that no turn makes goes to this log."""
        capture.hear_context(self)

    def absorb(self, other: AppLog) -> None:
        """Take over what another log has kept, behind what is here."""
        for record in other:
            self._keep(record)

    def capturing(self) -> capture.Capturing:
        """``with app.log.capturing():`` output that no turn makes goes to this log meanwhile.

        Holds in this context and in what is started from it. For imports and start-up.
        """
        return capture.Capturing(self)

    def debug(self, text: str) -> None:
        super().debug(text)
        _logger.debug("%s", text, extra=capture.OURS)

    def info(self, text: str) -> None:
        super().info(text)
        _logger.info("%s", text, extra=capture.OURS)

    def warning(self, text: str, *, kind: str | None = None) -> None:
        more = self.calm.ask(kind or text)
        if more is not None:
            super().warning(text + more)
            _logger.warning("%s%s", text, more, extra=capture.OURS)

    def error(self, text: str, *, kind: str | None = None) -> None:
        more = self.calm.ask(kind or text)
        if more is not None:
            super().error(text + more)
            _logger.error("%s%s", text, more, extra=capture.OURS)

    def exception(self, text: str, error: BaseException, *, kind: str | None = None) -> bool:
        """Say that something failed with ``error``, and keep its traceback; true if it was said."""
        more = self.calm.ask(kind or text)
        if more is not None:
            self._failed(text + more, error)
            _logger.error("%s%s", text, more, exc_info=_told(error), extra=capture.OURS)
        return more is not None


def _size(record: Record) -> int:
    return len(record.text) + len(record.traceback or "")


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} characters more)"


def one_line(error: BaseException) -> str:
    """The last line of a traceback: type and message."""
    return "".join(traceback.format_exception_only(error)).strip()


def _formatted(error: BaseException) -> str:
    return "".join(traceback.format_exception(*_told(error))).rstrip()


def _told(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """As ``exc_info``, but it begins at the first line of the application, if there is one."""
    where = error.__traceback__
    while where is not None and where.tb_frame.f_code.co_filename.startswith(_ours):
        where = where.tb_next
    return type(error), error, where or error.__traceback__
