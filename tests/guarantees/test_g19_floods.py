"""G19, very many frames: each flood ends in typed answers, and what it costs is bounded.

The bills are made from counters: bytes that came back for bytes that were sent, frames, turns,
tasks, records of the log, bytes of memory. No clock is asked. Where the rate limit would end a
flood at once it is switched off, so that the other bounds show.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.support.hostile import PING, Hostile, event, handshake, hello, text, ws_frame
from tests.support.siege import ADAPTERS, PEER, siege
from tests.support.until import eventually

import greenroom as gr
from greenroom.testing import ManualClock

KIB = 1024
MANY = 20_000

pytestmark = pytest.mark.parametrize("adapter", ADAPTERS)


def frames(*said: Any) -> bytes:
    return b"".join(ws_frame(text(frame)) for frame in said)


async def both(enemy: Hostile, data: bytes, *awaited: bytes) -> None:
    """Write a lot and read meanwhile, until these bytes have come, one by one."""
    writing = asyncio.ensure_future(enemy.write(data))
    try:
        await enemy.skip(*awaited)
        await writing
    finally:
        writing.cancel()


def test_g19_more_events_than_the_rate_allows(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, clock=ManualClock(), breath=0.1, rate=50.0, burst=1_000) as place:
            counts = place.app.counts
            async with await place.open() as enemy:
                link = place.link(enemy)
                await enemy.shout(frames(*(event(n) for n in range(1, 5_000))))
                ended = await enemy.ended()
                assert (ended.why, ended.code) == ("rate_limited", 4029)
                assert ended.close is not None
                assert ended.close["retry"] == "resume"
                assert ended.close["after"] > 0
                assert counts.over_rate == 10  # and the tenth ended it
                assert link.ack == 1_009
            # One frame that holds as much costs no more than the same one by one.
            async with await place.open() as enemy:
                link = place.link(enemy)
                batch = {"type": "gr:batch", "data": [event(n) for n in range(1, 20_000)]}
                await enemy.shout(frames(batch))
                assert (await enemy.ended()).why == "rate_limited"
                assert link.ack == 1_009
            assert counts.over_rate == 20
            assert counts.discarded > 18_000
            assert place.records.texts == []

    serve(main)


def test_g19_50_000_names_that_nobody_knows(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, rate=0.0) as place:
            flood = [
                frames(*(event(n, f"name{n}:{n}") for n in range(start, start + 5_000)))
                for start in range(1, 50_001, 5_000)
            ]
            async with await place.open() as enemy:
                await both(enemy, flood[0], b'"id":5000,')  # what is made once has been made
                with place.memory() as memory:
                    for number, part in enumerate(flood[1:], 2):
                        await both(enemy, part, b'"id":%d,' % (number * 5_000))
                        await enemy.say({"type": "gr:ack", "data": {"seq": number * 5_000 + 1}})
                    await place.undisturbed()
                    assert memory.now < 1024 * KIB
                link = place.link(enemy)
                assert link.ack == 50_000
                assert link.open_ids == 0
                assert enemy.taken < 4 * enemy.sent
            assert place.records.texts == []

    serve(main)


def test_g19_a_flood_by_somebody_who_does_not_read(serve: Any, adapter: str) -> None:
    async def main() -> None:
        log_bytes = 64 * KIB
        async with siege(adapter, rate=0.0, log_bytes=log_bytes) as place:
            flood = frames(*(event(n, "nope") for n in range(1, 100_000)))
            async with await place.open(receive_buffer=4 * KIB) as enemy:
                link = place.link(enemy)
                with place.memory() as memory:
                    writing = asyncio.ensure_future(enemy.shout(flood))
                    await eventually(lambda: link.closing is not None or not link.connected)
                    await place.undisturbed()
                    # Both logs of the link, and the objects that one read of 256 KiB becomes.
                    assert memory.peak < 5 * log_bytes + 8 * 1024 * KIB
                assert link.unsent_bytes + link.sent_bytes <= 5 * log_bytes + 2 * KIB
                ended = await enemy.ended()
                assert ended.why in ("slow_consumer", None), ended  # None: cut before
                await writing
            assert place.records.texts == []

    serve(main)


def test_g19_frames_about_the_conversation(serve: Any, adapter: str) -> None:
    """Acknowledgements, pings, pongs, repetitions: nothing comes back, or less than came in."""

    async def main() -> None:
        async with siege(adapter, rate=0.0) as place:
            floods = {
                "acks": {"type": "gr:ack", "data": {"seq": 1}},
                "pings": {"type": "gr:ping", "data": {"id": 1}},
                "repeated": event(1),
                "bare": {"type": "nope"},
                "parts": {
                    "type": "gr:chunk",
                    "data": {"of": 1, "i": 0, "last": True, "part": '{"type":"gr:pong"}'},
                },
            }
            counts = place.app.counts
            for name, frame in floods.items():
                async with await place.open() as enemy:
                    await enemy.say(event(1))
                    await enemy.answer(1)
                    before = getattr(counts, name)
                    taken, sent = enemy.taken, enemy.sent
                    await both(enemy, frames(*[frame] * MANY, event(2)), b'"id":2,"data":')
                    assert enemy.taken - taken < enemy.sent - sent, name
                    assert getattr(counts, name) >= before + MANY, name
                    assert place.link(enemy).ack == 2, name
                await place.undisturbed()
            assert place.records.texts == []

    serve(main)


def test_g19_ids_of_the_future(serve: Any, adapter: str) -> None:
    async def main() -> None:
        clock = ManualClock()
        async with siege(adapter, clock=clock, rate=0.0) as place:
            async with await place.open() as enemy:
                counts = place.app.counts
                for nacks in range(1, 4):
                    await enemy.write(frames(*(event(n) for n in range(5, MANY // 4))))
                    await enemy.until("gr:nack")
                    wanted = nacks * (MANY // 4 - 5)
                    while counts.gapped < wanted:
                        await place.undisturbed(1)
                    assert counts.gapped == wanted
                    assert counts.nacks == nacks
                    clock.advance(1.0)
                await enemy.say(event(5))
                assert (await enemy.ended()).why == "bad_frame"
            assert place.app.stats()["messages"]["refused"] == 0

    serve(main)


def test_g19_pings_that_nobody_reads_the_pongs_of(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, dead=0.0) as place:
            ping = ws_frame(b"x" * 125, PING)
            flood = ping * 8_000  # a megabyte
            async with await place.open(receive_buffer=4 * KIB) as enemy:
                with place.memory() as memory:
                    for _ in range(8):
                        await enemy.write(flood)
                    await place.undisturbed()
                    assert memory.peak < enemy.sent  # a parser may collect what is there to read
                    assert memory.now < 512 * KIB
                # It may still change its mind.
                await enemy.say(event(1))
                assert (await enemy.answer(1))["data"] == 1
            assert place.records.texts == []

    serve(main)


def test_g19_parts_without_end_and_without_content(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, rate=0.0) as place:
            async with await place.open() as enemy:
                part = {"of": 1, "last": False, "part": ""}
                flood = frames(
                    *({"type": "gr:chunk", "data": {"i": i} | part} for i in range(MANY))
                )
                with place.memory() as memory:
                    await enemy.write(flood)
                    await eventually(lambda: place.app.counts.parts == MANY)
                    await place.undisturbed()
                    assert memory.now < 64 * KIB
                last = {"of": 1, "i": MANY, "last": True, "part": text(event(1)).decode()}
                await enemy.say({"type": "gr:chunk", "data": last})
                assert (await enemy.answer(1))["data"] == 1
            # The same below the protocol: a message in fragments without content.
            async with await place.open() as enemy:
                body = text(event(1))
                empty = ws_frame(b"", 0, fin=False)
                flood = ws_frame(body[:1], fin=False) + empty * MANY
                with place.memory() as memory:
                    await enemy.write(flood)
                    await place.undisturbed()
                    assert memory.now < 64 * KIB
                await enemy.write(ws_frame(body[1:], 0))
                assert (await enemy.answer(1))["data"] == 1
            # And of one byte each, up to the limit.
            async with await place.open() as enemy:
                body = text(event(1, "add", 1) | {"context": {"x": "y" * MANY}})
                flood = ws_frame(body[:1], fin=False)
                flood += b"".join(ws_frame(body[i : i + 1], 0, fin=False) for i in range(1, MANY))
                with place.memory() as memory:
                    await enemy.write(flood)
                    await place.undisturbed()
                    assert memory.now < 256 * KIB
                await enemy.write(ws_frame(body[MANY:], 0))
                assert (await enemy.answer(1))["data"] == 1

    serve(main)


# -- what handlers and the log are made to do ------------------------------------------------------


def test_g19_a_handler_that_fails_for_everybody(serve: Any, adapter: str) -> None:
    """A stranger can make a handler fail as often as he likes; the log says so a few times."""

    async def main() -> None:
        async with siege(adapter, rate=0.0, inflight=0, mailbox_messages=0) as place:
            async with await place.open() as enemy:
                count = 1_000
                await both(
                    enemy,
                    frames(*(event(n, "fail") for n in range(1, count + 1))),
                    b'"id":%d,' % count,
                )
                assert place.stats()["messages"]["failed"] == count
            texts = place.records.texts
            assert 0 < len(texts) <= 11, len(texts)
            assert place.app.log.calm.hushed >= count - 11
            assert place.records.nbytes < enemy.sent
            assert len(place.app.log) < 30
        assert any("more were not shown" in record.text for record in place.app.log)

    serve(main)


def test_g19_payloads_that_do_not_fit(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, rate=0.0, inflight=0, mailbox_messages=0) as place:
            async with await place.open() as enemy:
                flood = frames(*(event(n, "add", {"x": n}) for n in range(1, 3_001)))
                await both(enemy, flood, b'"id":3000,')
                assert enemy.taken < 6 * enemy.sent
            assert place.records.texts == []

    serve(main)


# -- what is done beside the turns ----------------------------------------------------------------


class Slow:
    """A public query that a worker answers, when the test allows it."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked = 0

    def declare(self, app: gr.App) -> None:
        @app.events.query("slow:sync", internal=False)
        def sync(data: Any) -> Any:
            self.asked += 1
            self.gate.wait()
            return data

        @app.events.query("slow:async", internal=False)
        async def on_loop(data: Any) -> Any:
            self.asked += 1
            await asyncio.Event().wait()

        @app.events.query("slow:session", internal=False)
        async def in_session(data: Any, session: gr.Session) -> Any:
            await asyncio.Event().wait()

        @app.events.event("slow:signal", internal=False)
        async def reaction(data: Any) -> None:
            await asyncio.Event().wait()


