"""A slow, plainly right model of one link's outgoing stream, written from the wire's rules alone.

Lists of frames, sizes by adding up, no sharing. It makes the same frames and must agree with
``greenroom.core._stream.Stream`` call by call. ``SimplePatch`` is a patch of sets and deletes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenroom.core._patch import Patch

KEEP = 256 * 1024  # larger patches and snapshots are not kept
ANSWERS = 64 * 1024  # what is kept after the window
HEAD = 64  # what an unsent frame counts for beside its payload


def text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class SimplePatch:
    """Operations by path: ("set", value) or ("delete",), and whether the key was created."""

    position: int
    ops: dict[str, tuple[Any, ...]]

    @property
    def nbytes(self) -> int:
        return len(self.encode())

    def __bool__(self) -> bool:
        return bool(self.ops)

    def encode(self) -> bytes:
        data: dict[str, Any] = {}
        sets = {path: op[1] for path, op in self.ops.items() if op[0] == "set"}
        deletes = [path for path, op in self.ops.items() if op[0] == "delete"]
        if sets:
            data["="] = sets
        if deletes:
            data["-"] = deletes
        return text(data)

    def real(self) -> Patch:
        """The same as the product's own patch."""
        sets = {path: op[1] for path, op in self.ops.items() if op[0] == "set"}
        return Patch.from_ops(
            sets,
            [path for path, op in self.ops.items() if op[0] == "delete"],
            created=[path for path in sets if self.ops[path][-1]],
            position=self.position,
        )

    @staticmethod
    def merge(first: SimplePatch, second: SimplePatch) -> SimplePatch | None:
        for one in first.ops:
            for other in second.ops:
                if one != other and (
                    f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
                ):
                    return None
        ops = dict(first.ops)
        for path, op in second.ops.items():
            created = ops[path][-1] if path in ops else op[-1]
            if path in ops and ops[path][0] == "delete":
                created = False
            if op[0] == "delete" and created:
                del ops[path]
            else:
                ops[path] = (*op[:-1], created and op[0] == "set")
        return SimplePatch(second.position, ops)


@dataclass
class Entry:
    kind: str  # patch, mark, snapshot, event, signal, result, error
    frame: Callable[[bytes, int], bytes]  # (payload, seq) -> the frame
    payload: Any = None
    id: int = 0
    seq: int = 0
    at: float = 0.0
    data: bytes = b""

    @property
    def solid(self) -> bool:
        return self.kind in ("event", "signal", "result", "error")

    @property
    def unsent_size(self) -> int:
        if self.kind == "mark" or (self.kind == "patch" and self.payload is None):
            return 0
        size = self.payload.nbytes if self.kind == "patch" else len(self.payload)
        return int(size) + HEAD


