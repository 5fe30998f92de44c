"""How many may come in, how fast, and how long somebody may stand at the door and say nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.core.heard import steps
from tests.core.visitor import Visitor, verdict

from greenroom import App, Busy, Settings
from greenroom.testing import ManualClock


def test_the_first_frame_is_a_hello_and_small(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            for raw in (b"nonsense", b'{"type":"add","id":1}', b"[1]", b'{"type":"gr:hello"}'):
                visitor = Visitor(app)
                visitor.line.send(raw)
                assert verdict(await visitor.next())[0] == "bad_frame", raw
            visitor = Visitor(app)
            close = await visitor.hello(more="x" * 9000)
            assert verdict(close)[0] in ("bad_frame", "too_large")
            close = await Visitor(app).hello(protocol=2)
            assert verdict(close) == ("version", "never")
            assert close["data"]["supported"] == [1]
            assert not app.sessions

    arun(story)


def test_who_says_nothing_is_closed_in_time(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(hello_timeout=10))
        asked = asyncio.Event()

        @app.session_verifier
        async def check() -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

        async with app:
            silent, slow = Visitor(app), Visitor(app)
            slow.raw(type="gr:hello", data={"protocol": 1})
            await asked.wait()
            clock.advance(9.9)
            assert app.stats()["connections"] == 2
            clock.advance(0.2)
            assert verdict(await silent.next())[0] == "bad_frame"
            close = await slow.next()  # not its fault
            assert (*verdict(close), close["data"]["after"]) == ("busy", "resume", 1.0)
            await steps()
            stats = app.stats()
            assert (stats["connections"], stats["tasks"]) == (0, 0)
            assert stats["closes"] == {"bad_frame": 1, "busy": 1}
            assert stats["hellos"]["abandoned"] == 1

        async with App(clock=clock, settings=Settings(hello_timeout=0)) as app:
            patient = Visitor(app)
            clock.advance(1000)
            assert (await patient.hello())["type"] == "gr:welcome"
            patient.line.close()

    arun(story)


def test_connections_are_capped(arun: Any) -> None:
    async def story() -> None:
        async with App(settings=Settings(max_connections=2)) as app:
            one, two = Visitor(app), await Visitor(app).open()
            with pytest.raises(Busy, match="max_connections") as caught:
                Visitor(app)
            assert caught.value.retry_after > 0
            one.line.cut()
            three = await Visitor(app).open()
            stats = app.stats()
            assert (stats["connections_opened"], stats["connections_refused"]) == (3, 1)
            for visitor in (two, three):
                visitor.line.close()

    arun(story)


def test_sessions_are_capped(arun: Any) -> None:
    async def story() -> None:
        async with App(settings=Settings(max_sessions=1)) as app:
            visitor = await Visitor(app).open()
            close = await Visitor(app).hello()
            assert verdict(close) == ("busy", "fresh")
            assert close["data"]["after"] > 0
            again = await Visitor(app).open(token=visitor.welcome["token"])  # no new session
            with pytest.raises(Busy, match="max_sessions"):
                app.open_session()
            visitor.session.close()
            await visitor.until("gr:close")
            app.open_session()
            again.line.close()

    arun(story)


def test_newcomers_from_one_address_are_capped_by_the_minute(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock(start=6_000.0)
        async with App(clock=clock, settings=Settings(max_sessions_per_peer=2)) as app:
            for _ in range(2):
                first = await Visitor(app, peer="203.0.113.5").open()
            close = await Visitor(app, peer="203.0.113.5").hello()
            assert verdict(close) == ("busy", "fresh")
            token = first.welcome["token"]
            for peer, fields in (
                ("203.0.113.6", {}),
                ("127.0.0.1", {}), ("127.0.0.1", {}), ("127.0.0.1", {}), ("::1", {}),
                (None, {}),
                ("203.0.113.5", {"token": token}),  # no new session
            ):  # fmt: skip
                await Visitor(app, peer=peer).open(**fields)
            clock.advance(60)
            await Visitor(app, peer="203.0.113.5").open()

    arun(story)


def test_who_asks_and_is_refused_counts_as_a_newcomer_too(arun: Any) -> None:
    """So nobody can try a verifier's patience a thousand times a minute."""

    async def story() -> None:
        clock = ManualClock(start=6_000.0)
        app = App(clock=clock, settings=Settings(max_sessions_per_peer=3))
        asked: list[int] = []

        @app.session_verifier
        def check() -> bool:
            asked.append(1)
            return False

        async with app:
            closes = [
                verdict(await Visitor(app, peer=f"2001:db8::{n}").hello()) for n in range(1, 6)
            ]
            assert closes == [("unauthorized", "never")] * 3 + [("busy", "fresh")] * 2
            assert (len(asked), app.reception.refused.total()) == (3, 5)

    arun(story)