def ask(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"type": "gr:query", "id": number, "data": {"name": name, "data": number} | more}


def test_g19_questions_without_number(serve: Any, adapter: str) -> None:
    async def main() -> None:
        slow = Slow()
        options: dict[str, Any] = {"inflight": 32, "rate": 0.0, "query_timeout": 60.0}
        async with siege(adapter, prepare=slow.declare, **options) as place:
            try:
                for name in ("slow:async", "slow:session", "slow:sync"):
                    async with await place.open() as enemy:
                        tasks = place.stats()["tasks"]
                        flood = [ask(n, name) for n in range(1, 1_001)]
                        await both(enemy, frames(*flood), b'"id":1000,')
                        assert place.stats()["tasks"] - tasks <= 2 * 32, name
                        link = place.link(enemy)
                        assert link.open_ids == 32, name
                        assert enemy.taken < 4 * enemy.sent
                        await place.undisturbed()
                        await enemy.say({"type": "gr:cancel", "id": 1001, "data": {"id": 1}})
                        assert (await enemy.answer(1001))["data"] is True
                # Of those that a worker has, a time-out or a cancel does not make room for more.
                async with await place.open() as enemy:
                    flood = [ask(n, "slow:sync", timeout=0.001) for n in range(1, 32)]
                    await enemy.say(*flood, ask(32, "slow:sync"))
                    await eventually(lambda: place.link(enemy).open_ids == 1)
                    await enemy.say({"type": "gr:cancel", "id": 33, "data": {"id": 32}})
                    await eventually(lambda: place.link(enemy).open_ids == 0)
                    await enemy.say(ask(34, "slow:sync"))
                    assert (await enemy.answer(34))["data"]["code"] == "busy"
                    slow.gate.set()
                    links = place.app.sessions[enemy.welcome["session"]]._links
                    assert links is not None
                    beside = links.beside
                    await eventually(lambda: beside.count == 0 and beside.nbytes == 0)
                    await enemy.say(ask(35, "slow:sync"))
                    assert (await enemy.answer(35))["data"] == 35
                assert place.records.texts == []
            finally:
                slow.gate.set()

    serve(main)


