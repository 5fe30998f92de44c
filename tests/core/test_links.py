"""The links of a session: who comes back, who is told, and what a view is asked."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.core.visitor import Visitor

from greenroom import App, Settings, WouldBlock
from greenroom.testing import ManualClock


def add(state: Any, payload: int = 1) -> int:
    state["count"] += payload
    result: int = state["count"]
    return result


async def steps(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def leave(*visitors: Visitor) -> None:
    for visitor in visitors:
        visitor.line.close()


# -- coming back ----------------------------------------------------------------------------------


def test_a_client_that_was_cut_gets_what_it_missed(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            first = await Visitor(app).open()
            assert await first.call("add", 1) == 1
            session = first.session
            first.line.cut()
            assert (session.labels, len(session.links)) == ((), 1)
            await session.ask("add", 5)
            session.emit("app:news", "while you were away")
            again = Visitor(app)
            await again.hello(**first.back())
            assert again.welcome["resumed"] is True
            assert again.welcome["link"] == first.welcome["link"]
            assert again.welcome["ack"] == first.sent
            assert (await again.next())["data"] == {"=": {"/count": 6}}
            assert (await again.next())["data"] == "while you were away"
            assert session.labels == ("main",)
            leave(again)

    arun(story)


def test_what_was_sent_and_lost_is_sent_again_unchanged(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            first = await Visitor(app).open()
            before = first.back()
            await first.call("add", 1)
            lost = first.frames[-2:]
            first.line.cut()
            await app.sessions[first.welcome["session"]].ask("add", 1)
            again = Visitor(app)
            await again.hello(**before)
            assert [await again.next(), await again.next()] == lost
            assert (await again.next())["data"] == {"=": {"/count": 2}}
            leave(again)

    arun(story)


def test_a_resume_takes_the_link_from_an_earlier_connection(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            first = await Visitor(app).open()
            number = first.sent + 1
            second = Visitor(app)
            await second.hello(**first.back())
            close = await first.until("gr:close")
            assert (close["data"]["code"], close["data"]["retry"]) == ("replaced", "never")
            first.raw(type="add", id=number)  # too late
            second.sent = second.welcome["ack"]
            assert await second.call("add") == 1
            assert app.stats()["connections"] == 1
            leave(second)

    arun(story)


def test_a_hello_that_was_overtaken_does_not_take_the_link_back(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"count": 0}, handlers=[add])
        hold = asyncio.Event()
        asked = asyncio.Event()

        @app.session_verifier
        async def check(headers: Any) -> bool:
            if "slow" in headers:
                asked.set()
                await hold.wait()
            return True

        async with app:
            first = await Visitor(app).open()
            back = first.back()
            first.line.cut()
            slow, quick = Visitor(app, headers={"slow": "1"}), Visitor(app)
            late = asyncio.ensure_future(slow.hello(**back))
            await asked.wait()
            await quick.hello(**back)
            hold.set()
            assert (await late)["data"]["code"] == "replaced"
            assert await quick.call("add") == 1
            leave(quick)

    arun(story)


def test_a_snapshot_that_met_a_workers_patch_does_not_wait_for_the_next_event(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            one = await Visitor(app).open()
            for count in range(1, 61):  # the worker may still be on its way out of the turn
                await one.call("add")
                two = Visitor(app)
                await two.hello(token=one.welcome["token"])
                async with asyncio.timeout(5):
                    assert (await two.next())["data"] == {"count": count}
                leave(two)
            leave(one)

    arun(story)


def test_views_of_one_session_see_one_state(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            one = await Visitor(app).open()
            await one.call("add", 3)
            two = Visitor(app)
            await two.hello(token=one.welcome["token"], label="side")
            assert (await two.next())["data"] == {"count": 3}
            assert one.session.labels == ("main", "side")
            await one.call("add", 2)
            assert (await two.until("gr:state"))["data"] == {"=": {"/count": 5}}
            assert "gr:result" not in [frame["type"] for frame in two.frames]
            leave(one, two)

    arun(story)


def test_emits_go_to_all_views_or_to_those_of_a_label(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            main = await Visitor(app).open()
            token = main.welcome["token"]
            sides = [await Visitor(app).open(token=token, label="side") for _ in range(2)]
            session = main.session
            session.emit("app:all", 1)
            session.emit("app:side", 2, label="side")
            session.emit("app:none", 3, label="nobody")
            session.emit("app:end", 4)
            for visitor, expected in ((main, 2), (sides[0], 3), (sides[1], 3)):
                await visitor.until("app:end")
                events = [f for f in visitor.frames if f["type"].startswith("app:")]
                assert len(events) == expected
                assert {f["label"] for f in events} == {visitor.session.links[
                    visitor.welcome["link"]
                ].label}  # fmt: skip
            assert "app:side" not in [frame["type"] for frame in main.frames]
            leave(main, *sides)

    arun(story)


def test_callbacks_may_ask_for_a_label_before_the_view_exists(arun: Any) -> None:
    async def story() -> None:
        heard: list[tuple[str, str]] = []
        app = App()
        app.on("chart:click", lambda data, event_type, label: heard.append((data, label)),
               label="side")  # fmt: skip
        async with app:
            main = await Visitor(app).open()
            side = await Visitor(app).open(token=main.welcome["token"], label="side")
            assert (await main.call("chart:click", "a"))["code"] == "not_found"
            assert await side.call("chart:click", "b") is None
            assert heard == [("b", "side")]
            leave(main, side)

    arun(story)


# -- views ----------------------------------------------------------------------------------------


class Views:
    """What view:opened and view:closed said."""

    def __init__(self, app: App) -> None:
        self.seen: list[tuple[str, str]] = []
        for event in ("opened", "closed"):
            app.on(f"view:{event}", self.note)

    def note(self, event_type: str, label: str, data: Any) -> None:
        assert data == {"label": label}
        self.seen.append((event_type.removeprefix("view:"), label))

    async def settled(self, session: Any) -> list[tuple[str, str]]:
        async with session.turn():
            pass
        return self.seen


def test_a_view_opens_with_its_link_and_closes_with_its_window(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(window=20), state={"count": 0}, handlers=[add])
        views = Views(app)
        async with app:
            first = await Visitor(app).open(label="side")
            await first.call("add")
            session = first.session
            assert await views.settled(session) == [("opened", "side")]
            first.line.cut()
            clock.advance(19)
            again = Visitor(app)
            await again.hello(**first.back())
            assert await views.settled(session) == [("opened", "side")]  # a cut closes nothing
            again.line.cut()
            clock.advance(21)
            assert await views.settled(session) == [("opened", "side"), ("closed", "side")]
            third = Visitor(app)
            await third.hello(**again.back() | first.back())
            assert third.welcome["link"] == first.welcome["link"]
            assert third.welcome["resumed"] is False
            assert (await third.next())["type"] == "gr:snapshot"
            assert (await views.settled(session))[2:] == [("opened", "side")]
            third.raw(type="gr:bye")
            await third.until("gr:close")
            assert (await views.settled(session))[3:] == [("closed", "side")]
            assert not session.links

    arun(story)


def test_a_view_that_is_closed_is_closed_once(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = Settings(window=20, max_links=1)
        app = App(clock=clock, settings=settings, state={"count": 0}, handlers=[add])
        views = Views(app)
        async with app:
            first = await Visitor(app).open()
            await first.call("add")
            first.line.cut()
            clock.advance(21)
            second = await Visitor(app).open(token=first.welcome["token"])  # takes its place
            expected = [("opened", "main"), ("closed", "main"), ("opened", "main")]
            assert await views.settled(second.session) == expected
            leave(second)

    arun(story)


def test_bye_forgets_the_link_and_keeps_the_session(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            first = await Visitor(app).open()
            await first.call("add", 4)
            session, back = first.session, first.back()
            first.raw(type="gr:bye")
            await first.until("gr:close")
            assert (dict(session.links), session.labels, session.linked) == ({}, (), False)
            await session.ask("add", 1)
            again = Visitor(app)
            await again.hello(**back)
            assert again.welcome["resumed"] is False
            assert again.welcome["link"] != first.welcome["link"]
            assert again.welcome["session"] == session.id
            assert (await again.next())["data"] == {"count": 5}
            leave(again)

    arun(story)


def test_the_link_that_waited_longest_gives_way(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = Settings(max_links=3, window=1000)
        async with App(clock=clock, settings=settings) as app:
            one = await Visitor(app).open()
            token = one.welcome["token"]
            two, three = [await Visitor(app).open(token=token) for _ in range(2)]
            close = await Visitor(app).hello(token=token)
            assert (close["data"]["code"], close["data"]["retry"]) == ("busy", "fresh")
            two.line.cut()
            clock.advance(1)
            one.line.cut()
            four = await Visitor(app).open(token=token)
            links = set(four.session.links)
            assert links == {each.welcome["link"] for each in (one, three, four)}
            leave(three, four)

    arun(story)


# -- snapshots ------------------------------------------------------------------------------------


def test_a_snapshot_ships_what_is_pending_to_the_others_first(arun: Any) -> None:
    async def story() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def long(state: Any, session: Any) -> None:
            state["half"] = True
            session.emit("app:later")
            begun.set()
            await go.wait()
            state["whole"] = True

        async with App(state={"half": False}, handlers=[long]) as app:
            one = await Visitor(app).open()
            number = one.send("long")
            await begun.wait()
            two = await Visitor(app).open(token=one.welcome["token"])
            assert two.frames[-1]["data"] == {"half": True}
            assert (await one.next())["data"] == {"=": {"/half": True}}
            assert not one.line.arrived  # never the outbox
            go.set()
            await one.answer(number)
            assert (await two.next())["data"] == {"=": {"/whole": True}}
            assert (await two.next())["type"] == "app:later"
            leave(one, two)

    arun(story)


def test_a_snapshot_beside_a_worker_is_whole_and_nothing_comes_twice(arun: Any) -> None:
    async def story() -> None:
        going, go_on = threading.Event(), threading.Event()

        class Slow:
            """Only the worker may encode it, and meanwhile a client says hello."""

            def to_dict(self) -> dict[str, int]:
                going.set()
                go_on.wait(5)
                return {"slow": 1}

        def work(state: Any) -> None:
            state["log"] = [1, 2]
            state.append("log", 3)
            state["slow"] = Slow()

        async with App(state={"log": []}, handlers=[work]) as app:
            one = await Visitor(app).open()
            number = one.send("work")
            while not going.is_set():
                await asyncio.sleep(0)
            two = Visitor(app)  # the worker is encoding: the snapshot waits for it, the loop not
            await two.hello(token=one.welcome["token"])
            await steps()
            assert not two.line.arrived
            go_on.set()
            assert (await two.until("gr:snapshot"))["data"] == {
                "log": [1, 2, 3], "slow": {"slow": 1},
            }  # fmt: skip
            await one.answer(number)
            await two.line.settled()
            assert not two.line.arrived
            leave(one, two)

    arun(story)


def test_a_view_that_comes_as_a_worker_ends_gets_its_snapshot(arun: Any) -> None:
    """The worker's record and the end of its ship come in one step, or nobody would go on."""

    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            one = await Visitor(app).open()
            for number in range(1, 101):
                assert await one.call("add") == number
                two = Visitor(app)
                await two.hello(token=one.welcome["token"])
                assert (await two.next())["data"] == {"count": number}
                two.raw(type="gr:bye")
                await two.line.settled()
                leave(two)
            leave(one)

    arun(story)


