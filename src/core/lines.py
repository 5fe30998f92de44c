"""Lines of output: joined from what ``print`` writes in pieces, as a terminal would show them.

Threads. Several may feed one object; each has its own line, and one that takes the rest may take
another's, which then goes on as a new one. Nothing is lost, and nothing is joined to another's.
"""

from __future__ import annotations

import re
import threading
from typing import Final

from ._turn import current_turn

__all__ = ["Lines"]

LONGEST_LINE: Final = 8_192  # a line without an end becomes a record at this length
MOST_BEGUN: Final = 64  # lines without an end in one log
#: What moves a terminal's cursor or sets its colours and title.
ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class Lines:
    """Joins what ``print`` writes in pieces; one per log, and apart for every turn and thread.

    A line is kept as a terminal would show it: without colours and the like, and of what was drawn
    over with carriage returns the last.
    """

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        # Who: text, and what it was said by. A turn that has ended was flushed. Without a text it
        # is the rest of a line that was too long.
        self._begun: dict[tuple[int, int], tuple[str, str | None]] = {}

    def feed(self, text: str, handler: str | None) -> list[tuple[str, str | None]]:
        """Take a piece; the lines it completes, each with the handler that began it."""
        who = (threading.get_ident(), id(current_turn()))
        begun, said_by = self._begun.pop(who, (None, handler))
        done: list[tuple[str, str | None]] = []
        if begun and said_by != handler:
            done.append((_shown(begun), said_by))
            begun = None
        cut = begun == ""
        *whole, rest = ((begun or "") + text).split("\n")
        if whole:
            if cut and not whole[0]:
                del whole[0]  # the end of what is a record already
            cut = False
        done += [(_shown(line), handler) for line in whole]
        if len(rest) > LONGEST_LINE:
            done.append((_shown(rest), handler))
            rest, cut = "", True
        if rest or cut:
            if len(self._begun) >= MOST_BEGUN:
                done += self.rest()
            self._begun[who] = (rest, handler)
        return done

    def rest(self) -> list[tuple[str, str | None]]:
        """Take what was begun and not ended, the oldest first."""
        result: list[tuple[str, str | None]] = []
        while self._begun:
            try:
                text, handler = self._begun.pop(next(iter(self._begun)))
            except (KeyError, RuntimeError, StopIteration):  # a thread went on meanwhile
                continue
            if text:
                result.append((_shown(text), handler))
        return result


def _shown(line: str) -> str:
    if "\x1b" in line:
        line = ESCAPES.sub("", line)
    if "\r" in line:
        line = next((part for part in reversed(line.split("\r")) if part), "")
    return line
