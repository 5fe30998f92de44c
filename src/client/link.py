"""One link of a client: frames and the time go in, frames and effects come out.

No I/O, no threads, no clock. ``machine.py`` says in a table what it does, and why; here are the
names of events, the actions, and what is kept. A driver (``connection.py``) says what happened
(:meth:`Link.open`, :meth:`~Link.receive`, :meth:`~Link.cut`, :meth:`~Link.submit` ...), hands what
:meth:`~Link.take` returns to its transport, acts on :meth:`~Link.effects`, and comes back at
:meth:`~Link.deadline`. ``link.js`` is the twin; ``tests/vectors/link_client.json`` binds them both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..core.packet import dumps
from ..core.types import DEFAULT_LABEL, PROTOCOL_VERSION, Packet
from .codec import Garbage, decoded, is_frame, is_list, is_object, parse, without_token
from .entry import Effect, Entry
from .machine import TABLE, LinkError, State, makes_sense, retry_after_cut

__all__ = ["Link"]

ACK_AFTER: Final = 1.0  # seconds
ACK_BYTES: Final = 64 * 1024
ACK_FRAMES: Final = 128
OFFLINE_FRAMES: Final = 1000  # what may wait while there is no live connection
OFFLINE_BYTES: Final = 1024 * 1024
STALLS: Final = 3  # hellos in a row that brought nothing

LOST: Final = "the connection was lost before the answer: it may or may not have run"
OVER: Final = "the client is closed"
OFFLINE: Final = "there is no connection, and the queue of what waits for one is full"
CANCELLED: Final = "cancelled before it was sent"


class Link:
    """One link of a client, over all the connections it takes."""

    def __init__(
        self, *, label: str = DEFAULT_LABEL, token: str | None = None, binary: bool = False
    ) -> None:
        self.state = State.APART
        self.label = label
        self.token = token
        self.binary = binary
        self.link: str | None = None
        self.session: str | None = None
        self.seq = 0  # the last numbered frame we applied
        self.last_id = 0  # the last id we gave
        self.on_frame: Callable[[str, dict[str, Any]], object] | None = None
        # The server's terms, from its welcome; until then its defaults.
        self.pace: dict[str, float] = {"ping": 20.0, "dead": 10.0}
        self.max_frame_in = 0
        self.inflight = 256
        self._waiting: deque[Entry] = deque()
        self._urgent: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._kept: dict[int, Entry] = {}  # by id, in order
        self._counting = 0  # kept entries that count towards inflight
        self._subscribed: dict[str, None] = {}
        self._out: list[Packet] = []
        self._effects: list[Effect] = []
        self._parts: list[str] = []
        self._parts_of: Any = None
        self._joined: str | None = None
        self._acked = 0
        self._unacked_bytes = 0
        self._ack_at: float | None = None
        self._heard = self._pinged = 0.0
        self._probed: float | None = None  # until when a probe may go unanswered
        self._asked_from: tuple[int, int] = (-1, 0)  # (seq of the last hello, hellos from there)
        self._met = False  # there was a link before
        self._news: str | None = None  # told after the snapshot: gap or renewed
        # What the event under way is about.
        self._now = 0.0
        self._frame: dict[str, Any] = {}
        self._size = 0
        self._end: tuple[str, float | None, str, str] = ("resume", None, "", "")
        self._entry: Entry | None = None

    # -- what the driver says ---------------------------------------------------------------

    def open(self, now: float) -> None:
        """A transport is there."""
        self._now = self._heard = now
        self._out.clear()
        self._asked_from = (-1, 0)
        self._step("open")

    def receive(self, packet: Packet, now: float) -> None:
        """The transport brought a message."""
        self._now = self._heard = now
        self._probed = None
        if self.state in (State.APART, State.CLOSED):
            self._step("late")
            return
        self._size = len(packet.data) + sum(map(len, packet.buffers))
        try:
            frame = parse(packet)
            if self.on_frame is not None:
                self.on_frame("in", without_token(frame))
            self._take_in(frame, packet.buffers)
        except Garbage as error:
            self._end = ("resume", None, "bad_frame", str(error))
            ended = self.state in (State.APART, State.CLOSED)
            self._step("late" if ended else "garbage")

    def cut(self, code: int, now: float) -> None:
        """The transport is gone."""
        self._now = now
        how = retry_after_cut(code, self.token is not None)
        self._end = (how, None, "", f"the connection ended with code {code}")
        self._step("late" if self.state in (State.APART, State.CLOSED) else f"cut_{how}")

    def submit(
        self,
        kind: str,
        data: bytes | None,
        *,
        context: bytes | None = None,
        buffers: tuple[bytes, ...] = (),
        tag: Any = None,
        name: str | None = None,
    ) -> Entry:
        """Say ``kind`` with ``data`` (JSON text). Its answer comes as an effect with the entry."""
        body = b"" if data is None else b',"data":' + data
        if context is not None:
            body += b',"context":' + context
        self._entry = entry = Entry(kind, body, buffers, tag, name)
        if kind == "gr:unsubscribe" and name is not None:
            self._subscribed.pop(name, None)
        self._step("submit")
        if kind == "gr:subscribe" and name is not None and not entry.done:
            self._subscribed[name] = None
        return entry

    def withdraw(self, entry: Entry) -> bool:
        """Take back a frame that no transport has had: it never runs. False when one had it."""
        if entry.done or entry.id:
            return False
        queue = self._urgent if entry.urgent else self._waiting
        queue.remove(entry)
        self._waiting_bytes -= entry.size
        self._fail(entry, "cancelled", CANCELLED)
        return True

    def tick(self, now: float) -> None:
        """The time is ``now``; call this at :meth:`deadline`, and whenever you like."""
        self._now = now
        silent = self._silent_at()
        if silent is not None and now >= silent:
            overslept = now - silent > self.pace["dead"] and self._probed is None
            if overslept and self.state is State.LIVE:
                self._step("wake")
            else:
                self._end = ("resume", None, "", "the server has been silent for too long")
                self._step("silent")
        if self.state is State.LIVE:
            if self._ack_at is not None and now >= self._ack_at:
                self._step("ack_due")
            ping = self._ping_at()
            if ping is not None and now >= ping:
                self._step("ping_due")

    def wake(self, now: float) -> None:
        """The user is back, or the network is: make sure that the connection lives."""
        self._now = now
        self._step("wake")

    def diverged(self, message: str, now: float) -> None:
        """A patch does not fit the mirror: start over with a snapshot."""
        self._now = now
        self._end = ("resume", None, "bad_frame", message)
        self._step("late" if self.state in (State.APART, State.CLOSED) else "diverged")

    def bye(self, now: float) -> None:
        """Leave for good."""
        self._now = now
        self._end = ("never", None, "bye", OVER)
        self._step("bye")

    # -- what the driver takes --------------------------------------------------------------

    def take(self) -> list[Packet]:
        """What the transport is handed now. Entries get their numbers here."""
        while self.state is State.LIVE and (entry := self._next_waiting()) is not None:
            size = entry.size
            self._waiting_bytes -= size
            if self.max_frame_in and size > self.max_frame_in:
                text = f"the frame has {size} bytes, the server takes {self.max_frame_in}"
                self._fail(entry, "too_large", text)
                continue
            self.last_id = entry.id = self.last_id + 1
            self._kept[entry.id] = entry
            self._counting += entry.counts
            self._out.append(entry.packet())
        out, self._out = self._out, []
        if self.on_frame is not None:
            for packet in out:
                self.on_frame("out", without_token(parse(packet)))
        return out

    def effects(self) -> list[Effect]:
        """What has happened since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do, or None."""
        times = [self._silent_at()]
        if self.state is State.LIVE:
            times += (self._ack_at, self._ping_at())
        return min((t for t in times if t is not None), default=None)

    @property
    def waiting(self) -> int:
        """Frames that no transport has had."""
        return len(self._waiting) + len(self._urgent)

    @property
    def kept(self) -> int:
        """Frames that were handed over and not answered."""
        return len(self._kept)

    # -- the machine ------------------------------------------------------------------------

    def _step(self, event: str) -> None:
        cell = TABLE.get((self.state, event))
        if cell is None:
            raise LinkError(f"{event!r} cannot happen to a link that is {self.state}")
        actions, following = cell
        for action in actions:
            getattr(self, f"_{action}")()
        self.state = following

    def _take_in(self, frame: dict[str, Any], buffers: tuple[bytes, ...]) -> None:
        if frame["type"] == "gr:batch" and self.state is State.LIVE:
            inside: Any = frame.get("data")
            for inner in inside if is_list(inside) else ():
                if is_frame(inner) and inner["type"] != "gr:batch":
                    self._take_in(inner, buffers)
            return
        self._frame = decoded(frame, buffers)
        self._step(self._name_of(self._frame))
        if frame["type"] in ("gr:ping", "gr:pong") and self.state is State.LIVE:
            told = _data(frame).get("seq")
            if isinstance(told, int) and told > self.seq:
                self._step(self._name_of_lag())
        elif self._joined is not None:
            text, self._joined = self._joined, None
            self.receive(Packet(text.encode(), buffers), self._now)

    def _name_of(self, frame: dict[str, Any]) -> str:
        type_, data = frame["type"], _data(frame)
        if self.state in (State.APART, State.CLOSED):
            return "late"  # the rest of a batch whose beginning made us hang up
        if type_ == "gr:close":
            return self._name_of_close(data)
        if self.state is State.OPENING:
            return self._name_of_welcome(data) if type_ == "gr:welcome" else "early"
        if type_ in ("gr:ping", "gr:pong", "gr:chunk"):
            return str(type_[3:])
        if type_ == "gr:nack":
            ack = data.get("ack")
            if isinstance(ack, int) and self._can_resend(ack):
                return "nack"
            self._end = ("resume", None, "bad_frame", "the server asks for frames we do not have")
            return "nack_broken"
        seq = frame.get("seq")
        if not isinstance(seq, int):
            return "refusal" if type_ == "gr:error" else "stray"
        if seq == self.seq + 1:
            return "next"
        return "old" if seq <= self.seq else self._name_of_lag()

    def _name_of_lag(self) -> str:
        seq, hellos = self._asked_from
        if seq != self.seq or hellos < STALLS:
            return "behind"
        self._end = ("resume", None, "", "frames are missing, and asking again brought none")
        return "stuck"

    def _name_of_close(self, data: Mapping[str, Any]) -> str:
        how = data.get("retry")
        if how not in ("resume", "fresh", "never"):
            how = "resume"
        after = data.get("after")
        after = float(after) if isinstance(after, (int, float)) else None
        self._end = (how, after, str(data.get("code", "")), str(data.get("message", "")))
        return f"close_{how}"

    def _name_of_welcome(self, data: Mapping[str, Any]) -> str:
        if data.get("protocol") != PROTOCOL_VERSION:
            self._end = ("never", None, "version", "the server speaks another protocol")
            return "welcome_foreign"
        self._end = ("resume", None, "bad_frame", "the server's welcome makes no sense")
        if not makes_sense(data):
            return "welcome_broken"
        if data["link"] != self.link:
            return "welcome_broken" if data.get("resumed") or data["ack"] else "welcome_new"
        if not self._can_resend(data["ack"]):
            return "welcome_broken"
        return "welcome_resumed" if data.get("resumed") else "welcome_gap"

    def _can_resend(self, ack: int) -> bool:
        """Whether we still have every frame above ``ack``."""
        return 0 <= ack <= self.last_id and all(
            number in self._kept for number in range(ack + 1, self.last_id + 1)
        )

    # -- actions: opening and ending --------------------------------------------------------

    def _hello(self) -> None:
        seq, hellos = self._asked_from
        self._asked_from = (self.seq, hellos + 1 if seq == self.seq else 1)
        self._probed = None
        self._pinged = self._now
        self._forget_parts()
        self._say(
            "gr:hello",
            {
                "protocol": PROTOCOL_VERSION,
                "token": self.token,
                "link": self.link,
                "seq": self.seq,
                "label": self.label,
                "binary": self.binary,
            },
        )
        self._said_ack()

    def _adopt(self) -> None:
        data = _data(self._frame)
        if data["link"] != self.link:
            self._news = "renewed" if self._met else None
        elif not data.get("resumed") and self._news is None:  # a new link says it all
            self._news = "gap"
        self._met = True
        self.link, self.session = data["link"], data.get("session")
        for name in ("ping", "dead"):
            if isinstance(data.get(name), (int, float)):
                self.pace[name] = float(data[name])
        self.max_frame_in = int(data.get("max_frame_in") or 0)
        self.inflight = int(data.get("inflight") or 0)
        self._pinged = self._now
        self._take_token(data)

    def _skip(self) -> None:
        """The server's numbers go on from where it says."""
        self.seq = self._acked = int(_data(self._frame).get("seq") or 0)

    def _settle_unknown(self) -> None:
        data = _data(self._frame)
        ack, owed = data["ack"], data.get("pending")
        pending: set[Any] = set(owed) if is_list(owed) else set()
        for entry in [e for e in self._kept.values() if e.id <= ack and e.id not in pending]:
            self._fail(entry, "lost", LOST)

    def _settle_handed(self) -> None:
        for entry in list(self._kept.values()):
            self._fail(entry, "lost", LOST)

    def _renumber(self) -> None:
        self.last_id = 0
        self.seq = self._acked = int(_data(self._frame).get("seq") or 0)
        for entry in [e for e in self._urgent if e.type == "gr:cancel"]:
            self._urgent.remove(entry)  # the id it names is no more
            self._waiting_bytes -= entry.size
            self._settle(entry, "answer", False)

    def _subscribe_again(self) -> None:
        asked = {entry.name for entry in self._waiting if entry.type == "gr:subscribe"}
        for name in reversed([name for name in self._subscribed if name not in asked]):
            body = b',"data":' + dumps({"name": name})
            entry = Entry("gr:subscribe", body, (), None, name)
            self._waiting.appendleft(entry)
            self._waiting_bytes += entry.size

    def _resend(self) -> None:
        ack = _data(self._frame)["ack"]
        self._out += [entry.packet() for entry in self._kept.values() if entry.id > ack]

    def _settle_all(self) -> None:
        """It is over: what a transport had is lost, what waited never ran."""
        self._settle_handed()
        waiting = [*self._urgent, *self._waiting]
        self._urgent.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        for entry in waiting:
            self._fail(entry, "closed", self._end[3] or OVER)

    def _forget_link(self) -> None:
        self.link = None
        self.seq = self._acked = 0

    def _forget(self) -> None:
        self._forget_link()
        self.token = self.session = None
        self._tell("token", None, None)

    def _hang_up(self) -> None:
        self._ack_at = self._probed = None
        self._forget_parts()
        code = 4000 if self._end[2] == "bad_frame" else 1000
        self._tell("hang_up", code, self._end[2])

    def _retry(self) -> None:
        self._ack_at = self._probed = None
        self._forget_parts()
        self._tell("retry", *self._end)

    def _farewell(self) -> None:
        self._say("gr:bye")

    # -- actions: what we say ---------------------------------------------------------------

    def _keep(self) -> None:
        assert self._entry is not None
        (self._urgent if self._entry.urgent else self._waiting).append(self._entry)
        self._waiting_bytes += self._entry.size

    def _keep_offline(self) -> None:
        assert self._entry is not None
        full = self.waiting >= OFFLINE_FRAMES
        if full or self._waiting_bytes + self._entry.size > OFFLINE_BYTES:
            self._fail(self._entry, "offline", OFFLINE)
        else:
            self._keep()

    def _refuse(self) -> None:
        assert self._entry is not None
        self._fail(self._entry, "closed", OVER)

    def _next_waiting(self) -> Entry | None:
        if self._urgent:
            return self._urgent.popleft()
        if not self._waiting:
            return None
        if self.inflight and self._waiting[0].counts and self._counting >= self.inflight:
            return None
        return self._waiting.popleft()

    def _ack(self) -> None:
        self._say("gr:ack", {"seq": self.seq})
        self._said_ack()

    def _ping(self) -> None:
        self._pinged = self._now
        self._say("gr:ping", {"id": self.last_id})

    def _pong(self) -> None:
        self._say("gr:pong", {"id": self.last_id})

    def _probe(self) -> None:
        if self._probed is None and self.pace["dead"]:
            self._probed = self._now + self.pace["dead"]
            self._ping()

    # -- actions: what we hear --------------------------------------------------------------

    def _apply(self) -> None:
        frame, data = self._frame, self._frame.get("data")
        self.seq += 1
        self._asked_from = (-1, 0)
        self._unacked_bytes += self._size
        self._size = 0  # what came as a batch is counted once
        if self._ack_at is None:
            self._ack_at = self._now + ACK_AFTER
        if self._unacked_bytes >= ACK_BYTES or self.seq - self._acked >= ACK_FRAMES:
            self._ack()
        type_, number = frame["type"], frame.get("id")
        told: Mapping[str, Any] = _data(frame)
        entry = self._kept.get(number) if isinstance(number, int) else None
        if type_ == "gr:state":
            self._tell("patch", told)
        elif type_ == "gr:result":
            if entry is not None:
                if entry.type == "gr:refresh":
                    self._take_token(told)
                self._settle(entry, "answer", data)
        elif type_ == "gr:error":
            if entry is not None:
                code, message = str(told.get("code", "")), str(told.get("message", ""))
                self._fail(entry, code, message, told.get("retry_after"))
        elif type_ == "gr:snapshot":
            self._tell("snapshot", told)
            if self._news is not None:
                self._tell(self._news)
                self._news = None
        elif type_ == "gr:signal":
            self._tell("signal", told.get("name"), told.get("data"))
        else:
            self._tell("event", type_, data, frame.get("label", self.label))

    def _tell_refusal(self) -> None:
        told = _data(self._frame)
        self._tell("refusal", str(told.get("code", "")), str(told.get("message", "")))

    def _collect(self) -> None:
        """A part of a frame that was too long for its transport."""
        data = _data(self._frame)
        if data.get("i") == 0:
            self._parts, self._parts_of = [], data.get("of")
        elif data.get("of") != self._parts_of or data.get("i") != len(self._parts):
            self._forget_parts()  # the missing number will be noticed
            return
        self._parts.append(str(data.get("part", "")))
        if data.get("last"):
            self._joined = "".join(self._parts)
            self._forget_parts()

    def _forget_parts(self) -> None:
        self._parts, self._parts_of = [], None

    # -- small change -----------------------------------------------------------------------

    def _say(self, type_: str, data: Any = None) -> None:
        frame = {"type": type_} if data is None else {"type": type_, "data": data}
        self._out.append(Packet(dumps(frame)))

    def _said_ack(self) -> None:
        self._acked, self._unacked_bytes, self._ack_at = self.seq, 0, None

    def _take_token(self, data: Mapping[str, Any]) -> None:
        if isinstance(data.get("token"), str):
            self.token = data["token"]
            # In seconds from now, for our clock may differ from the server's; else by its clock.
            told = (data.get("expires_in"), data.get("expires"))
            expires = next((e for e in told if isinstance(e, (int, float)) and e is not True), None)
            self._tell("token", self.token, expires)

    def _tell(self, kind: str, *args: Any) -> None:
        self._effects.append(Effect(kind, args))

    def _fail(self, entry: Entry, code: str, message: str, after: float | None = None) -> None:
        if entry.type == "gr:subscribe" and code != "lost" and entry.name is not None:
            self._subscribed.pop(entry.name, None)
        self._settle(entry, "error", code, message, after)

    def _settle(self, entry: Entry, kind: str, *args: Any) -> None:
        if self._kept.pop(entry.id, None) is not None:
            self._counting -= entry.counts
        entry.done = True
        self._tell(kind, entry, *args)

    def _silent_at(self) -> float | None:
        wait = self.pace["ping"] + self.pace["dead"]
        if self.state is State.OPENING:
            return self._heard + wait if wait else None
        if self.state is not State.LIVE or not self.pace["dead"]:
            return None
        return self._probed if self._probed is not None else self._heard + 3 * wait

    def _ping_at(self) -> float | None:
        ping = self.pace["ping"]
        return max(self._heard + 1.5 * ping, self._pinged + ping) if ping else None


def _data(frame: Mapping[str, Any]) -> Mapping[str, Any]:
    data = frame.get("data")
    return data if is_object(data) else {}
