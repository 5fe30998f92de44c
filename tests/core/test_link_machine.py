"""A server link and a plain client over a network that cuts, loses and delays: what always holds.

The client and the network are models; the session is a dict whose only handler writes. Whatever
happens on the way, when the network behaves at last the client has the server's state, every event
it sent ran at most once and in order, and every one of them has exactly one outcome.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.reference.client_model import ClientModel, Wire

from greenroom.core._patch import Patch
from greenroom.core.budget import Budget
from greenroom.core.hello import make_close, parse_hello
from greenroom.core.link import Request, ServerLink
from greenroom.core.settings import Settings
from greenroom.core.types import Packet

LOG = 2_000
SETTINGS = Settings(log_bytes=LOG, window=60.0, dead=5.0, ping=15.0, max_frame_out=500)
ROOM = 64 * 1024


class Server:
    """A session of one link at a time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.state: dict[str, Any] = {}
        self.position = 0
        self.budget = Budget(0)
        self.links: dict[str, ServerLink] = {}
        self.wires: dict[ServerLink, Wire] = {}
        self.requests: list[tuple[ServerLink, Request]] = []
        self.ran: list[int] = []
        self.answered: set[tuple[ServerLink, int]] = set()
        self.news = 0
        self.ready = True

    def snapshot(self) -> tuple[bytes, int] | None:
        return (json.dumps(self.state).encode(), self.position) if self.ready else None

    # -- the network's side

    def receive(self, wire: Wire, data: bytes) -> None:
        if not wire.open:
            return
        link = next((link for link, its in self.wires.items() if its is wire), None)
        if link is None:
            self.greet(wire, parse_hello(Packet(data)))
            return
        for request in link.receive(Packet(data), self.now):
            if request.kind == "hello":
                self.greet(wire, request.data)
            else:
                self.requests.append((link, request))
        self.look(link)

    def greet(self, wire: Wire, hello: Any) -> None:
        link = self.links.get(hello.link)
        if link is None:
            link = ServerLink(
                f"L{len(self.links)}", "main", False, SETTINGS, self.budget, self.snapshot, self.now
            )
            self.links[link.id] = link
        for other, its in list(self.wires.items()):
            if its is wire and other is not link:
                self.detach(other)
        earlier = self.wires.get(link)
        if earlier is not None and earlier is not wire:
            close = make_close("replaced")
            assert close.packet is not None
            earlier.down.append(close.packet.data)
            earlier.open = False
        self.wires[link] = wire
        link.attach(hello, self.now, session="S", token="T", expires=1e9)

    def detach(self, link: ServerLink) -> None:
        self.wires.pop(link)
        link.detach(self.now)

    def look(self, link: ServerLink) -> None:
        """Close the connection if the link wants that."""
        wire = self.wires.get(link)
        if link.closing is not None and wire is not None:
            if link.closing.packet is not None:
                wire.down.append(link.closing.packet.data)
            wire.open = False
            self.detach(link)

    def flush(self, room: int = ROOM) -> None:
        for link, wire in list(self.wires.items()):
            wire.down += [packet.data for packet in link.take(self.now, room)]
            self.look(link)

    def cut(self, wire: Wire) -> None:
        wire.open = False
        for link, its in list(self.wires.items()):
            if its is wire:
                self.detach(link)

    def tick(self) -> None:
        for link in self.links.values():
            link.tick(self.now)
            self.look(link)

    # -- the application's side

    def turn(
        self, changes: dict[str, Any], news: int, answer: tuple[ServerLink, int, int] | None
    ) -> None:
        """One turn: its patch, then its events, then its result, then the commit."""
        created = [f"/{key}" for key in changes if key not in self.state]
        sets = {f"/{key}": value for key, value in changes.items() if value is not None}
        deletes = [
            f"/{key}" for key, value in changes.items() if value is None and key in self.state
        ]
        for key, value in changes.items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        if sets or deletes:
            self.position += 1
            patch = Patch.from_ops(
                sets,
                deletes,
                created=[path for path in created if path in sets],
                position=self.position,
            )
            for link in self.links.values():
                link.push_patch(patch)
        for _ in range(news):
            self.news += 1
            for link in self.links.values():
                link.push_event("app:news", b"%d" % self.news)
        if answer is not None:
            link, number, uid = answer
            assert link.result(number, b"%d" % uid)
            assert not link.result(number, b"0"), "answered twice"
        for link in self.links.values():
            link.committed(self.now)
            self.look(link)


class LinkMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.server = Server()
        self.client = ClientModel()
        self.uid = 0
        self.client.connect()

    @property
    def wire(self) -> Wire:
        assert self.client.wire is not None
        return self.client.wire

    # -- the client

    @rule()
    def send(self) -> None:
        self.uid += 1
        self.client.send(self.uid)

    @precondition(lambda self: self.client.wire is None)
    @rule()
    def connect(self) -> None:
        self.client.connect()

    @rule()
    def acknowledge(self) -> None:
        self.client.acknowledge()

    @rule()
    def ping(self) -> None:
        self.client.ping()

    @precondition(lambda self: self.client.live)
    @rule()
    def second_hello(self) -> None:
        self.client.hello()

    # -- the network

    def up_all(self, many: int = 1000) -> None:
        wire = self.client.wire
        while wire is not None and wire.up and many:
            self.server.receive(wire, wire.up.pop(0))
            many -= 1

    def down_all(self, many: int = 1000) -> None:
        wire = self.client.wire
        while wire is not None and wire.down and self.client.wire is wire and many:
            self.client.receive(wire.down.pop(0))
            many -= 1

    @precondition(lambda self: self.client.wire is not None and self.client.wire.up)
    @rule(many=st.booleans())
    def up(self, many: bool) -> None:
        self.up_all(1000 if many else 1)

    @precondition(lambda self: self.client.wire is not None and self.client.wire.down)
    @rule(many=st.booleans())
    def down(self, many: bool) -> None:
        self.down_all(1000 if many else 1)

    @rule(bursts=st.integers(0, 2), room=st.sampled_from([200, ROOM]))
    def pump(self, bursts: int, room: int) -> None:
        """A while in which all goes well."""
        for burst in range(bursts + 1):
            if self.client.wire is None:
                self.client.connect()
            self.up_all()
            if burst:
                self.send()
                self.up_all()
            self.server.flush(room)
            self.down_all()

    @precondition(lambda self: self.client.live)
    @rule(
        away=st.sampled_from([0.0, 6.0, 61.0]), events=st.integers(0, 3), server_knows=st.booleans()
    )
    def come_back(self, away: float, events: int, server_knows: bool) -> None:
        """What was on its way is lost; something happens meanwhile; the client resumes."""
        for _ in range(events):
            self.send()
        if events % 2:
            self.up_all()
        self.cut(server_knows)
        while self.server.requests:
            self.serve(1, False)
        self.wait(away)
        self.client.connect()
        self.up_all()
        self.server.flush()

    @precondition(lambda self: self.client.live)
    @rule(seconds=st.sampled_from([0.5, 6.0]), events=st.integers(5, 60))
    def stall(self, seconds: float, events: int) -> None:
        """The client takes nothing for a while."""
        self.server.flush(-1)
        self.server.turn({"a": "y" * 1500}, events, None)
        self.server.flush(-1)
        self.wait(seconds)
        self.server.flush(-1)

    @precondition(lambda self: self.client.live)
    @rule(more=st.integers(0, 2))
    def lose_event(self, more: int) -> None:
        """An event is lost on its way, and some follow it."""
        self.send()
        self.wire.up.pop()
        for _ in range(more):
            self.send()
        self.up_all()

    @precondition(lambda self: self.client.live and self.client.kept)
    @rule(which=st.integers(0, 5))
    def repeat(self, which: int) -> None:
        """An event arrives twice."""
        kept = [sent for sent in self.client.kept if sent.handed]
        if kept:
            self.client._hand(kept[which % len(kept)])

    @precondition(lambda self: self.client.live and self.client.wire.up)
    @rule(which=st.integers(0, 5))
    def lose_up(self, which: int) -> None:
        wire = self.wire
        lost = wire.up[which % len(wire.up)]
        if b"gr:hello" not in lost:
            wire.up.remove(lost)

    @precondition(lambda self: self.client.live and self.client.wire.down)
    @rule(which=st.integers(0, 5))
    def lose_down(self, which: int) -> None:
        wire = self.wire
        lost = wire.down[which % len(wire.down)]
        if b"gr:welcome" not in lost and b"gr:close" not in lost:
            wire.down.remove(lost)

    @precondition(lambda self: self.client.wire is not None)
    @rule(server_knows=st.booleans())
    def cut(self, server_knows: bool) -> None:
        if server_knows:
            self.server.cut(self.wire)
        self.client.cut()

    # -- the server

    @rule(
        changes=st.dictionaries(
            st.sampled_from(["a", "b", "c"]), st.sampled_from([None, 1, 2, "x" * 700]), max_size=2
        ),
        news=st.integers(0, 2),
    )
    def turn(self, changes: dict[str, Any], news: int) -> None:
        self.server.turn(changes, news, None)

    @precondition(lambda self: self.server.requests)
    @rule(news=st.integers(0, 1), refuse=st.booleans())
    def serve(self, news: int, refuse: bool) -> None:
        link, request = self.server.requests.pop(0)
        assert request.kind == "event"
        assert request.id is not None
        if refuse:
            assert link.error(request.id, "busy", "later")
        else:
            self.server.ran.append(request.data)
            self.server.turn({"last": request.data}, news, (link, request.id, request.data))

    @rule(count=st.integers(1, 40))
    def flood(self, count: int) -> None:
        self.server.turn({}, count, None)

    @rule(room=st.sampled_from([-1, 0, 200, ROOM, ROOM, ROOM]))
    def flush(self, room: int) -> None:
        self.server.flush(room)

    @rule(seconds=st.sampled_from([0.5, 1.5, 6.0, 20.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.server.now += seconds
        self.server.tick()

    @rule()
    def snapshots_wait(self) -> None:
        self.server.ready = not self.server.ready

    # -- what always holds

    @invariant()
    def at_most_once_and_in_order(self) -> None:
        if hasattr(self, "server"):
            assert self.server.ran == sorted(set(self.server.ran))

    @invariant()
    def news_in_order(self) -> None:
        if hasattr(self, "server"):
            news = self.client.events
            assert news == sorted(set(news))
            for place, (a, b) in enumerate(itertools.pairwise(news), 1):
                assert b == a + 1 or place in self.client.gaps, "a gap that nobody was told of"

    @invariant()
    def memory_is_bounded(self) -> None:
        if hasattr(self, "server"):
            for link in self.server.links.values():
                if link.blocked or not link.connected:  # else take() is due, and looks
                    assert link.unsent_bytes <= 4 * LOG + 40 * 70 + 1000
                assert link.sent_bytes <= LOG

    def teardown(self) -> None:
        """The network behaves at last: everything settles."""
        if not hasattr(self, "server"):
            return
        server, client = self.server, self.client
        server.ready = True
        for _ in range(200):
            if client.wire is None:
                client.connect()
            wire = client.wire
            assert wire is not None
            server.now += 1.0
            while wire.up:
                server.receive(wire, wire.up.pop(0))
            while server.requests:
                link, request = server.requests.pop(0)
                assert request.id is not None
                server.ran.append(request.data)
                server.turn({"last": request.data}, 0, (link, request.id, request.data))
            server.tick()
            server.flush()
            while wire.down and client.wire is wire:
                client.receive(wire.down.pop(0))
            if client.wire is wire and not wire.open:
                client.cut()
                continue
            if client.wire is not wire:
                continue
            if client.behind:
                client.hello()
            elif client.live and not wire.up and not client.kept and client.seq == self.seq():
                break
            else:
                client.acknowledge()
                client.ping()
        else:
            raise AssertionError("it never settles")
        assert client.state == server.state
        assert set(client.outcome) == set(range(1, self.uid + 1)), "an event without an outcome"
        answered = {uid for uid, how in client.outcome.items() if how == "answered"}
        assert answered <= set(server.ran)
        assert server.ran == sorted(set(server.ran))
        for link in server.links.values():
            link.forget()
        assert server.budget.total == 0

    def seq(self) -> int:
        link = self.server.links[str(self.client.link)]
        return link.seq if not link.unsent_bytes else -1


LinkMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestLinkMachine = LinkMachine.TestCase
