"""Where output goes besides its usual place: to the log of the session whose turn made it.

``sys.stdout`` is wrapped once per process, when the first app starts, and never swapped for a
turn: whom a ``print`` belongs to is read from its context (``current_turn()``), so threads, tasks
and sessions cannot mix. The usual place always gets everything.

Records of ``logging`` are heard one step *above* the root logger, once: what a handler of an
application writes of them to stdout is not copied again. A handler on the root logger
itself would make ``logging.basicConfig()`` in an application do nothing, and silence the warnings
Python prints where no handler was set up.

Threads. ``install`` and ``uninstall`` may be called from any thread; writing happens on all.
"""

from __future__ import annotations

import inspect
import io
import logging
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar, Token
from types import FrameType, TracebackType
from typing import Any, Final, Protocol, Self, TextIO, cast

from ._turn import current_turn

__all__ = [
    "OURS",
    "Capturing",
    "Paused",
    "current_handler",
    "hear_context",
    "install",
    "installed",
    "uninstall",
]

OURS: Final = {"greenroom_said_it": True}  # marks log records that are in a log already

#: Where every handler of logging begins, and how far below it one may write to stdout.
HANDLE: Final = logging.Handler.handle.__code__
LOGGING_DEPTH: Final = 14


class Destination(Protocol):
    """What output can be routed to: a SessionLog or an AppLog."""

    def printed(self, text: str, handler: str | None = None) -> None: ...
    def logged(self, record: logging.LogRecord, handler: str | None = None) -> None: ...


# Where output goes that no turn makes; set while an app is imported and started.
_elsewhere: ContextVar[Destination | None] = ContextVar("greenroom_output", default=None)
_quiet = threading.local()


def destination() -> tuple[Destination, str | None] | None:
    """The log of the current turn's session, and the turn's event; or this context's log."""
    if getattr(_quiet, "depth", 0):
        return None
    turn = current_turn()
    if turn is not None:
        log = getattr(turn.session, "log", None)
        if log is not None:
            return log, turn.event_type
    log = _elsewhere.get()
    return None if log is None else (log, None)


def current_handler() -> str | None:
    """The event of the current turn."""
    turn = current_turn()
    return None if turn is None else turn.event_type


class Paused:
    """``with Paused():`` nothing of this thread is captured, so that no log can feed itself."""

    def __enter__(self) -> None:
        _quiet.depth = getattr(_quiet, "depth", 0) + 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        _quiet.depth -= 1


def hear_context(log: Destination) -> None:
    """From now on output of this context that no turn makes goes to ``log`` too."""
    _elsewhere.set(log)


class Capturing:
    """``with Capturing(log):`` output of this context that no turn makes goes to ``log`` too."""

    def __init__(self, log: Destination) -> None:
        self._log = log
        self._token: Token[Destination | None] | None = None

    def __enter__(self) -> Self:
        install()
        self._token = _elsewhere.set(self._log)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _elsewhere.reset(self._token)
            self._token = None
        uninstall()


class Router(io.TextIOBase):
    """A text stream that passes everything on to the real one, and a copy to the right log."""

    def __init__(self, real: TextIO) -> None:
        self.real = real

    def write(self, text: str, /) -> int:
        try:
            written = self.real.write(text)
        except OSError as error:
            # Nobody reads it any more. That is no fault of the handler that prints.
            if not self.copy(text):
                raise
            _tell_of_loss(error)
            return len(text)
        if text:
            self.copy(text)
        return written

    def copy(self, text: str) -> bool:
        """Give the right log what the real stream was given; false when there is none."""
        if self is not _router:
            return False
        found = destination()
        if found is None or _is_a_record(inspect.currentframe()):
            return False
        found[0].printed(text, found[1])
        return True

    @property
    def buffer(self) -> Any:
        return _Bytes(self, self.real.buffer)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self.real.flush()
        except OSError as error:
            if self is not _router or destination() is None:
                raise
            _tell_of_loss(error)

    def close(self) -> None:
        """Not ours to close: the interpreter closes the real stream."""

    def fileno(self) -> int:
        return self.real.fileno()

    def isatty(self) -> bool:
        return self.real.isatty()

    def writable(self) -> bool:
        return self.real.writable()

    def readable(self) -> bool:
        return self.real.readable()

    def seekable(self) -> bool:
        return self.real.seekable()

    @property
    def closed(self) -> bool:
        return self.real.closed

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.real.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.real.errors

    @property
    def newlines(self) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.real.newlines

    def __getattr__(self, name: str) -> Any:  # reconfigure, name, mode, ...
        return getattr(self.real, name)


