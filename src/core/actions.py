"""What the server can ask a page to do: toasts, dialogs, downloads, styles.

Every verb is one frame of a ``gr:`` type (the table is in ``docs/protocol.md``), sent like any
event: from a turn it leaves when the turn commits, elsewhere at once. Sessions and views share the
verbs; a view's go to its label only.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from .errors import Timeout, WouldBlock
from .file import File, clean_mime, clean_name
from .types import Bytes, Timer

__all__ = ["Actions", "Confirmation"]

Kind = Literal["info", "success", "warning", "error"]
KINDS: Final = get_args(Kind)
Position = Literal[
    "top-left", "top-center", "top-right", "bottom-left", "bottom-center", "bottom-right"
]
POSITIONS: Final = get_args(Position)

INLINE: Final = 64 * 1024  # bytes of a download that travel with its event

SCHEMES: Final = ("", "http", "https", "mailto")
MODULE_SCHEMES: Final = ("", "http", "https")


class Confirmation:
    """A question to the user: ``await`` it, or ``.result()`` from a sync handler on a worker.

    True or False as answered, None after the time-out or when the session has no view.
    """

    __slots__ = ("_done", "_future", "_loop", "label", "timeout", "timer", "value")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, label: str | None = None
    ) -> None:
        self._loop = loop
        self._done = threading.Event()
        self._future: asyncio.Future[Any] | None = None
        self.timeout = timeout
        self.label = label  # of the views that are asked; None: all
        self.timer: Timer | None = None
        self.value: Any = None

    def settle(self, value: Any) -> None:
        """The first answer wins. On the loop only."""
        if not self._done.is_set():
            self.value = value
            self._done.set()
            if self.timer is not None:
                self.timer.cancel()
            if self._future is not None and not self._future.done():
                self._future.set_result(value)

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._done.is_set():
            self._future = self._future or asyncio.get_running_loop().create_future()
            yield from self._future.__await__()
        return self.value

    def result(self) -> Any:
        """Block this thread until it is answered. Raises :class:`WouldBlock` on the loop."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise WouldBlock("confirm().result() would block the loop: use `await confirm(...)`")
        if not self._done.wait(self.timeout + 5.0):
            raise Timeout("the question was never settled: the app stopped meanwhile")
        return self.value


class Actions:
    """The verbs. Mixed into :class:`Session`; needs ``_act`` and ``_provide``."""

    __slots__ = ()

    def _act(self, type: str, data: Mapping[str, Any]) -> None:
        raise AssertionError("the class that mixes this in sends the frame")

    def _provide(self, source: bytes | Path, name: str, mime: str) -> Any:
        raise AssertionError("the class that mixes this in offers the file")

    def notify(
        self,
        message: str,
        *,
        title: str | None = None,
        kind: Kind = "info",
        position: Position | None = None,
        duration: int | None = None,
    ) -> None:
        """Show a toast.

        ``duration`` in milliseconds; None is the page's default (5,000), 0 stays until it is
        dismissed. Raises ValueError for another kind or position.
        """
        if kind not in KINDS:
            raise ValueError(f"notify knows the kinds {', '.join(KINDS)}, not {kind!r}")
        if position is not None and position not in POSITIONS:
            raise ValueError(f"a toast stands at {', '.join(POSITIONS)}, not at {position!r}")
        self._act(
            "gr:notify",
            _given(message=message, title=title, kind=kind, position=position, duration=duration),
        )

    def download(
        self,
        data: bytes | bytearray | memoryview | str | Path | File,
        filename: str | None = None,
        mime: str | None = None,
    ) -> None:
        """Save ``data``, or the file at a path, on the user's disk under ``filename``.

        Bytes of up to 64 KiB travel with the event. What is larger, and every path, is offered:
        clients fetch it beside the stream, within ``Settings.file_ttl``, so a file must stay as it
        is until then. Raises FileNotFoundError or ValueError for a path that is no regular file,
        :class:`TooLarge` for bytes above ``Settings.file_bytes``. From any thread.
        """
        source = data.path if isinstance(data, File) else data
        if isinstance(source, (str, Path)):
            source = Path(source).absolute()
            given = data if isinstance(data, File) else source
            filename = filename or given.name
        else:
            source = bytes(source)
        name = clean_name(filename or getattr(data, "name", "") or "download")
        mime = clean_mime(mime or str(getattr(data, "mime", "")), name)
        if isinstance(source, bytes) and len(source) <= INLINE:
            about = {"filename": name, "mime": mime, "data": Bytes(source, mime, name)}
        else:
            offer = self._provide(source, name, mime)
            about = {"filename": name, "mime": mime, "size": offer.size, "file": offer.id}
        self._act("gr:download", about)

    def open_url(self, url: str) -> None:
        """Open a new tab. Raises ValueError for other than http, https, mailto and relative."""
        if urlsplit(url).scheme.lower() not in SCHEMES:
            raise ValueError(f"open_url takes http, https, mailto and relative URLs, got {url!r}")
        self._act("gr:open-url", {"url": url})

    def set_page(self, page: str, params: Mapping[str, str] | None = None) -> None:
        """Go to the page's hash route ``page``."""
        self._act("gr:page", {"page": page, "params": dict(params or {})})

    def set_content(self, target: str, *, text: str | None = None, html: str | None = None) -> None:
        """Replace the content of an element (id or selector); ``html`` is sanitised there."""
        if (text is None) == (html is None):
            raise ValueError("set_content takes exactly one of text= and html=")
        self._act("gr:content", _given(target=target, text=text, html=html))

    def set_style(self, selector: str, styles: Mapping[str, str]) -> None:
        """Set CSS properties of the elements that match ``selector``."""
        self._act("gr:style", {"selector": selector, "styles": dict(styles)})

    def call(self, module: str, function: str, *args: Any) -> None:
        """Call a function that the page exposed with ``gr.expose(module, {...})``."""
        self._act("gr:call", {"module": module, "function": function, "args": list(args)})

    def import_module(self, url: str, *, name: str | None = None) -> None:
        """Import a JavaScript module of the same origin; :meth:`call` finds what it exports.

        ``name`` is what ``call`` finds it under; by default that of its file, without its suffix.
        Raises ValueError for other than http, https and relative.
        """
        if urlsplit(url).scheme.lower() not in MODULE_SCHEMES:
            raise ValueError(f"import_module takes http, https and relative URLs, got {url!r}")
        self._act("gr:import", _given(url=url, name=name))


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
