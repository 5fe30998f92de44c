"""A straightforward client of the wire, and a network that cuts, loses and delays.

Written from the wire's rules alone, as somebody with another language would. It keeps a frame until
it is answered, applies numbered frames in order, and notes everything that happened to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Frame = dict[str, Any]


@dataclass
class Wire:
    """One connection: what is on its way in both directions."""

    up: list[bytes] = field(default_factory=list)
    down: list[bytes] = field(default_factory=list)
    open: bool = True  # seen from the server


@dataclass
class Sent:
    uid: int
    id: int
    handed: bool = False  # to a transport, ever


@dataclass
class ClientModel:
    wire: Wire | None = None
    live: bool = False
    link: str | None = None
    token: str | None = None
    seq: int = 0
    last_id: int = 0
    kept: list[Sent] = field(default_factory=list)  # not answered, in order of ids
    state: dict[str, Any] = field(default_factory=dict)
    # what happened
    outcome: dict[int, str] = field(default_factory=dict)  # by uid: answered, refused, lost
    events: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)  # len(events) at each resumed: false
    behind: bool = False
    retry: str = "resume"

    # -- upwards

    def _say(self, frame: Frame) -> None:
        assert self.wire is not None
        self.wire.up.append(json.dumps(frame, separators=(",", ":")).encode())

    def connect(self) -> None:
        self.wire = Wire()
        self.hello()

    def hello(self) -> None:
        self.live = self.behind = False
        self._say(
            {
                "type": "gr:hello",
                "data": {
                    "protocol": 1,
                    "token": self.token,
                    "link": self.link,
                    "seq": self.seq,
                    "label": "main",
                    "binary": False,
                },
            }
        )

    def cut(self) -> None:
        self.wire, self.live = None, False

    def send(self, uid: int) -> None:
        self.last_id += 1
        sent = Sent(uid, self.last_id)
        self.kept.append(sent)
        if self.live:
            self._hand(sent)

    def _hand(self, sent: Sent) -> None:
        sent.handed = True
        self._say({"type": "add", "id": sent.id, "data": sent.uid})

    def acknowledge(self) -> None:
        if self.live:
            self._say({"type": "gr:ack", "data": {"seq": self.seq}})

    def ping(self) -> None:
        if self.live:
            handed = [sent.id for sent in self.kept if sent.handed]
            self._say({"type": "gr:ping", "data": {"id": max(handed, default=0)}})

    # -- downwards

    def receive(self, data: bytes) -> None:
        frame = json.loads(data)
        name = frame["type"].replace(":", "_")
        if "seq" in frame:
            if not self.live:
                return  # from before the hello
            if frame["seq"] != self.seq + 1:
                self.behind = self.behind or frame["seq"] > self.seq
                return
            self.seq += 1
        getattr(self, f"on_{name}")(frame)

    def on_gr_welcome(self, frame: Frame) -> None:
        data = frame["data"]
        self.live, self.token = True, data["token"]
        if data["link"] != self.link:  # a new link
            assert not data["resumed"]
            assert (data["seq"], data["ack"], data["pending"]) == (0, 0, [])
            self.link, self.seq = data["link"], 0
            for sent in self.kept:
                if sent.handed:
                    self._settle(sent.uid, "lost")
            self.kept = [sent for sent in self.kept if not sent.handed]
            for number, sent in enumerate(self.kept, 1):
                sent.id = number
            self.last_id = len(self.kept)
            self.gaps.append(len(self.events))
        else:
            ids = {sent.id for sent in self.kept}
            assert set(data["pending"]) <= ids, "promised an answer that came already"
            assert all(number <= data["ack"] for number in data["pending"])
            if data["resumed"]:
                assert data["seq"] >= self.seq
            else:
                self.seq = data["seq"]
                self.gaps.append(len(self.events))
            gone = [s for s in self.kept if s.id <= data["ack"] and s.id not in data["pending"]]
            assert not (data["resumed"] and gone), "lost although resumed"
            for sent in gone:
                self._settle(sent.uid, "lost")
            self.kept = [sent for sent in self.kept if sent not in gone]
        for sent in self.kept:
            if sent.id > data["ack"]:
                self._hand(sent)

    def _settle(self, uid: int, how: str) -> None:
        assert uid not in self.outcome, "settled twice"
        self.outcome[uid] = how

    def _answered(self, frame: Frame, how: str) -> None:
        (sent,) = [sent for sent in self.kept if sent.id == frame["id"]]
        self.kept.remove(sent)
        if how == "answered":
            assert frame["data"] == sent.uid, "somebody else's answer"
        self._settle(sent.uid, how)

    def on_gr_result(self, frame: Frame) -> None:
        self._answered(frame, "answered")

    def on_gr_error(self, frame: Frame) -> None:
        self._answered(frame, "refused")

    def on_gr_snapshot(self, frame: Frame) -> None:
        self.state = frame["data"]

    def on_gr_state(self, frame: Frame) -> None:
        data = frame["data"]
        for path in data.get("-", ()):
            del self.state[path[1:]]  # only for keys that clients have
        for path, value in data.get("=", {}).items():
            self.state[path[1:]] = value

    def on_app_news(self, frame: Frame) -> None:
        self.events.append(frame["data"])

    def on_gr_nack(self, frame: Frame) -> None:
        if self.live:
            for sent in self.kept:
                if sent.id > frame["data"]["ack"]:
                    self._hand(sent)

    def on_gr_ping(self, frame: Frame) -> None:
        if self.live:
            self.behind = self.behind or frame["data"]["seq"] > self.seq
            self.ping()

    def on_gr_pong(self, frame: Frame) -> None:
        if self.live:
            self.behind = self.behind or frame["data"]["seq"] > self.seq

    def on_gr_close(self, frame: Frame) -> None:
        self.retry = frame["data"]["retry"]
        self.cut()
        if self.retry != "resume":  # what a reloaded page would do: a new link
            self.link, self.seq = "another", 0
