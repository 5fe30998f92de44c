"""The watchdog: names file and line of what blocks the loop.

A thread looks at the loop's thread a few times per limit. When it finds Python code of somebody
running there it asks the loop to call back; if the loop does not within the limit, the stack is
reported, once per blockage. An idle loop is only looked at, never woken.

Threads: its own; it reads the loop thread's frames (a snapshot under the GIL) and touches nothing
else. Cut in the middle: it is a daemon thread and holds nothing.
"""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

__all__ = ["Blockage", "Watchdog"]

_ours = __file__.rpartition("core")[0]
_libraries = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_idle = ("base_events.py", "unix_events.py", "windows_events.py", "runners.py",
         "proactor_events.py")  # fmt: skip
_thread_of_a_loop = ("run", "_bootstrap_inner", "_bootstrap")  # and not wait, join or acquire


class Blockage(NamedTuple):
    """What blocked the loop: ``filename`` and ``line`` of the application, and the innermost."""

    filename: str
    line: int
    function: str
    innermost: str  # "file:line" where it really is, often a library
    seconds: float

    def __str__(self) -> str:
        inner = f", in {self.innermost}" if self.innermost != f"{self.filename}:{self.line}" else ""
        return (
            f"the loop was blocked for more than {self.seconds:.0f} ms by {self.function} "
            f"({self.filename}:{self.line}{inner}): await what takes time, or make it a plain "
            "`def`, which has a thread"
        )


class Watchdog:
    """One thread that looks after one loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        loop_thread: int,
        limit: float,
        report: Callable[[Blockage], None],
    ) -> None:
        self._loop = loop
        self._loop_thread = loop_thread
        self._limit = limit
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="greenroom-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread is gone."""
        self._stop.set()
        self._thread.join(5.0)

    def _watch(self) -> None:
        step = self._limit / 5
        while not self._stop.wait(step):
            if self._frame() is None:
                continue
            since = time.monotonic()
            answered = threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            if answered.wait(self._limit - step):
                continue
            frame = self._frame()
            if frame is not None:
                self._report(describe(frame, (time.monotonic() - since) * 1000))
                del frame
            while not answered.wait(step):
                if self._stop.is_set():
                    return

    def _frame(self) -> FrameType | None:
        """The innermost frame of the loop's thread; None while the loop waits for work."""
        frame = sys._current_frames().get(  # pyright: ignore[reportPrivateUsage]
            self._loop_thread
        )
        return None if frame is None or is_idle(frame) else frame


def is_idle(frame: FrameType) -> bool:
    """Whether a thread whose innermost frame this is waits for its loop's next event.

    Handlers wait in the same files: in ``selectors`` for a process, in ``threading`` for an event.
    """
    name = frame.f_code.co_filename
    if name.endswith("threading.py"):
        return frame.f_code.co_name in _thread_of_a_loop
    if name.endswith("selectors.py"):
        caller = frame.f_back
        return caller is None or caller.f_code.co_filename.endswith(_idle)
    return name.endswith(_idle)


def describe(frame: FrameType, milliseconds: float) -> Blockage:
    """Find the application's own frame: the innermost one outside of libraries and of ours."""
    at: FrameType | None = frame
    while at is not None:
        name = at.f_code.co_filename
        if not (name.startswith((*_libraries, _ours, "<")) or "site-packages" in name):
            break
        at = at.f_back
    chosen = at or frame
    return Blockage(
        chosen.f_code.co_filename,
        chosen.f_lineno,
        chosen.f_code.co_qualname,
        f"{frame.f_code.co_filename}:{frame.f_lineno}",
        milliseconds,
    )