def test_g19_large_questions(serve: Any, adapter: str) -> None:
    async def main() -> None:
        slow = Slow()
        options: dict[str, Any] = {"mailbox_bytes": 256 * KIB, "query_timeout": 60.0}
        async with siege(adapter, prepare=slow.declare, **options) as place:
            enemy = await place.open()
            async with enemy:
                large = [
                    ask(n, "slow:async") | {"context": {"x": "y" * 100 * KIB}} for n in range(1, 6)
                ]
                await both(enemy, frames(*large), b'"id":3,', b'"id":5,')
                assert place.link(enemy).open_ids == 2
                await place.undisturbed()

    serve(main)


def test_g19_subscriptions_cancels_answers_and_refreshes(serve: Any, adapter: str) -> None:
    async def main() -> None:
        slow = Slow()
        async with siege(adapter, prepare=slow.declare, rate=0.0) as place:
            floods: dict[str, dict[str, Any]] = {
                "gr:subscribe": {"name": "slow:signal"},
                "gr:unsubscribe": {"name": "slow:signal"},
                "gr:cancel": {"id": 10**15},
                "gr:answer": {"call": 10**15, "value": True},
                "gr:refresh": {},
                "gr:upload": {"name": "x", "size": 10**15},
            }
            for kind, data in floods.items():
                async with await place.open() as enemy:
                    flood = [{"type": kind, "id": n, "data": data} for n in range(1, 2_001)]
                    await both(enemy, frames(*flood), b'"id":2000,')
                    assert enemy.taken < 8 * enemy.sent, kind
                    assert place.link(enemy).open_ids == 0
                    await enemy.say({"type": "gr:bye"})
                await place.undisturbed()
            channel = place.app.events._channels["slow:signal"]
            await eventually(lambda: not channel.links)
            assert place.records.texts == []

    serve(main)