def test_the_first_snapshot_waits_for_on_open(arun: Any) -> None:
    async def story() -> None:
        app = App(state={"user": None}, handlers=[])
        go = asyncio.Event()

        @app.on_open
        async def prepare(state: Any) -> None:
            await go.wait()
            state["user"] = "Ada"

        async with app:
            visitor = Visitor(app)
            await visitor.hello()
            await steps()
            assert not visitor.line.arrived
            go.set()
            assert (await visitor.next())["data"] == {"user": "Ada"}
            leave(visitor)

    arun(story)


# -- sessions without clients ---------------------------------------------------------------------


def test_a_client_that_only_watched_is_a_client(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = Settings(unused_ttl=10, session_ttl=100, window=5)
        async with App(clock=clock, settings=settings) as app:
            watcher, robot = await Visitor(app).open(), await Visitor(app).open()
            watcher.raw(type="gr:ack", data={"seq": 1})
            await watcher.line.settled()
            watcher.line.cut()
            robot.line.cut()
            clock.advance(11)
            assert tuple(app.sessions) == (watcher.welcome["session"],)
            clock.advance(90)
            assert not app.sessions

    arun(story)


def test_nobody_coming_back_closes_the_session_by_its_hook(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(session_ttl=10, window=5), state={"count": 0})
        closed: list[Any] = []

        @app.on_close
        async def part(session: Any) -> None:
            closed.append(session.id)

        async with app:
            session = app.open_session()
            clock.advance(11)
            async with asyncio.timeout(5):
                while app.sessions:
                    await asyncio.sleep(0)
            assert closed == [session.id]

    arun(story)


def test_a_session_without_clients_lives_from_its_last_message(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = Settings(session_ttl=10)
        app = App(clock=clock, settings=settings, state={"count": 0}, handlers=[add])
        async with app:
            used, idle = app.open_session(), app.open_session()
            clock.advance(6)
            await used.ask("add")
            clock.advance(6)
            assert (used.id in app.sessions, idle.id in app.sessions) == (True, False)
            clock.advance(20)
            while app.sessions:  # its worker may still be on its way out of the turn
                await asyncio.sleep(0)

    arun(story)


# -- questions to the user ------------------------------------------------------------------------


async def ask(state: Any, session: Any) -> Any:
    state["asking"] = True
    answer = await session.confirm("Really?", timeout=60.0)
    state["answer"] = answer
    return answer


def test_the_user_answers_and_sees_what_the_turn_has_so_far(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=[ask]) as app:
            visitor = await Visitor(app).open()
            for answer in (True, False):
                number = visitor.send("ask")
                assert (await visitor.next())["data"] == {"=": {"/asking": True}}
                question = await visitor.next()
                assert question["type"] == "gr:confirm"
                assert question["data"]["message"] == "Really?"
                call = question["data"]["call"]
                assert await visitor.call("gr:answer", {"call": call, "value": answer}) is True
                assert await visitor.answer(number) is answer
                assert await visitor.call("gr:answer", {"call": call, "value": True}) is False
            assert await visitor.call("gr:answer", {"call": 99, "value": True}) is False
            leave(visitor)

    arun(story)


def test_an_answer_is_yes_or_no(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=[ask]) as app:
            visitor = await Visitor(app).open()
            number = visitor.send("ask")
            call = (await visitor.until("gr:confirm"))["data"]["call"]
            await visitor.call("gr:answer", {"call": call, "value": "no"})
            assert await visitor.answer(number) is None  # a text would be taken for a yes
            leave(visitor)

    arun(story)


def test_of_two_views_the_first_wins(arun: Any) -> None:
    async def story() -> None:
        async with App(handlers=[ask]) as app:
            one = await Visitor(app).open()
            two = await Visitor(app).open(token=one.welcome["token"])
            number = one.send("ask")
            calls = [(await v.until("gr:confirm"))["data"]["call"] for v in (one, two)]
            assert calls[0] == calls[1]
            assert await two.call("gr:answer", {"call": calls[0], "value": False}) is True
            assert await one.call("gr:answer", {"call": calls[0], "value": True}) is False
            results = {f["id"]: f["data"] for f in one.frames if f["type"] == "gr:result"}
            assert results.get(number, await_none) is False
            leave(one, two)

    await_none = object()
    arun(story)


def test_a_question_ends_with_its_time_or_with_the_last_view(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = App(clock=clock, settings=Settings(window=20, ping=0), handlers=[ask])
        async with app:
            visitor = await Visitor(app).open()
            session = visitor.session
            number = visitor.send("ask")
            await visitor.until("gr:confirm")
            clock.advance(61)
            assert await visitor.answer(number) is None

            for end in ("bye", "window"):
                asking = session.ask("ask", timeout=0)
                call = (await visitor.until("gr:confirm"))["data"]["call"]
                if end == "bye":
                    visitor.raw(type="gr:bye")
                    assert await asking is None
                    visitor = await Visitor(app).open(token=visitor.welcome["token"])
                    continue
                visitor.line.cut()  # a cut is not the end of a view
                await steps()
                assert not asking.done()
                again = Visitor(app)
                await again.hello(**visitor.back())
                assert await again.call("gr:answer", {"call": call, "value": True}) is True
                assert await asking is True
                asking = session.ask("ask", timeout=0)
                await again.until("gr:confirm")
                again.line.cut()
                clock.advance(21)
                assert await asking is None
            assert await session.confirm("Anybody?") is None  # nobody to ask

    arun(story)


def test_a_question_of_one_view_is_for_its_label_alone(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            side = app.show("<p>side</p>", label="side")
            one = await Visitor(app).open()
            two = await Visitor(app).open(token=one.welcome["token"], label="side")
            await one.call("gr:refresh")  # what came before is read
            for end in ("answer", "bye"):
                question = side.confirm("Really?")
                call = (await two.until("gr:confirm"))["data"]["call"]
                if end == "answer":
                    assert await two.call("gr:answer", {"call": call, "value": True}) is True
                    assert await question is True
                    settled = [f["data"] for f in two.frames if f["type"] == "gr:settled"]
                    assert settled == [{"call": call}]
                    continue
                two.raw(type="gr:bye")  # the other view is still there, and was not asked
                assert await question is None
            assert await side.confirm("Anybody?") is None
            await one.call("gr:refresh")
            assert not [f for f in one.frames if f["type"] in ("gr:confirm", "gr:settled")]
            leave(one)

    arun(story)


def test_everybody_hears_that_a_question_is_settled(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        async with App(clock=clock, settings=Settings(ping=0), handlers=[ask]) as app:
            one = await Visitor(app).open()
            two = await Visitor(app).open(token=one.welcome["token"])
            number = one.send("ask")
            asked = (await one.until("gr:confirm"))["data"]
            assert asked == {"call": 1, "message": "Really?", "timeout": 60.0}
            await two.until("gr:confirm")
            clock.advance(61)
            for visitor in (one, two):
                assert (await visitor.until("gr:settled"))["data"] == {"call": 1}
            assert await one.answer(number) is None
            leave(one, two)

    arun(story)


def test_a_question_ends_with_its_session(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            visitor = await Visitor(app).open()
            question = visitor.session.confirm("Really?")
            await visitor.until("gr:confirm")
            visitor.session.close()
            assert await question is None

    arun(story)


def test_sync_handlers_wait_on_their_worker_and_nobody_on_the_loop(arun: Any) -> None:
    async def story() -> None:
        def ask_here(session: Any) -> Any:
            return session.confirm("Really?").result()

        async with App(handlers=[ask_here]) as app:
            visitor = await Visitor(app).open()
            number = visitor.send("ask_here")
            call = (await visitor.until("gr:confirm"))["data"]["call"]
            with pytest.raises(WouldBlock, match="await"):
                visitor.session.confirm("Here?").result()
            await visitor.call("gr:answer", {"call": call, "value": True})
            results = {f["id"]: f["data"] for f in visitor.frames if f["type"] == "gr:result"}
            if number not in results:
                results[number] = await visitor.answer(number)
            assert results[number] is True
            leave(visitor)

    arun(story)