class _Bytes:
    """``sys.stdout.buffer``: bytes go to the real one, and as text to the right log."""

    def __init__(self, router: Router, real: Any) -> None:
        self._router = router
        self._real = real

    def write(self, data: Any, /) -> int:
        text = bytes(data).decode(self._router.encoding or "utf-8", "replace")
        try:
            written: int = self._real.write(data)
        except OSError as error:  # as above
            if not self._router.copy(text):
                raise
            _tell_of_loss(error)
            return len(data)
        self._router.copy(text)
        return written

    def writelines(self, lines: Iterable[Any], /) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # flush, raw, fileno, ...
        return getattr(self._real, name)


class _Nowhere(io.TextIOBase):
    """Stands where there is no stdout, as in programs of Windows without a console."""

    def write(self, text: str, /) -> int:
        return len(text)


def _tell_of_loss(error: OSError) -> None:
    """Say once that stdout is gone; where it is heard is the business of logging."""
    global _lost
    if not _lost:
        _lost = True
        logging.getLogger("greenroom").warning("stdout takes nothing any more: %s", error)


def _is_a_record(frame: FrameType | None) -> bool:
    """Whether a handler of ``logging`` writes what we hear as a record, too."""
    for _ in range(LOGGING_DEPTH):
        if frame is None:
            return False
        if frame.f_code is HANDLE:
            record = frame.f_locals.get("record")
            return isinstance(record, logging.LogRecord) and _reaches_us(record.name)
        frame = frame.f_back
    return False


class _AboveRoot(logging.Handler):
    """Copies log records to the log of the session whose turn made them."""

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)  # without the lock of handlers, which would join all sessions
        return True

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "greenroom_said_it"):
            found = destination()
            if found is not None:
                found[0].logged(record, found[1])
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and _is_unheard(record.name):
            last.handle(record)  # as Python does where nobody set up a handler


def _reaches_us(name: str) -> bool:
    """Whether records of the logger ``name`` come to us at the end of their way up."""
    root = logging.root
    logger: Any = root if name == root.name else root.manager.loggerDict.get(name)
    while isinstance(logger, logging.Logger) and logger is not _above:
        if not logger.propagate:
            return False
        logger = logger.parent
    return logger is _above


def _is_unheard(name: str) -> bool:
    """Whether a record of the logger ``name`` met no handler on its way up to us."""
    root = logging.root
    logger: Any = root if name == root.name else root.manager.loggerDict.get(name)
    while isinstance(logger, logging.Logger) and logger is not _above:
        if logger.handlers:
            return False
        logger = logger.parent
    return logger is _above


_lock = threading.Lock()
_installs = 0  # how many want the output; the router stays in place while others hold it
_router: Router | None = None
_lost = False  # whether it was said that stdout is gone
_above = logging.Logger("greenroom.capture")  # noqa: LOG001 outside of the tree of loggers
_above.addHandler(_AboveRoot())


def install() -> None:
    """Begin to route output. Counted: every call wants its `uninstall`."""
    global _installs, _lost, _router
    with _lock:
        _installs += 1
        if not isinstance(sys.stdout, Router):
            # The first time; or somebody put another stream there, which is the real one now.
            _lost = False
            _router = Router(cast("TextIO | None", sys.stdout) or cast("TextIO", _Nowhere()))
            sys.stdout = _router
        if logging.root.parent is None:
            logging.root.parent = _above


def uninstall() -> None:
    """Undo one `install`; the last one puts everything back."""
    global _installs, _router
    with _lock:
        if _installs == 0:
            raise RuntimeError("capture.uninstall() without install()")
        _installs -= 1
        if _installs:
            return
        if _router is not None and sys.stdout is _router:
            gone = isinstance(_router.real, _Nowhere)
            sys.stdout = cast("TextIO", None) if gone else _router.real
        # Where somebody wraps our router it stays below, and only passes on.
        _router = None
        if logging.root.parent is _above:
            logging.root.parent = None


def installed() -> bool:
    """Whether output is routed."""
    return _installs > 0