# -- coming and going ------------------------------------------------------------------------------


def test_g19_thousands_of_hellos(serve: Any, adapter: str) -> None:
    """One stranger opens a hundred sessions a minute and no more; unused ones are gone soon."""

    async def main() -> None:
        clock = ManualClock(960.0)  # a minute begins
        async with siege(adapter, clock=clock, max_sessions_per_peer=20) as place:
            opened = place.stats()["sessions_opened"]

            async def knock(number: int) -> str | None:
                async with await place.upgrade(headers=PEER) as enemy:
                    await enemy.say(hello())
                    frame = await enemy.frame()
                    if frame["type"] == "gr:welcome":
                        return None
                    assert (frame["type"], frame["data"]["retry"]) == ("gr:close", "fresh")
                    assert frame["data"]["after"] > 0
                    return str(frame["data"]["code"])

            told = [await knock(n) for n in range(200)]
            assert told == [None] * 20 + ["busy"] * 180
            assert place.stats()["sessions_opened"] - opened == 20
            await place.undisturbed()
            await eventually(lambda: place.stats()["connections"] == 1)
            await place.wait(clock, 30.0)  # unused_ttl
            await eventually(lambda: place.stats()["sessions"] == 1)
            assert await knock(0) == "busy"
            await place.wait(clock, 60.0)
            assert await knock(0) is None
            # Many hellos on one connection are many resumes of one link.
            async with await place.open(headers=PEER) as enemy:
                link = enemy.welcome["link"]
                again = hello(token=enemy.welcome["token"], link=link, seq=0)
                for _ in range(200):
                    await enemy.say(again)
                    assert (await enemy.until("gr:welcome"))["data"]["link"] == link
                session = place.app.sessions[enemy.welcome["session"]]
                assert len(session.links) == 1
            assert place.records.texts == []

    serve(main)


def test_g19_thousands_of_views(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, max_links=4) as place:
            async with await place.open() as enemy:
                token = enemy.welcome["token"]
                session = place.app.sessions[enemy.welcome["session"]]
                for _ in range(100):  # comes and goes: the oldest without a connection gives way
                    async with await place.open(hello(token=token)):
                        assert len(session.links) <= 4
                crowd = [await place.open(hello(token=token)) for _ in range(3)]
                async with await place.upgrade() as fifth:
                    await fifth.say(hello(token=token))
                    assert (await fifth.ended()).why == "busy"
                for other in crowd:
                    other.cut()
                await enemy.say(event(1))
                assert (await enemy.answer(1))["data"] == 1
                # Whoever takes over a link closes the connection before it, however often.
                last = enemy
                for _ in range(50):
                    again = hello(token=token, link=enemy.welcome["link"])
                    following = await place.open(again)
                    ended = await last.ended()
                    assert (ended.why, ended.code) == ("replaced", 4002)
                    last.cut()
                    last = following
                last.cut()
            assert place.records.texts == []

    serve(main)


def test_g19_more_connections_than_there_may_be(serve: Any, adapter: str) -> None:
    async def main() -> None:
        async with siege(adapter, max_connections=10) as place:
            crowd = [await place.upgrade() for _ in range(9)]
            refused = place.stats()["connections_refused"]
            for _ in range(50):
                async with await place.dial() as enemy:
                    await enemy.write(handshake(place.port))
                    head = await enemy.head()
                    assert head.startswith(b"HTTP/1.1 503"), head
                    assert b"retry-after" in head.lower()
            assert place.stats()["connections_refused"] - refused == 50
            await place.undisturbed()
            for other in crowd:
                other.cut()
            await eventually(lambda: place.stats()["connections"] == 1)
            assert place.records.texts == []

    serve(main)
