"""None of the defects of Writer Framework is here: one test for each that can apply.

They are numbered as in an examination of that system (W1 to W36). ``test_w7_...`` is the test of
number seven; a number without one stands in PROVEN, which names the tests elsewhere that would fail
if we had the defect, or in ELSEWHERE, which says why it cannot be had.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import random
import re
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
from greenroom.core.turn import current_turn
from greenroom.testing import ManualClock

ROOT = Path(__file__).parents[2]

PROVEN: dict[int, tuple[str, ...]] = {
    6: ("tests/core/test_ends.py::test_a_handler_is_answered_for_whatever_its_result_or_error_does",),
    7: (  # nobody waits for ever: time-outs, a stuck worker, code that is replaced meanwhile
        "tests/guarantees/test_g7_no_silent_drop.py::test_g7_what_takes_too_long_is_told",
        "tests/core/test_drain.py::test_a_stuck_worker_costs_no_more_than_the_drain",
        "tests/core/test_reload.py::test_what_was_accepted_ends_with_the_code_it_was_accepted_with",
    ),
    8: (  # sleepers of one session and everybody else's heartbeat
        "tests/guarantees/test_g5_isolation.py::test_g5_others_go_on",
        "tests/guarantees/test_g5_isolation.py::test_g5_more_blocked_sessions_than_workers",
        "tests/guarantees/test_g5_isolation.py::test_g5_a_blocked_handler_costs_no_heartbeat",
    ),
    10: (  # a cut at any byte loses nothing
        "tests/guarantees/test_g1_convergence.py::test_g1_cut_anywhere_over_tcp",
        "tests/guarantees/test_g1_convergence.py::test_g1_cut_at_every_byte_of_a_script",
        "tests/core/test_links.py::test_what_was_sent_and_lost_is_sent_again_unchanged",
    ),
    11: (  # who disconnects leaves nothing behind
        "tests/guarantees/test_g17_no_leak.py::test_g17_visits_leave_nothing",
        "tests/guarantees/test_g17_no_leak.py::test_g17_visits_over_sockets_leave_nothing",
    ),
    15: (  # nested subscriptions and properties, in every session
        "tests/core/test_subscriptions.py::test_subscriptions_of_the_template_exist_in_every_session",
        "tests/core/test_properties.py::test_every_session_has_its_own",
        "tests/compat/test_writer_app.py::test_properties_follow_what_they_are_made_of",
    ),
    19: (  # nobody chooses an id, an id opens nothing, verifiers are asked each time
        "tests/guarantees/test_g20_capability.py::test_g20_an_id_alone_opens_nothing",
        "tests/guarantees/test_g20_capability.py::test_g20_the_verifier_is_asked_at_every_hello",
        "tests/core/test_reception.py::test_no_session_exists_before_the_yes",
        "tests/core/test_reception.py::test_sessions_are_capped",
    ),
    24: ("tests/core/test_ledger.py::test_sessions_share_until_they_assign",),
    27: (  # a slow reader's full pipe stalls nobody, and a frame is encoded once
        "tests/guarantees/test_g6_stalled_readers.py::",
        "tests/core/test_ends.py::test_one_transport_that_breaks_its_promise_holds_up_nobody_else",
    ),
    28: ("tests/guarantees/test_g4_one_turn.py::test_g4_never_two_turns_at_once",),
    29: (  # frames about what nobody knows
        "tests/guarantees/test_g19_floods.py::test_g19_ids_of_the_future",
        "tests/guarantees/test_g19_floods.py::test_g19_subscriptions_cancels_answers_and_refreshes",
    ),
    34: (  # stopping waits for what runs, not for a poll
        "tests/core/test_drain.py::test_who_waits_for_nothing_leaves_at_once_and_the_others_with_their_answer",
    ),
    36: (
        "tests/core/test_metrics.py::test_prometheus_reads_the_same_numbers",
        "tests/guarantees/test_g23_conservation.py::test_g23_whatever_happens",
    ),
}

ELSEWHERE: dict[int, str] = {
    17: "no sign-in is built in: who may come in is said by verifiers, which see every hello",
    22: "a cost: bench/core/state.py measures an assignment against a dict's",
    23: "a cost: bench/core/patch.py measures encoding",
    25: "a scan of components: there is no component tree, pages are HTML",
    32: "component trees shared by sessions: there are none",
    35: "a fork of a process with threads: nothing is forked, an app lives in the process it is in",
}


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


# -- the table -----------------------------------------------------------------------------------


def test_every_number_is_accounted_for_once() -> None:
    here = {int(found[1]) for name in globals() if (found := re.match(r"test_w(\d+)_", name))}
    assert sorted([*here, *PROVEN, *ELSEWHERE]) == list(range(1, 37))


@pytest.mark.parametrize("test", [test for tests in PROVEN.values() for test in tests])
def test_what_is_proven_elsewhere_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in names if name else any(found.startswith("test_") for found in names)


# -- whose is it: values, output and context of one session ---------------------------------------


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


def test_w13_prints_reach_their_own_session_and_stdout_stays(
    arun: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    both = threading.Barrier(2, timeout=20)

    def say(payload: str) -> None:
        print(payload, "begins")
        both.wait()  # now both are in the middle
        print(payload, "ends")

    async def muse(payload: str) -> None:
        print(payload, "begins")
        await asyncio.sleep(0)
        print(payload, "ends")

    async def story() -> None:
        async with gr.App(handlers=[say, muse]) as app:
            one, two = app.open_session(), app.open_session()
            for handler in ("say", "muse"):
                await asyncio.gather(one.ask(handler, "one"), two.ask(handler, "two"))
            for session, name in ((one, "one"), (two, "two")):
                assert [r.text for r in session.log] == [f"{name} begins", f"{name} ends"] * 2

    arun(story)
    print("afterwards")
    out = capsys.readouterr().out
    assert out.count("one ends") == out.count("two ends") == 2
    assert out.endswith("afterwards\n")


def test_w14_130_sessions_in_a_subscriber_each_are_no_recursion(arun: Any) -> None:
    count = 130
    inside = threading.Barrier(count, timeout=30)

    async def story() -> None:
        beginning = gr.State({"n": 0, "heard": 0})

        def hear(state: Any) -> None:
            inside.wait()  # all of them are in it now
            state["heard"] += 1

        def bump(state: Any) -> None:
            state["n"] += 1

        beginning.subscribe_mutation("n", hear)
        settings = gr.Settings(workers=count, workers_max=count, watchdog=0.0)
        async with gr.App(beginning, [bump], settings) as app:
            sessions = [app.open_session() for _ in range(count)]
            await asyncio.gather(*[session.ask("bump", timeout=30) for session in sessions])
            assert all(session.state["heard"] == 1 for session in sessions)

    arun(story, timeout=60)


def test_w31_a_thread_keeps_nothing_of_a_handler_that_raised(arun: Any) -> None:
    seen: list[Any] = []

    def fail() -> None:
        seen.append(threading.get_ident())
        raise ValueError("no")

    def look() -> tuple[int, Any]:
        return threading.get_ident(), current_turn()

    async def story() -> None:
        settings = gr.Settings(workers=1, workers_max=1)
        async with gr.App(handlers=[fail], settings=settings) as app:
            with pytest.raises(ValueError):
                await app.open_session().ask("fail")
            assert await app.call(look) == (seen[0], None)  # the same thread, and no turn

    arun(story)


# -- nothing assigned is lost ----------------------------------------------------------------------


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


def test_w16_a_nested_state_is_what_the_state_says_it_is() -> None:
    state = gr.State({"n": {"x": 1}})
    old = state["n"]
    state["n"] = 5
    assert (state["n"], state.n) == (5, 5)
    state["n"] = {"x": 2}
    assert state["n"] == state.n == {"x": 2}
    with pytest.raises(gr.Detached):
        old["x"] = 3
    del state["n"]
    assert state["n"] is None
    for name in ("items", "to_dict", "replace", "update"):
        state[name] = {"a": 1}
        assert callable(getattr(state, name))
        assert state[name] == {"a": 1}
    assert set(state.to_dict()) == {"items", "to_dict", "replace", "update"}


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


# -- every event is answered, and the answer tells no secrets ---------------------------------------


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


def test_w20_the_text_of_an_exception_stays_on_the_server(serve: Any) -> None:
    def fail(payload: str) -> None:
        raise ValueError(f"the password is {payload}")

    async def story() -> None:
        for debug in (False, True):
            app = gr.App(handlers=[fail], settings=gr.Settings(debug=debug))
            frames: list[str] = []
            async with page_of(app) as (client, _):
                client.on_frame(lambda kind, frame, to=frames: to.append(repr(frame)))
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
        state["last"] = payload
        state["seen"] = [*state["seen"], payload]
        session.emit("app:added", payload)
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


# -- time and cost ----------------------------------------------------------------------------------


def test_w12_sessions_end_while_others_open(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        app = gr.App(settings=gr.Settings(session_ttl=10), clock=clock)
        opened = 0

        @app.on_close
        def one_more(app: gr.App) -> None:
            nonlocal opened
            if opened < 100:
                opened += 1
                app.open_session()  # from a worker, while the others expire

        async with app:
            for _ in range(100):
                app.open_session()
                clock.advance(0.01)
            for _ in range(4):
                clock.advance(20)
                await eventually(lambda: app.counters["sessions_closed"] >= 100)
            await eventually(lambda: opened == 100)
            while app.sessions:
                clock.advance(20)
                await asyncio.sleep(0)
            assert app.counters["sessions_closed"] == 200

    arun(story)


def test_w21_a_change_costs_what_was_changed_not_what_there_is() -> None:
    def cost(keys: int) -> float:
        state = gr.State({f"g{n}": dict.fromkeys(map(str, range(100)), 0) for n in range(keys)})
        state.take_patch()
        best = float("inf")
        for n in range(50):
            state["g0"]["1"] = n
            begin = time.thread_time_ns()
            patch = state.take_patch()
            best = min(best, time.thread_time_ns() - begin)
            assert patch.set == {"/g0/1": n}
        return best

    assert cost(1_000) < 20 * cost(1) + 20_000  # a scan of 100,000 keys takes 23 ms there


def test_w26_a_signature_is_read_once(arun: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(state: Any, payload: int) -> None:
        state["n"] += payload

    async def story() -> None:
        beginning = gr.State({"n": 0, "heard": 0})

        def hear(state: Any) -> None:
            state["heard"] += 1

        beginning.subscribe_mutation("n", hear)
        app = gr.App(beginning, [add])

        @app.middleware()
        def around(state: Any) -> Any:
            yield

        def forbidden(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError("a signature was read during an event")

        async with app:
            session = app.open_session()
            for name in ("signature", "getfullargspec", "get_annotations"):
                monkeypatch.setattr(inspect, name, forbidden)
            for _ in range(3):
                await session.ask("add", 2)
            monkeypatch.undo()
            assert session.state == {"n": 6, "heard": 3}

    arun(story)
