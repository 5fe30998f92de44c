"""A slow, plainly right model of who takes the next turn: sessions, quantum, lanes.

All turns run on the loop and take no time, so only the number of turns limits a quantum.
"""

from __future__ import annotations

from typing import Any

from .mailbox_model import LANES, Lanes, Mailbox


class Ready:
    """Sessions by name, and the order in which their messages run."""

    def __init__(self, quantum: int) -> None:
        self.quantum = quantum
        self.queue = Lanes()
        self.boxes: dict[str, Mailbox] = {}

    def post(self, session: str, lane: int, item: Any) -> None:
        box = self.boxes.setdefault(session, Mailbox(0, 0))
        assert box.post(lane, item, 0) == "accepted"
        self._place(session)

    def remove(self, session: str, item: Any) -> None:
        box = self.boxes[session]
        if box.remove(item):
            self._place(session)

    def _place(self, session: str) -> None:
        box = self.boxes[session]
        full = [lane for lane in range(LANES) if box.lanes[lane]]
        where = [lane for lane in range(LANES) if session in self.queue.lanes[lane]]
        if where == full[:1]:
            return
        if where:
            self.queue.remove(session)
        if full:
            self.queue.put(full[0], session)

    def run(self) -> list[Any]:
        done: list[Any] = []
        while len(self.queue):
            session = self.queue.take()
            box = self.boxes[session]
            for _ in range(self.quantum):
                if not len(box):
                    break
                done.append(box.take())
            self._place(session)
        return done
