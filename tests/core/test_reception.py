"""Who may come in: tokens, verifiers, and what happens while somebody waits at the door.

How many may come in is in `test_reception_limits.py`.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.core.heard import steps
from tests.core.visitor import Visitor, verdict

from greenroom import App, BadHandler, Closed, Settings
from greenroom.testing import ManualClock

# -- tokens ---------------------------------------------------------------------------------------


def test_no_token_is_a_new_session_and_a_token_a_further_view(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 1}) as app:
            one, two = await Visitor(app).open(), await Visitor(app).open()
            assert one.welcome["session"] != two.welcome["session"]
            again = await Visitor(app).open(token=one.welcome["token"])
            assert again.welcome["session"] == one.welcome["session"]
            assert again.welcome["link"] != one.welcome["link"]
            assert len(app.sessions) == 2
            assert app.stats()["links"] == 3
            for visitor in (one, two, again):
                visitor.line.close()

    arun(story)


def test_a_session_id_alone_opens_nothing(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            one = await Visitor(app).open()
            close = await Visitor(app).hello(token=one.welcome["session"])
            assert verdict(close) == ("unauthorized", "fresh")
            link = Visitor(app)  # a link's id alone is no way in either
            await link.open(link=one.welcome["link"])
            assert link.welcome["session"] != one.welcome["session"]
            one.line.close()
            link.line.close()

    arun(story)


def test_bad_tokens_open_nothing(arun: Any) -> None:
    async def story() -> None:
        now = [1_000_000.0]
        async with App(settings=Settings(token_ttl=60)) as app, App() as other:
            app.reception.wall = lambda: now[0]
            mine = await Visitor(app, binding="cookie").open()
            foreign = await Visitor(other).open()
            token: str = mine.welcome["token"]
            sessions = len(app.sessions)
            for bad, binding in (
                (token[:-3] + "abc", "cookie"),  # forged
                ("x" * 5000, "cookie"),
                ("", "cookie"),
                (foreign.welcome["token"], "cookie"),  # signed by another app
                (token, "another browser's"),
                (token, None),
            ):
                close = await Visitor(app, binding=binding).hello(token=bad)
                assert verdict(close) == ("unauthorized", "fresh"), bad
                assert token[:20] not in close["data"]["message"]
            now[0] += 59
            await Visitor(app, binding="cookie").open(token=token)
            now[0] += 1
            close = await Visitor(app, binding="cookie").hello(token=token)
            assert verdict(close) == ("unauthorized", "fresh")
            assert len(app.sessions) == sessions
            assert app.reception.refused.total() == 7
            foreign.line.close()

    arun(story)


def test_the_token_of_a_session_that_is_gone_is_refused(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            visitor = await Visitor(app).open()
            visitor.session.close()
            close = await Visitor(app).hello(token=visitor.welcome["token"])
            assert verdict(close) == ("unauthorized", "fresh")

    arun(story)


def test_a_refreshed_token_is_as_good_and_lives_longer(arun: Any) -> None:
    async def story() -> None:
        now = [1_000_000.0]
        async with App(settings=Settings(token_ttl=60)) as app:
            app.reception.wall = lambda: now[0]
            visitor = await Visitor(app, binding="cookie").open()
            now[0] += 50
            fresh = await visitor.call("gr:refresh")
            assert fresh["expires"] == now[0] + 60
            now[0] += 50  # expiry is looked at in hello only
            assert await visitor.call("gr:cancel", {"id": 77}) is False
            again = await Visitor(app, binding="cookie").open(token=fresh["token"])
            assert again.welcome["session"] == visitor.welcome["session"]
            assert verdict(await Visitor(app).hello(token=fresh["token"]))[0] == "unauthorized"
            visitor.line.close()
            again.line.close()

    arun(story)


def test_a_second_hello_resumes_and_never_changes_the_session(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}) as app:
            one, two = await Visitor(app).open(), await Visitor(app).open()
            await one.hello(**one.back())
            assert (one.welcome["resumed"], app.stats()["links"]) == (True, 2)
            assert verdict(await one.hello(token=two.welcome["token"])) == ("unauthorized", "fresh")
            assert one.line.over or await_end(one)
            two.line.close()

    def await_end(visitor: Visitor) -> bool:
        return visitor.line.connection is not None and visitor.line.connection.closed

    arun(story)


@pytest.mark.parametrize("fields", [{}, {"link": "unknown"}], ids=["bare", "unknown link"])
def test_a_second_hello_for_another_link_leaves_no_ghost(arun: Any, fields: dict[str, Any]) -> None:
    """The connection carries one link; the one it carried before waits like any that was cut."""

    async def story() -> None:
        clock = ManualClock()
        settings = Settings(window=20, session_ttl=100, unused_ttl=50)
        async with App(clock=clock, settings=settings) as app:
            visitor = await Visitor(app).open()
            if fields:
                fields["token"] = visitor.welcome["token"]
            answer = await visitor.hello(**fields)
            if answer["type"] == "gr:welcome":
                await visitor.until("gr:snapshot")
            visitor.line.cut()
            assert app.stats()["connections"] == 0
            for _ in range(30):
                clock.advance(10)
                await steps(1)
            assert not app.sessions
            assert app.stats()["links"] == 0

    arun(story)


# -- revoked tokens -------------------------------------------------------------------------------


def test_revoked_tokens_open_nothing_and_later_ones_do(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 1}) as app:
            one, other = await Visitor(app).open(), await Visitor(app).open()
            old = await one.call("gr:refresh")
            session = one.session
            await asyncio.to_thread(session.revoke_tokens)  # from any thread
            for token in (one.welcome["token"], old["token"]):
                for link in (None, one.welcome["link"]):
                    close = await Visitor(app).hello(token=token, link=link)
                    assert verdict(close) == ("unauthorized", "fresh")
                    assert "revoked" in close["data"]["message"]
            # What is connected stays, and gets nothing to come back with.
            assert await one.call("gr:cancel", {"id": 77}) is False
            assert (await one.call("gr:refresh"))["code"] == "unauthorized"
            assert await one.call("gr:cancel", {"id": 77}) is False
            # A token that the app itself makes afterwards is good, and so is another session's.
            token, _ = app.reception.make_token(session, None)
            again = await Visitor(app).open(token=token)
            assert again.welcome["session"] == session.id
            assert (await again.call("gr:refresh"))["expires"]
            await Visitor(app).open(token=other.welcome["token"])

    arun(story)


def test_revoking_with_close_ends_what_is_connected(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"count": 1})

        async def log_out_everywhere(session: Any) -> str:
            session.revoke_tokens(close=True)
            return "out"

        app.handlers.add(log_out_everywhere)
        async with app:
            one = await Visitor(app).open()
            two = await Visitor(app).open(token=one.welcome["token"])
            other = await Visitor(app).open()
            one.send("log_out_everywhere")
            for visitor in (one, two):
                assert verdict(await visitor.until("gr:close")) == ("unauthorized", "fresh")
            assert (await Visitor(app).hello(**two.back()))["type"] == "gr:close"
            assert await other.call("gr:cancel", {"id": 77}) is False
            assert len(app.sessions) == 2  # the session lives on: its server may still need it
            app.revoke_tokens(close=True)
            assert verdict(await other.until("gr:close")) == ("unauthorized", "fresh")

    arun(story)


def test_a_token_that_is_revoked_while_the_verifier_thinks_opens_nothing(arun: Any) -> None:
    async def story() -> None:
        app = App()
        asked, go = asyncio.Event(), asyncio.Event()

        @app.session_verifier
        async def check(session: Any) -> bool:
            if session is not None:
                asked.set()
                await go.wait()
            return True

        async with app:
            visitor = await Visitor(app).open()
            hello = asyncio.ensure_future(Visitor(app).hello(token=visitor.welcome["token"]))
            await asked.wait()
            visitor.session.revoke_tokens()
            go.set()
            assert verdict(await hello) == ("unauthorized", "fresh")
            assert app.stats()["links"] == 1

    arun(story)


# -- verifiers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_verifier_sees_the_request_and_gives_the_userinfo(arun: Any, kind: str) -> None:
    async def story() -> None:
        seen: list[Any] = []
        app = App(state={"count": 0})

        def check(cookies: Any, headers: Any, session: Any) -> Any:
            seen.append((dict(cookies), dict(headers), session))
            return {"name": headers["x-name"]} if session is None else True

        async def check_later(headers: Any, session: Any, cookies: Any) -> Any:
            await asyncio.sleep(0)
            return check(cookies, headers, session)

        app.session_verifier(check if kind == "sync" else check_later)
        async with app:
            facts: dict[str, Any] = {
                "headers": {"x-name": "Ada"}, "cookies": {"a": "1"}, "userinfo": {"from": "host"},
            }  # fmt: skip
            visitor = await Visitor(app, **facts).open()
            assert visitor.session.userinfo == {"from": "host", "name": "Ada"}
            assert visitor.session.headers == {"x-name": "Ada"}
            await Visitor(app, **facts).open(token=visitor.welcome["token"])
            assert [row[2] for row in seen] == [None, visitor.session]
            assert seen[0][:2] == ({"a": "1"}, {"x-name": "Ada"})
            assert visitor.session.userinfo["name"] == "Ada"

    arun(story)


@pytest.mark.parametrize("answer", [False, None, 1, "yes", [], RuntimeError("no")])
def test_only_true_and_a_dict_are_a_yes(arun: Any, answer: Any) -> None:
    async def story() -> None:
        app = App()

        @app.session_verifier
        def check() -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with app:
            visitor = Visitor(app)
            assert verdict(await visitor.hello()) == ("unauthorized", "never")
            assert (len(app.sessions), app.stats()["sessions_opened"]) == (0, 0)
            assert app.reception.refused.total() == 1
            if isinstance(answer, Exception):
                assert "the session verifier" in "".join(r.text for r in app.log)

    arun(story)


def test_all_verifiers_must_agree_and_a_later_no_leaves_the_session_alone(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"count": 0})
        allowed = {"first": True, "second": True}
        app.session_verifier(lambda cookies: allowed["first"])
        app.session_verifier(lambda headers: allowed["second"])
        async with app:
            visitor = await Visitor(app).open()
            allowed["second"] = False
            assert verdict(await Visitor(app).hello()) == ("unauthorized", "never")
            close = await Visitor(app).hello(token=visitor.welcome["token"])
            assert verdict(close) == ("unauthorized", "fresh")
            assert tuple(app.sessions) == (visitor.welcome["session"],)
            assert visitor.session.userinfo == {}
            visitor.line.close()

    arun(story)


def test_a_verifier_is_asked_at_a_resume_too_and_its_no_leaves_the_link_waiting(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"count": 0})
        says: list[Any] = [{"name": "Ada", "admin": True}]
        app.session_verifier(lambda: says[-1])
        async with app:
            visitor = await Visitor(app).open()
            session = visitor.session
            visitor.line.cut()
            says.append(False)
            assert verdict(await Visitor(app).hello(**visitor.back())) == ("unauthorized", "fresh")
            assert session.userinfo == {"name": "Ada", "admin": True}
            says.append({"admin": False})  # what it leaves out stays
            back = Visitor(app)
            await back.hello(**visitor.back())
            assert back.welcome["resumed"]
            assert session.userinfo == {"name": "Ada", "admin": False}
            says.append(False)  # on an open connection too
            assert verdict(await back.hello(**visitor.back())) == ("unauthorized", "fresh")
            assert app.stats()["connections"] == 0

    arun(story)


def test_plain_verifiers_and_factories_run_on_threads_and_coroutines_on_the_loop(arun: Any) -> None:
    async def story() -> None:
        here = threading.current_thread()
        ran: dict[str, threading.Thread] = {}

        def fresh() -> dict[str, int]:
            ran["factory"] = threading.current_thread()
            return {"count": 3}

        app = App(state=fresh)

        @app.session_verifier
        def check() -> bool:
            ran["plain"] = threading.current_thread()
            return True

        @app.session_verifier
        async def check_later() -> bool:
            ran["async"] = threading.current_thread()
            return True

        async with app:
            visitor = await Visitor(app).open()
            assert visitor.session.state["count"] == 3
            assert ran.pop("async") is here
            assert {thread.name.rpartition("-")[0] for thread in ran.values()} == {"greenroom"}
            ran.clear()
            assert (await asyncio.to_thread(app.open_session)).state["count"] == 3
            assert ran["factory"] is not here
            app.open_session()  # on the loop it cannot wait
            assert ran["factory"] is here

    arun(story)


def test_without_verifier_and_factory_a_hello_is_answered_at_once(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}) as app:
            visitor = Visitor(app)
            visitor.raw(type="gr:hello", data={"protocol": 1})
            await steps(1)  # the wire of the memory transport
            assert len(app.sessions) == 1

    arun(story)


def test_plain_verifiers_leave_half_of_the_threads_to_those_who_are_in(arun: Any) -> None:
    async def story() -> None:
        settings = Settings(workers=4, workers_max=4, watchdog=0)
        app = App(settings=settings)
        inside, go = threading.Semaphore(0), threading.Event()
        asked: list[int] = []

        @app.session_verifier
        def check(headers: Any) -> bool:
            if "slow" in headers:
                asked.append(1)
                inside.release()
                go.wait()
            return True

        def add(payload: int) -> int:
            return payload + 1

        app.handlers.add(add)
        async with app:
            guest = await Visitor(app).open()
            crowd = [Visitor(app, headers={"slow": "1"}) for _ in range(6)]
            for each in crowd:
                each.raw(type="gr:hello", data={"protocol": 1})
            for _ in range(2):
                await asyncio.to_thread(inside.acquire)
            for each in crowd[:2]:
                each.line.cut()  # who leaves does not give a thread back that is still taken
            assert await guest.call("add", 1) == 2
            assert len(asked) == 2
            go.set()
            for each in crowd[2:]:
                assert (await each.next())["type"] == "gr:welcome"
            assert len(asked) == 6
            assert len(app.sessions) == 5

    arun(story)


def test_a_function_that_cannot_be_a_verifier_is_named_when_it_is_registered() -> None:
    app = App()
    with pytest.raises(BadHandler, match=r"session verifier .*payload"):
        app.session_verifier(lambda payload: True)


def test_no_session_exists_before_the_yes(arun: Any) -> None:
    async def story() -> None:
        app = App()
        asked, answer = asyncio.Event(), asyncio.Event()
        opened: list[Any] = []
        app.on_open(lambda session: opened.append(session.id))

        @app.session_verifier
        async def check() -> bool:
            asked.set()
            await answer.wait()
            return True

        async with app:
            visitor = Visitor(app)
            hello = asyncio.ensure_future(visitor.hello())
            await asked.wait()
            assert (len(app.sessions), opened) == (0, [])
            answer.set()
            assert (await hello)["type"] == "gr:welcome"
            assert len(app.sessions) == 1
            visitor.line.close()

    arun(story)


def test_a_transport_that_goes_while_a_verifier_thinks_leaves_nothing(arun: Any) -> None:
    async def story() -> None:
        app = App()
        asked, ended = asyncio.Event(), asyncio.Event()

        @app.session_verifier
        async def check() -> bool:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return True

        async with app:
            visitor = Visitor(app)
            visitor.raw(type="gr:hello", data={"protocol": 1})
            await asked.wait()
            visitor.line.cut()
            await ended.wait()
            await steps()
            stats = app.stats()
            assert (stats["sessions"], stats["connections"], stats["tasks"]) == (0, 0, 0)

    arun(story)


def test_a_client_that_left_before_its_state_was_made_gets_no_session(arun: Any) -> None:
    async def story() -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def fresh() -> dict[str, int]:
            asked.set()
            try:
                await go.wait()
            except asyncio.CancelledError:
                await go.wait()  # it takes its time
            return {"count": 0}

        async with App(state=fresh) as app:
            visitor = Visitor(app)
            visitor.raw(type="gr:hello", data={"protocol": 1})
            await asked.wait()
            visitor.line.cut()
            await steps()
            go.set()
            await steps(10)
            assert not app.sessions

    arun(story)


def test_nothing_may_come_between_hello_and_welcome(arun: Any) -> None:
    async def story() -> None:
        app = App()
        app.session_verifier(asyncio.Event().wait)
        async with app:
            visitor = Visitor(app)
            visitor.raw(type="gr:hello", data={"protocol": 1})
            visitor.raw(type="add", id=1)
            assert verdict(await visitor.next())[0] == "bad_frame"
            await steps()
            assert app.stats()["tasks"] == 0

    arun(story)


# -- the end --------------------------------------------------------------------------------------


def test_clients_are_told_when_to_come_back_and_nobody_new_is_let_in(arun: Any) -> None:
    async def story() -> None:
        app = App()
        asked = asyncio.Event()

        @app.session_verifier
        async def check(headers: Any) -> bool:
            if "slow" in headers:
                asked.set()
                await asyncio.Event().wait()
            return True

        await app.start()
        visitor, waiting = await Visitor(app).open(), Visitor(app, headers={"slow": "1"})
        waiting.raw(type="gr:hello", data={"protocol": 1})
        mute = Visitor(app)
        await asked.wait()
        await app.stop(drain=4.0)
        for each in (visitor, waiting, mute):
            close = await each.until("gr:close")
            assert verdict(close) == ("draining", "fresh")
            assert 0 <= close["data"]["after"] <= 4.0
        with pytest.raises(Closed):
            Visitor(app)
        stats = app.stats()
        assert (stats["connections"], stats["sessions"], stats["tasks"]) == (0, 0, 0)

    arun(story)
