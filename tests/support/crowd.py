"""Clients that know the protocol and abuse it, around an app with small limits.

Told what to do step by step; each step takes one number, from which it draws all its choices. What
clients send is raw frames over the memory transport: right ones, repeated ones, early ones, broken
ones. Nothing here judges; the app's own counters do, see ``test_g23_conservation.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from tests.support.gates import Gates

import greenroom as gr
from greenroom.adapters import memory
from greenroom.core.hello import Profile
from greenroom.core.types import Packet
from greenroom.testing import ManualClock

SMALL: dict[str, Any] = {
    "watchdog": 0.0,
    "workers": 2,
    "mailbox_messages": 4,
    "inflight": 3,
    "log_bytes": 700,
    "total_log_bytes": 2500,
    "window": 40.0,
    "session_ttl": 300.0,
    "max_links": 2,
    "max_connections": 4,
    "max_sessions": 3,
    "max_frame_in": 1500,
    "max_frame_out": 1000,
    "event_queue_size": 1,
    "rate": 1.0,
    "burst": 25,
    "ask_timeout": 5.0,
    "query_timeout": 5.0,
}


class Client:
    """One connection, and what its frames have told."""

    def __init__(self, app: gr.App) -> None:
        self.line = memory.connect(app, profile=Profile(limited=True))
        self.line.on_packet = self.took
        self.welcome: dict[str, Any] = {}
        self.sent = self.seq = self.call = 0

    def took(self, packet: Packet) -> None:
        frame = json.loads(packet.data)
        self.seq = frame.get("seq", self.seq)
        if frame["type"] == "gr:welcome":
            self.welcome = frame["data"]
            self.sent, self.seq = self.welcome["ack"], self.welcome["seq"]
        elif frame["type"] == "gr:confirm":
            self.call = frame["data"]["call"]
            if self.call % 2:
                self.ask("gr:answer", {"call": self.call, "value": True})

    def say(self, type: str, data: Any = None, **more: Any) -> None:
        self.line.send(json.dumps({"type": type, "data": data, **more}).encode())

    def ask(self, type: str, data: Any = None) -> None:
        self.sent += 1
        self.say(type, data, id=self.sent)


class Crowd:
    """The app, its clients, and everything that can happen to them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.gates = Gates()
        self.app = gr.App({"n": 0, "text": ""}, [], gr.Settings(**SMALL), clock=self.clock)
        self.clients: list[Client] = []
        self.tokens: list[dict[str, Any]] = []  # welcomes that were read
        self.left: list[gr.Session] = []  # sessions, perhaps closed
        self.work: set[asyncio.Task[Any]] = set()
        self.streams: list[AsyncGenerator[Any, None]] = []
        self.refusing = self.hesitating = False
        self._describe()

    def _describe(self) -> None:
        app, gates = self.app, self.gates
        inline = gr.handler(inline=True)

        @inline
        def add(state: Any, session: gr.Session, payload: Any) -> Any:
            state["n"] += 1
            state["text"] = "x" * (payload or 0)
            session.emit("app:added", "y" * (payload or 0))
            return payload

        @inline
        def back(state: Any) -> None:
            state["n"], state["text"] = 0, ""

        @inline
        def grow(state: Any) -> None:
            state["text"] = "z" * 300_000  # more than a link keeps of anything

        @inline
        def fail(session: gr.Session, state: Any) -> None:
            state["n"] = -1
            session.emit("app:never")
            raise ValueError("on purpose")

        def sync(state: Any, session: gr.Session) -> int:
            state["n"] += 1
            session.emit("app:worked", None, label="main")
            return int(state["n"])

        async def wait(state: Any, session: gr.Session) -> None:
            state["n"] += 1
            session.emit("app:waits")
            await gates.pause()

        @gr.handler(concurrent=True)
        async def beside(session: gr.Session) -> None:
            session.emit("app:beside", None, label="none")
            await gates.pause()

        @inline
        def put(state: Any) -> None:
            state["more"] = 1

        @inline
        def take(state: Any) -> None:
            state.pop("more", None)

        for handler in (add, back, grow, put, take, fail, sync, wait, beside):
            app.handlers.add(handler)
        app.session_verifier(self.verify)
        app.events.create_signal("app:signal", internal=False, client_trigger=True)
        app.events.event("app:signal")(self.react)
        app.events.event("app:signal")(self.react_and_fail)
        app.events.event("app:signal", sessions="subscribed")(self.react_in_session)
        app.events.query("app:query", internal=False, singleton=False)(self.answer)
        app.events.query("app:query", internal=False, singleton=False)(self.answer_never)

    async def verify(self) -> bool:
        if self.hesitating:
            await self.gates.pause()
        return not self.refusing

    async def react(self, data: Any) -> None:
        if data == "wait":
            await self.gates.pause()

    async def react_and_fail(self, data: Any) -> None:
        raise ValueError("on purpose")

    @gr.handler(inline=True)
    def react_in_session(self, data: Any, session: gr.Session) -> None:
        session.emit("app:heard", data)

    async def answer(self, data: Any) -> Any:
        if data == "fail":
            raise ValueError("on purpose")
        return data

    async def answer_never(self, data: Any) -> None:
        if data == "wait":
            await self.gates.pause()

    # -- the loop -----------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Until nothing happens on the loop or a worker that nobody has to push."""
        scheduler = self.app.scheduler
        idle = 0
        while idle < 12:
            await asyncio.sleep(0)
            busy = (
                scheduler.inbox
                or scheduler.parts
                or len(scheduler.loop_queue)
                or len(scheduler.pool_queue)
                or any(worker.turn is not None for worker in scheduler.workers)
            )
            idle = 0 if busy else idle + 1

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        async def run() -> None:
            with contextlib.suppress(
                gr.GreenroomError, asyncio.CancelledError, StopAsyncIteration, ValueError
            ):
                await work

        task = asyncio.ensure_future(run())
        self.work.add(task)
        task.add_done_callback(self.work.discard)

    async def leave(self, rng: random.Random) -> None:
        """The app stops, whatever is going on."""
        stopping = asyncio.ensure_future(self.app.stop(rng.choice((0.0, 0.001))))
        while not stopping.done():
            await asyncio.sleep(0)
        stopping.result()
        for client in self.clients:
            client.line.cut()
        for session in self.left:
            session.emit("app:late")
        for stream in self.streams:
            await stream.aclose()
        for task in tuple(self.work):
            task.cancel()
        self.gates.open_all()
        await asyncio.sleep(0)

    # -- what can happen: one number each -----------------------------------------------------

    def step(self, name: str, number: int) -> None:
        rng = random.Random(number)
        getattr(self, f"do_{name}")(rng)

    def some(self, rng: random.Random) -> Client | None:
        alive = [client for client in self.clients if not client.line.over]
        return rng.choice(alive) if alive else None

    def session(self, rng: random.Random) -> gr.Session | None:
        sessions = list(self.app.sessions.values())
        return rng.choice(sessions) if sessions else None

    def do_connect(self, rng: random.Random) -> None:
        with contextlib.suppress(gr.Busy):
            client = Client(self.app)
            self.clients.append(client)
            kind = rng.choice(("new", "new", "view", "view", "resume", "resume", "resume", "bad"))
            hello = {"protocol": 1, "label": rng.choice(("main", "side"))}
            known = [c.welcome | {"seq": c.seq} for c in self.clients if c.welcome]
            if kind in ("view", "resume") and known:
                welcome = rng.choice(known)
                hello["token"] = welcome["token"]
                if kind == "resume":
                    hello["link"] = welcome["link"]
                    hello["seq"] = max(0, welcome["seq"] + rng.choice((0, 0, 0, -1, -99, 99)))
            if kind == "bad":
                hello |= rng.choice(({"protocol": 2}, {"token": "none"}, {"label": "-"}))
            client.say("gr:hello", hello)
            if rng.random() < 0.1:
                client.ask("add")  # too early

    def do_silent(self, rng: random.Random) -> None:
        with contextlib.suppress(gr.Busy):
            self.clients.append(Client(self.app))

    def do_event(self, rng: random.Random) -> None:
        if client := self.some(rng):
            name = rng.choice(
                ("add", "add", "back", "grow", "fail", "sync", "wait", "beside", "nobody")
            )
            for _ in range(rng.choice((1, 1, 1, 4))):
                client.ask(name, rng.choice((None, 1, 300)) if name == "add" else None)

    def do_request(self, rng: random.Random) -> None:
        if client := self.some(rng):
            signal = {"name": "app:signal", "data": rng.choice((1, "wait"))}
            query = {"name": "app:query", "data": rng.choice((1, "fail", "wait"))}
            kind, data = rng.choice(
                (
                    ("gr:subscribe", signal),
                    ("gr:subscribe", signal),
                    ("gr:unsubscribe", signal),
                    ("gr:trigger", signal),
                    ("gr:query", query),
                    ("gr:query", {}),
                    ("gr:cancel", {"id": max(1, client.sent - rng.randrange(3))}),
                    ("gr:answer", {"call": client.call, "value": True}),
                    ("gr:refresh", None),
                    ("gr:unknown", None),
                )
            )
            client.ask(kind, data)

    def do_aside(self, rng: random.Random) -> None:
        if client := self.some(rng):
            client.say(
                *rng.choice(
                    (
                        ("gr:ack", {"seq": client.seq}),
                        ("gr:ack", {"seq": client.seq}),
                        ("gr:ping", {"id": client.sent}),
                        ("gr:pong", {"id": client.sent + rng.randrange(2)}),
                        ("gr:ping", {"id": -1}),
                        ("gr:bye", None),
                        ("gr:hello", {"protocol": 1, "token": "none"}),
                        ("add", 1),  # events without an id
                        ("nobody", 1),
                    )
                )
            )
            for _ in range(rng.choice((0, 0, 0, 1, 50))):
                client.say("nobody")  # refused, best effort

    def do_abuse(self, rng: random.Random) -> None:
        if client := self.some(rng):
            kind = rng.randrange(8)
            if kind == 0:
                client.say("add", 1, id=max(1, client.sent - 1))
            elif kind == 1:
                client.say("add", 1, id=client.sent + 2)
            elif kind == 2:
                client.line.send(rng.choice((b"{", b"[]", b"\xff", b"{}", b'{"type":"a","id":0}')))
            elif kind == 3:
                client.say("add", "x" * 2000, id=client.sent + 1)
            elif kind == 4:
                frames = [{"type": "add", "id": client.sent + n + 1} for n in range(3)]
                client.sent += 3
                client.say("gr:batch", [*frames, rng.choice(({"type": "gr:hello"}, {"type": "a"}))])
            elif kind == 5:
                text = json.dumps({"type": "add", "id": client.sent + 1})
                client.sent += 1
                for i, part in enumerate((text[:5], text[5:])):
                    client.say("gr:chunk", {"of": 1, "i": i, "last": bool(i), "part": part})
            elif kind == 6:
                client.say("gr:chunk", {"of": 1, "i": 7})
            else:
                for _ in range(40):
                    client.ask("back")

    def do_line(self, rng: random.Random) -> None:
        if client := self.some(rng):
            line = client.line
            rng.choice((line.cut, line.close, line.stall, line.stall, line.resume))()

    def do_clog(self, rng: random.Random) -> None:
        """A client takes nothing while much is waiting for it, and it goes on."""
        if client := self.some(rng):
            client.line.stall()
            client.ask("grow")
            for name in rng.choices(("put", "take"), k=6):
                self.clog(client, name)
            client.say("nobody")

    def clog(self, client: Client, name: str) -> None:
        session = self.app.sessions.get(client.welcome.get("session", ""))
        if session is not None:
            with contextlib.suppress(gr.Busy):
                session.tell(name, delay=0.1)

    def do_serve(self, rng: random.Random) -> None:
        session = self.session(rng)
        if session is None:
            with contextlib.suppress(gr.Busy):
                self.left.append(self.app.open_session())
            return
        self.left = [*self.left[-3:], session]
        kind = rng.randrange(12)
        with contextlib.suppress(gr.Busy):
            if kind == 0:
                for _ in range(rng.choice((1, 9))):
                    session.tell(rng.choice(("add", "wait", "sync")), 1)
            elif kind == 1:
                self.start(ask(session, rng.choice(("add", "wait", "fail"))))
            elif kind == 2:
                session.emit("app:told", "z" * rng.choice((1, 400)))
            elif kind == 3:
                self.app.broadcast("app:all")
            elif kind == 4:
                session.tell("back", delay=3.0)
            elif kind == 5:
                session.tell("back", every=7.0)
            elif kind == 6:
                session.spawn(self.job)
            elif kind == 7:
                self.start(hold(session))
            elif kind == 8:
                self.start(confirm(session))
            elif kind == 9:
                session.close("it is enough")
            elif kind == 10:
                self.left[0].emit("app:perhaps")
                with contextlib.suppress(gr.Closed):
                    self.left[0].tell("back")
            else:
                self.app.open_session()

    async def job(self, session: gr.Session) -> None:
        session.emit("app:job")
        await self.gates.pause()

    def do_signal(self, rng: random.Random) -> None:
        events = self.app.events
        kind = rng.randrange(6)
        if kind < 2:
            events.trigger_soon("app:signal", rng.choice((1, "wait")))
        elif kind == 2:
            self.start(events.trigger("app:signal", 1))
        elif kind == 3:
            self.start(events.request("app:query", rng.choice((1, "fail", "wait"))))
        elif kind == 4:
            overflow: Any = rng.choice(("drop_oldest", "drop_newest", "block", "close"))
            stream = events.listen("app:signal", overflow=overflow)
            self.streams.append(stream)
            self.start(anext(stream))
        elif self.work:
            rng.choice(sorted(self.work, key=id)).cancel()

    def do_gate(self, rng: random.Random) -> None:
        choose: Callable[[], None] = rng.choice(
            (lambda: self.gates.open_one(rng), self.gates.open_all)
        )
        choose()

    def do_time(self, rng: random.Random) -> None:
        self.clock.advance(rng.choice((0.2, 1.0, 3.0, 8.0, 21.0, 41.0, 301.0)))

    def do_door(self, rng: random.Random) -> None:
        self.refusing, self.hesitating = rng.random() < 0.3, rng.random() < 0.3


async def ask(session: gr.Session, event: str) -> None:
    await session.ask(event, None)


async def hold(session: gr.Session) -> None:
    async with session.turn() as state:
        state["n"] += 1
        await asyncio.sleep(0)
        session.emit("app:held")


async def confirm(session: gr.Session) -> None:
    await session.confirm("really?", timeout=5.0)


STEPS = (
    *("connect",) * 4, "silent", *("event",) * 6, *("request",) * 4, *("aside",) * 3, "abuse",
    "abuse", "clog", *("line",) * 3, *("serve",) * 4, *("signal",) * 3, "gate", "gate", "time",
    "time", "door",
)  # fmt: skip