def test_nobody_is_asked_and_no_state_is_made_when_there_is_no_room(arun: Any) -> None:
    async def story() -> None:
        made: list[int] = []

        def fresh() -> dict[str, int]:
            made.append(1)
            return {}

        def check() -> bool:
            made.append(2)
            return True

        app = App(state=fresh, settings=Settings(max_sessions=1))
        app.session_verifier(check)
        async with app:
            await Visitor(app).open()
            assert verdict(await Visitor(app).hello()) == ("busy", "fresh")
            with pytest.raises(Busy):
                app.open_session()
            assert made == [2, 1]
            assert app.reception.refused.total() == 1

    arun(story)


def test_connections_that_say_nothing_are_capped_for_each_address(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = Settings(max_waiting_per_peer=2, hello_timeout=10)
        async with App(clock=clock, settings=settings) as app:
            mute = [Visitor(app, peer="203.0.113.5") for _ in range(2)]
            with pytest.raises(Busy, match="this address"):
                Visitor(app, peer="203.0.113.5")
            assert app.stats()["connections_refused"] == 1
            await Visitor(app, peer="203.0.113.6").open()
            for _ in range(5):  # where nobody knows the peer, nobody is counted
                Visitor(app, peer="127.0.0.1")
                Visitor(app)
            await mute[0].open()  # a welcome makes room
            third = Visitor(app, peer="203.0.113.5")
            with pytest.raises(Busy):
                Visitor(app, peer="203.0.113.5")
            third.line.cut()  # and so does an end
            Visitor(app, peer="203.0.113.5")
            clock.advance(11)  # and so does time
            await Visitor(app, peer="203.0.113.5").open()
            await Visitor(app, peer="203.0.113.5").open()
            assert len(app.reception.peers) == 0

    arun(story)


def test_hellos_that_are_being_answered_are_capped(arun: Any) -> None:
    async def story() -> None:
        app = App(settings=Settings(max_hellos=2))
        go = asyncio.Event()

        @app.session_verifier
        async def check() -> bool:
            await go.wait()
            return True

        async with app:
            waiting = [Visitor(app) for _ in range(2)]
            for visitor in waiting:
                visitor.raw(type="gr:hello", data={"protocol": 1})
            close = await Visitor(app).hello()
            assert verdict(close) == ("busy", "resume")  # nobody loses a session by it
            assert 2.5 <= close["data"]["after"] <= 7.5
            assert app.reception.refused.total() == 1
            waiting[0].line.cut()
            await steps()
            third = Visitor(app)
            third.raw(type="gr:hello", data={"protocol": 1})
            go.set()
            for visitor in (waiting[1], third):
                assert (await visitor.next())["type"] == "gr:welcome"

    arun(story)


def test_a_further_hello_is_answered_in_time_too(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(hello_timeout=10, ping=0))
        slow: list[int] = []

        @app.session_verifier
        async def check() -> bool:
            if slow:
                await asyncio.Event().wait()
            return True

        async with app:
            visitor = await Visitor(app).open()
            clock.advance(60)
            slow.append(1)
            visitor.raw(type="gr:hello", data={"protocol": 1, **visitor.back()})
            await steps()
            clock.advance(9)
            assert app.stats()["connections"] == 1
            clock.advance(2)
            assert verdict(await visitor.until("gr:close")) == ("busy", "resume")
            await steps()
            assert (app.stats()["connections"], app.stats()["tasks"]) == (0, 0)
            slow.clear()
            back = Visitor(app)
            await back.hello(**visitor.back())
            assert back.welcome["resumed"]

    arun(story)


def test_who_was_refused_a_state_is_not_let_in(arun: Any) -> None:
    async def story() -> None:
        def fail() -> dict[str, Any]:
            raise RuntimeError("the secret of the house")

        async with App(state=fail) as app:
            close = await Visitor(app).hello()
            assert verdict(close) == ("unauthorized", "never")
            assert "secret" not in close["data"]["message"]
            assert "secret" in "".join(str(r.traceback) for r in app.log)
            assert not app.sessions

    arun(story)
