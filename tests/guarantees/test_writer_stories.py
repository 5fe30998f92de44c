"""The defects of Writer Framework that users meet, each as a story over a real socket.

``test_writer_defects.py`` has the numbers and the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.served import served_by
from tests.support.until import eventually

import greenroom as gr
from greenroom.client import Client, connect


@contextlib.asynccontextmanager
async def page_of(app: gr.App) -> AsyncGenerator[tuple[Client, str]]:
    """The app on a real socket, and a client of it."""
    async with app, served_by("websocket", app) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        async with connect(url) as client:
            yield client, url


def session_of(app: gr.App) -> gr.Session:
    [session] = app.sessions.values()
    return session


async def refused(answer: Any) -> str:
    """The code that a call was refused with."""
    with pytest.raises(gr.Refused) as caught:
        await answer
    return caught.value.code


def test_w1_the_context_of_an_event_is_its_own(arun: Any) -> None:
    seen: list[dict[str, Any]] = []

    def click(context: dict[str, Any]) -> None:
        seen.append(dict(context))
        context["left"] = "behind"

    async def story() -> None:
        app = gr.App(handlers=[click])
        async with page_of(app) as (alice, url), connect(url) as bob:
            await alice.call("click", context={"item": "ALICE-SECRET", "itemId": "k1"})
            await bob.call("click", context={"target": "plain"})
            await alice.call("click")
        assert seen[0]["item"] == "ALICE-SECRET"
        assert set(seen[1]) == {"target", "handler", "label", "session_id"}
        assert set(seen[2]) == {"handler", "label", "session_id"}

    arun(story)


# -- nothing assigned is lost ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_w2_forty_increments_at_once_are_forty(kind: str, serve: Any) -> None:
    def blocking(state: Any) -> None:
        count = state["count"]
        time.sleep(0.002)
        state["count"] = count + 1

    async def waiting(state: Any) -> None:
        count = state["count"]
        await asyncio.sleep(0.002)
        state["count"] = count + 1

    async def story() -> None:
        app = gr.App({"count": 0}, [blocking, waiting])
        name = "blocking" if kind == "sync" else "waiting"
        async with contextlib.AsyncExitStack() as stack:
            first, url = await stack.enter_async_context(page_of(app))
            more = [connect(url, token=first.token, label=f"view{n}") for n in range(3)]
            views = [first, *[await stack.enter_async_context(view) for view in more]]
            await asyncio.gather(*[view.call(name) for view in views for _ in range(10)])
            await eventually(lambda: all(view.state["count"] == 40 for view in views))
            assert session_of(app).state["count"] == 40

    serve(story)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_w3_the_last_word_arrives_behind_a_long_list(kind: str, serve: Any) -> None:
    """A list of 50,000 is pushed in the middle of a turn; what is assigned meanwhile comes too."""

    seen = 0  # of the pushes, by the client

    def steps(state: Any) -> Any:
        nonlocal seen
        seen, begin = 0, time.monotonic()
        state["rows"] = list(range(50_000))
        while seen < 5 and time.monotonic() < begin + 20:  # written while it is being pushed
            state["n"] += 1
            state["status"] = f"step {state['n']}"
            state["steps"][str(state["n"] % 50)] = state["n"]
            yield
        state["status"] = "done"

    def blocking(state: Any) -> None:
        for _ in steps(state):
            time.sleep(0.0001)

    async def waiting(state: Any) -> None:
        for _ in steps(state):
            await asyncio.sleep(0)

    async def story() -> None:
        settings = gr.Settings(partial_after=0.001, partial_every=0.001)
        app = gr.App({"steps": {}, "n": 0}, [blocking, waiting], settings)
        async with page_of(app) as (client, _):

            def look(status: Any, _: Any) -> None:
                nonlocal seen
                seen += str(status).startswith("step")

            client.subscribe("status", look)
            for _ in range(5):
                await client.call("blocking" if kind == "sync" else "waiting", timeout=30)
                assert seen >= 5, "it was not pushed while it ran"
                assert client.state["status"] == "done"
                assert len(client.state["rows"]) == 50_000
                assert client.state == session_of(app).state.to_dict()

    serve(story)


def test_w4_one_poisoned_value_costs_its_own_key_alone(serve: Any) -> None:
    def poison(state: Any) -> None:
        state["before"] = 1
        state["u"]["v"] = 1
        state["bad"] = object()
        state["rows"] = list(range(50_000))
        state["after"] = 1

    def later(state: Any) -> None:
        state["u"]["v"] = 2
        state["after"] = 2

    def heal(state: Any) -> None:
        state["bad"] = "good"

    async def story() -> None:
        app = gr.App({"u": {"v": 0}}, [poison, later, heal])
        async with page_of(app) as (client, url):
            await client.call("poison")
            assert (client.state["before"], client.state["after"]) == (1, 1)
            assert client.state["u"] == {"v": 1}
            assert len(client.state["rows"]) == 50_000
            assert "bad" not in client.state
            await client.call("later")
            assert (client.state["u"], client.state["after"]) == ({"v": 2}, 2)
            [record] = session_of(app).log
            assert record.level == "error"
            assert "state bad is a" in record.text
            assert "object" in record.text
            async with connect(url, token=client.token) as second:  # a snapshot does without it too
                assert second.state == client.state
                await client.call("heal")
                assert client.state["bad"] == "good"
                await eventually(lambda: second.state["bad"] == "good")

    serve(story)


def test_w9_two_hundred_ordered_events_end_in_order(serve: Any) -> None:
    rng = random.Random(9)
    pauses = [rng.random() * 0.002 for _ in range(200)]

    def blocking(state: Any, payload: int) -> None:
        time.sleep(pauses[payload])
        state["seen"] = [*state["seen"], payload]

    async def waiting(state: Any, payload: int) -> None:
        await asyncio.sleep(pauses[payload])
        state["seen"] = [*state["seen"], payload]

    async def story() -> None:
        app = gr.App({"seen": []}, [blocking, waiting])
        async with page_of(app) as (client, _):
            for n in range(199):
                client.send("blocking" if rng.random() < 0.5 else "waiting", n)
            await client.call("blocking", 199)
            assert client.state["seen"] == list(range(200))

    serve(story)


def test_w9_a_thousand_pipelined_answers_come_in_order_and_fresh(serve: Any) -> None:
    def add(state: Any) -> Any:
        state["n"] += 1
        return state["n"]

    async def story() -> None:
        app = gr.App({"n": 0}, [add])
        async with page_of(app) as (client, _):
            told: list[int] = []
            shown: list[int] = []

            async def one() -> None:
                told.append(await client.call("add"))
                assert client.state["n"] >= told[-1]  # the patch is never behind its answer

            client.subscribe("n", lambda value, _: shown.append(value))
            await asyncio.gather(*[one() for _ in range(1_000)])
            assert told == list(range(1, 1_001))
            assert shown == sorted(shown)
            assert shown[-1] == 1_000

    serve(story)


def test_w30_a_second_view_takes_nothing_from_the_first(serve: Any) -> None:
    def say(session: Any, state: Any, payload: int) -> None:
        session.emit("app:said", payload)
        state["said"] = payload

    async def story() -> None:
        app = gr.App({"said": 0}, [say])
        async with page_of(app) as (first, url):
            heard: list[int] = []
            first.on("app:said", lambda data, *_: heard.append(data))
            async with connect(url, token=first.token) as second:
                also: list[int] = []
                second.on("app:said", lambda data, *_: also.append(data))
                await second.call("say", 1)
                await eventually(lambda: heard == [1])
                assert also == [1]
            session_of(app).tell("say", 2)  # nobody of the first asked for it
            await eventually(lambda: heard == [1, 2])
            assert first.state["said"] == 2

    serve(story)


def test_w33_what_others_emit_while_a_turn_commits_is_sent_once(serve: Any) -> None:
    threads, each = 4, 250

    def work(session: Any, payload: int) -> None:
        session.emit("app:turn", payload)

    async def story() -> None:
        app = gr.App(handlers=[work])
        async with page_of(app) as (client, _):
            turns: list[int] = []
            others: list[tuple[int, int]] = []
            client.on("app:turn", lambda data, *_: turns.append(data))
            client.on("app:other", lambda data, *_: others.append(tuple(data)))
            session = session_of(app)

            def emit(who: int) -> None:
                for n in range(each):
                    session.emit("app:other", (who, n))

            emitters = [asyncio.to_thread(emit, who) for who in range(threads)]
            calls = [client.call("work", n) for n in range(200)]
            await asyncio.gather(*emitters, *calls)
            await eventually(lambda: len(others) == threads * each)
            assert turns == list(range(200))
            for who in range(threads):  # each thread's own in its order
                assert [n for one, n in others if one == who] == list(range(each))

    serve(story)


# -- every event is answered, and the answer tells no secrets --------------------------------------


def test_w5_what_cannot_be_sent_is_answered_and_the_session_goes_on(serve: Any) -> None:
    results: dict[str, Callable[[], Any]] = {
        "function": lambda: print,
        "generator": lambda: (n for n in range(3)),
        "lock": threading.Lock,
        "nested": lambda: {"rows": [object()]},
    }

    def give(payload: str) -> Any:
        return results[payload]()

    def mail(session: Any, state: Any, payload: str) -> None:
        state["mailed"] = payload
        session.emit("app:mail", results[payload]())

    async def _later() -> int:
        return 7

    def awaitable() -> Any:  # a plain function may give back something to wait for
        return _later()

    async def story() -> None:
        app = gr.App({"mailed": None}, [give, mail, awaitable])
        async with page_of(app) as (client, _):
            for kind in results:
                assert await refused(client.call("give", kind, timeout=20)) == "handler_error"
                assert await refused(client.call("mail", kind, timeout=20)) == "handler_error"
                assert client.state["mailed"] is None  # its turn was undone
            assert await client.call("awaitable") == 7
            texts = [record.text for record in session_of(app).log]
            assert len([text for text in texts if "give" in text]) == len(results)
            assert len([text for text in texts if "mail" in text]) == len(results)

    serve(story)


class Odd(BaseException):
    """Nobody expects it."""


ENDS = [ValueError, StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError]


@pytest.mark.parametrize("error", [*ENDS, SystemExit, Odd], ids=lambda error: error.__name__)
def test_w6_whatever_is_raised_is_answered(error: type[BaseException], serve: Any) -> None:
    def blocking(state: Any) -> None:
        state["n"] = 5
        raise error("on a worker")

    async def waiting(state: Any) -> None:
        state["n"] = 5
        await asyncio.sleep(0)
        raise error("on the loop")

    async def at_once(state: Any) -> None:
        state["n"] = 5
        raise error("before it waited")

    def well(state: Any) -> Any:
        return state["n"]

    async def story() -> None:
        app = gr.App({"n": 1}, [blocking, waiting, at_once, well])
        async with page_of(app) as (client, _):
            for name in ("blocking", "waiting", "at_once"):
                code = await refused(client.call(name, timeout=20))
                assert code in ("handler_error", "cancelled")
                assert await client.call("well", timeout=20) == 1  # undone, and it goes on

    serve(story)


@pytest.mark.parametrize("debug", [False, True])
def test_w20_the_text_of_an_exception_stays_on_the_server(debug: bool, serve: Any) -> None:
    def fail(payload: str) -> None:
        raise ValueError(f"the password is {payload}")

    async def story() -> None:
        app = gr.App(handlers=[fail], settings=gr.Settings(debug=debug))
        frames: list[str] = []
        async with page_of(app) as (client, _):
            client.on_frame(lambda _, frame: frames.append(repr(frame)))
            with pytest.raises(gr.Refused) as caught:
                await client.call("fail", "hunter2")
            assert ("hunter2" in caught.value.message) is debug
            assert "hunter2" in str(session_of(app).log.records()[0].traceback)
        received = [frame for frame in frames if "'fail'" not in frame]  # not what we sent
        assert any("hunter2" in frame for frame in received) is debug

    serve(story)


@pytest.mark.parametrize("kind", ["subscriber", "before", "after"])
def test_w4_who_raises_undoes_its_own_turn_and_no_other(kind: str, serve: Any) -> None:
    """The whole story of one session over a socket: every third event meets somebody who raises."""

    def _is_bad(payload: int) -> bool:
        return payload % 3 == 0

    def add(state: Any, session: Any, payload: int) -> int:
        session.emit("app:added", payload)
        state["seen"] = [*state["seen"], payload]
        state["last"] = payload  # here the subscriber raises
        return payload

    async def story() -> None:
        beginning = gr.State({"last": None, "seen": []})
        app = gr.App(beginning, [add])

        def hear(payload: dict[str, Any]) -> None:
            if kind == "subscriber" and _is_bad(payload["new_value"]):
                raise ValueError(f"subscriber of {payload['new_value']}")

        @app.middleware()
        def around(payload: int) -> Any:
            if kind == "before" and _is_bad(payload):
                raise ValueError(f"before of {payload}")
            yield
            if kind == "after" and _is_bad(payload):
                raise ValueError(f"after of {payload}")

        beginning.subscribe_mutation("last", hear)
        async with page_of(app) as (client, _):
            told: list[int] = []
            client.on("app:added", lambda data, *_: told.append(data))
            calls = [client.call("add", n) for n in range(60)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            good = [n for n in range(60) if not _is_bad(n)]
            bad = [n for n in range(60) if _is_bad(n)]
            assert [n for n in answers if isinstance(n, int)] == good
            codes = [answer.code for answer in answers if isinstance(answer, gr.Refused)]
            assert codes == ["handler_error"] * len(bad)
            assert client.state == {"last": 59, "seen": good}
            assert session_of(app).state == {"last": 59, "seen": good}
            assert told == good
            said = [record.text for record in session_of(app).log]
            for n, text in zip(bad, said, strict=True):
                assert text.endswith(f"ValueError: {kind} of {n}")

    serve(story)


def test_w18_a_payload_is_never_a_place_to_read_from(serve: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    took: list[Any] = []

    def photo(payload: bytes) -> None:
        took.append(payload)

    def upload(payload: list[gr.File]) -> None:
        took.extend(file.read() for file in payload)

    def anything(payload: Any) -> None:
        took.append(payload)

    async def story() -> None:
        app = gr.App(handlers=[photo, upload, anything])
        async with page_of(app) as (client, _):
            for url in (secret.as_uri(), str(secret), "data:;base64,aGk=", "http://127.0.0.1/"):
                assert await refused(client.call("photo", url)) == "bad_payload"
                files = [{"name": "a.txt", "type": "text/plain", "data": url}]
                assert await refused(client.call("upload", files)) == "bad_payload"
                await client.call("anything", url)
                assert took.pop() == url  # text is text
            assert not took

    serve(story)