@dataclass
class StreamModel:
    label: str
    snapshot: Callable[[], tuple[bytes, int] | None]
    log_bytes: int
    window: float
    dead: float
    mode: str = "held"
    seq: int = 0
    ack: int = 0
    position: int = 0
    base: int = 0
    broken: bool = True
    met: bool = False
    unanswered: set[int] = field(default_factory=set)
    unsent: list[Entry] = field(default_factory=list)
    sent: list[Entry] = field(default_factory=list)
    again: list[Entry] = field(default_factory=list)  # the end of `sent` that goes out once more
    control: dict[str, Any] = field(default_factory=dict)
    blocked: bool = False
    quiet: float | None = None

    def __post_init__(self) -> None:
        self.unsent.append(self._mark())

    # -- frames

    def _mark(self) -> Entry:
        return Entry("mark", lambda p, n: b'{"type":"gr:snapshot","seq":%d,"data":%b}' % (n, p))

    @property
    def marked(self) -> bool:
        return any(entry.kind == "mark" for entry in self.unsent)

    @property
    def patch_bytes(self) -> int:
        return sum(e.unsent_size for e in self.unsent if e.kind == "patch")

    @property
    def solid_bytes(self) -> int:
        return sum(e.unsent_size for e in self.unsent if e.solid)

    @property
    def sent_bytes(self) -> int:
        return sum(len(e.data) for e in self.sent)

    def push_patch(self, patch: SimplePatch) -> None:
        if self.mode in ("answers", "shut") or self.marked or patch.position <= self.position:
            return
        last = self.unsent[-1] if self.unsent else None
        if last is not None and last.kind == "patch":
            merged = patch if last.payload is None else SimplePatch.merge(last.payload, patch)
            if merged is not None:
                last.payload = merged or None
                return
        self.unsent.append(
            Entry("patch", lambda p, n: b'{"type":"gr:state","seq":%d,"data":%b}' % (n, p), patch)
        )

    def push_event(self, name: str, payload: bytes) -> None:
        if self.mode in ("live", "held"):
            head, label = text(name), text(self.label)
            self.unsent.append(
                Entry(
                    "event",
                    lambda p, n: b'{"type":%b,"seq":%d,"data":%b,"label":%b}' % (head, n, p, label),
                    payload,
                )
            )

    def push_signal(self, name: str, payload: bytes) -> None:
        if self.mode in ("live", "held"):
            word = text(name)
            self.unsent.append(
                Entry(
                    "signal",
                    lambda p, n: (
                        b'{"type":"gr:signal","seq":%d,"data":{"name":%b,"data":%b}}' % (n, word, p)
                    ),
                    payload,
                )
            )

    def answer(self, kind: str, number: int, payload: bytes) -> None:
        if number not in self.unanswered:
            return
        self.unanswered.remove(number)
        if self.mode == "shut" or (
            self.mode == "answers" and self.solid_bytes + len(payload) + HEAD > ANSWERS
        ):
            return
        word = kind.encode()
        self.unsent.append(
            Entry(
                kind,
                lambda p, n: b'{"type":"gr:%b","seq":%d,"id":%d,"data":%b}' % (word, n, number, p),
                payload,
                number,
            )
        )

    def accept(self, number: int) -> None:
        self.ack = number
        self.unanswered.add(number)

    # -- handing over

    def committed(self, now: float) -> None:
        if self.mode != "live" or self.blocked:
            if self.quiet is None and self.unsent:
                self.quiet = now
            self._check(now)

    def take(self, now: float, room: int) -> list[bytes]:
        if self.mode != "live":
            return []
        out: list[bytes] = []
        if room >= 0:
            start = room
            for name in ("welcome", "nack", "pong", "ping"):
                if name in self.control:
                    data = self.control.pop(name)()
                    out.append(data)
                    room -= len(data)
            while self.again and room >= 0:
                entry = self.again.pop(0)
                out.append(entry.data)
                room -= len(entry.data)
            while self.unsent and room >= 0:
                entry = self.unsent[0]
                if entry.kind == "mark":
                    made = self.snapshot()
                    if made is None:
                        break
                    entry.kind = "snapshot"
                    entry.payload, self.position = made
                elif entry.kind == "patch" and entry.payload is not None:
                    entry.payload = entry.payload.encode()
                self.unsent.pop(0)
                if entry.payload is None:
                    continue
                self.seq += 1
                entry.seq, entry.at = self.seq, now
                entry.data = entry.frame(entry.payload, self.seq)
                if len(entry.data) > KEEP and not entry.solid:
                    self.base = self.seq
                else:
                    self.sent.append(entry)
                out.append(entry.data)
                room -= len(entry.data)
            if room < start:
                self.quiet = None
        self.blocked = room < 0 and bool(self.unsent or self.again)
        if self.blocked and self.quiet is None:
            self.quiet = now
        self._trim(now)
        self._check(now)
        return out

    # -- limits

    def _trim(self, now: float) -> None:
        while (
            self.sent
            and not (self.again and self.again[0] is self.sent[0])
            and (self.sent_bytes > self.log_bytes or self.sent[0].at + self.window <= now)
        ):
            self.base = self.sent.pop(0).seq

    def _check(self, now: float) -> None:
        if self.patch_bytes + self.solid_bytes <= self.log_bytes:
            return
        if self.patch_bytes:
            places = [i for i, e in enumerate(self.unsent) if e.kind == "patch"]
            self.unsent[places[0]] = self._mark()
            self.unsent = [e for e in self.unsent if e.kind != "patch"]
        if self.solid_bytes > self.log_bytes and (
            self.solid_bytes > 4 * self.log_bytes
            or (self.quiet is not None and now - self.quiet >= self.dead)
        ):
            self.empty()

    def check(self, now: float) -> None:
        self._trim(now)
        if self.mode != "live" or self.blocked:
            self._check(now)

    def empty(self) -> None:
        self.unsent, self.sent, self.again = [], [], []
        self.base, self.broken, self.quiet = self.seq, True, None
        if self.mode in ("live", "held"):
            self.unsent.append(self._mark())

    # -- coming and going

    def acknowledge(self, seq: int) -> bool:
        if seq > self.seq:
            return False
        self.sent = [entry for entry in self.sent if entry.seq > seq]
        self.again = [entry for entry in self.again if entry.seq > seq]
        self.base = max(self.base, seq)
        return True

    def resume(self, seq: int) -> bool:
        if not self.broken and self.base <= seq <= self.seq:
            self.acknowledge(seq)
            self.again = list(self.sent)
            return True
        kept = [e for e in self.sent if e.solid and e.seq > seq]
        kept += [e for e in self.unsent if e.solid]
        self.unsent = [self._mark(), *kept]
        self.sent, self.again = [], []
        self.base, self.broken = self.seq + self.met, False
        self.met = True
        return False

    def pending(self) -> list[int]:
        coming = {e.id for e in [*self.again, *self.unsent] if e.id}
        return sorted(self.unanswered | coming)

    def told(self) -> int:
        return self.again[0].seq - 1 if self.again else self.seq

    def go_live(self, welcome: bytes) -> None:
        self.hold()
        self.control["welcome"] = lambda: welcome
        self.quiet = None
        self.mode = "live"

    def nack(self) -> None:
        self.control["nack"] = lambda: b'{"type":"gr:nack","data":{"ack":%d}}' % self.ack

    def ping(self) -> None:
        self.control["ping"] = lambda: b'{"type":"gr:ping","data":{"seq":%d}}' % self.told()

    def pong(self) -> None:
        self.control["pong"] = lambda: b'{"type":"gr:pong","data":{"seq":%d}}' % self.told()

    def hold(self) -> None:
        if self.mode == "live":
            self.mode = "held"
        self.control, self.blocked = {}, False

    def lapse(self) -> None:
        self.hold()
        self.mode = "answers"
        self.empty()

    def revive(self) -> None:
        if self.mode == "answers":
            self.mode = "held"

    def shut(self) -> None:
        self.hold()
        self.mode = "shut"
        self.empty()
        self.unanswered.clear()
