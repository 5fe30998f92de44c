"""None of the defects of Writer Framework is here: one test for each that can apply.

They are numbered as in an examination of that system (W1 to W36). ``test_w16_...`` is the test of
number 16; those that are a story over a socket are in ``test_writer_stories.py``. A number without
one stands in PROVEN, which names the tests elsewhere that would fail if we had the defect, or in
ELSEWHERE, which says why it cannot be had.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.until import eventually

import greenroom as gr
from greenroom.core.turn import current_turn
from greenroom.testing import ManualClock

ROOT = Path(__file__).parents[2]
STORIES = Path(__file__).with_name("test_writer_stories.py")

PROVEN: dict[int, tuple[str, ...]] = {
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
        "tests/core/test_reception_limits.py::test_sessions_are_capped",
    ),
    24: (
        "tests/core/test_ledger.py::test_sessions_share_until_they_assign",
        "tests/core/test_ledger.py::test_an_open_session_is_small_and_free_of_circles",
    ),
    27: (  # a slow reader's full pipe stalls nobody, and a frame is encoded once
        "tests/guarantees/test_g6_stalled_readers.py::test_g6_a_thousand_stalled_readers",
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


# -- the table -----------------------------------------------------------------------------------


def test_every_number_is_accounted_for_once() -> None:
    texts = [path.read_text("utf-8") for path in (Path(__file__), STORIES)]
    here = {
        int(number)
        for text in texts
        for number in re.findall(r"^def test_w(\d+)_", text, re.MULTILINE)
    }
    assert sorted([*here, *PROVEN, *ELSEWHERE]) == list(range(1, 37))


@pytest.mark.parametrize("test", [test for tests in PROVEN.values() for test in tests])
def test_what_is_proven_elsewhere_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert name in names


# -- one session and the others -------------------------------------------------------------------


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


# -- time and cost --------------------------------------------------------------------------------


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
