"""Subscribers of the state."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.core.ledgers import opened, patch_of
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom.core.state import State, Template

Arun = Any
Told = list[tuple[str, Any, Any]]


def watch(state: State, *paths: Any, **options: Any) -> tuple[Told, Any]:
    told: Told = []

    def subscriber(payload: dict[str, Any], context: dict[str, Any]) -> None:
        assert context["event"] in ("mutation", "init")
        told.append((context["mutation"], payload["previous_value"], payload["new_value"]))

    path = paths[0] if len(paths) == 1 else list(paths)
    return told, state.subscribe_mutation(path, subscriber, **options)


def test_subscribers_of_a_path() -> None:
    state = State({"a": 1, "n": {"b": 2}})
    told, handle = watch(state, "a", "n.b")
    state["a"] = 2
    state["a"] = 2
    state["other"] = 1
    state["n"]["b"] = 3
    state["n"]["c"] = 3
    del state["a"]
    del state["a"]
    assert told == [("a", 1, 2), ("a", 2, 2), ("n.b", 2, 3), ("a", 2, None)]
    handle.cancel()
    handle.cancel()
    state["a"] = 5
    state["n"]["b"] = 5
    assert len(told) == 4


def test_a_parent_that_is_replaced_or_deleted() -> None:
    state = State({"n": {"b": 1, "m": {"c": 2}}})
    told, _ = watch(state, "n.b", "n.m.c", "n.x")
    state["n"] = {"b": 5, "x": 6}
    assert told == [("n.b", 1, 5), ("n.m.c", 2, None), ("n.x", None, 6)]
    told.clear()
    del state["n"]
    assert told == [("n.b", 5, None), ("n.x", 6, None)]
    told.clear()
    state["n"] = 5
    assert told == []
    state["n"] = {"m": {}}
    state["n"]["m"] = {"c": 1}
    assert told == [("n.m.c", None, 1)]
    told.clear()
    state["n"] = state["n"]
    state.replace({"n": {}})
    assert told == [("n.m.c", 1, 1), ("n.m.c", 1, None)]


def test_the_parent_itself_is_not_told_of_its_children() -> None:
    state = State({"n": {"b": 1}})
    told, _ = watch(state, "n")
    state["n"]["b"] = 2
    assert told == []
    old = state["n"]
    state["n"] = {"b": 3}
    assert told == [("n", {"b": 2}, {"b": 3})]
    assert told[0][1] is old
    assert told[0][2] is state["n"]


def test_paths() -> None:
    state = State({"a.b": {"c": 1}, "": 1, "\\": 2})
    told, _ = watch(state, r"a\.b.c", ("a.b", "d"), ("",), "\\")
    state["a.b"]["c"] = 2
    state["a.b"]["d"] = 3
    state[""] = 4
    state["\\"] = 5
    assert told == [
        (r"a\.b.c", 1, 2),
        (r"a\.b.d", None, 3),
        ("", 1, 4),
        ("\\", 2, 5),
    ]
    bads: list[Any] = ["", "a.", ".a", "a..b", (), []]
    for bad in bads:
        with pytest.raises(ValueError, match=r"key|path"):
            state.subscribe_mutation(bad, print)
    for wrong in (5, ("a", 5)):
        with pytest.raises(TypeError, match="path"):
            state.subscribe_mutation(wrong, print)  # type: ignore[arg-type]
    nested: Told
    nested, _ = watch(state["a.b"], "e")
    state["a.b"]["e"] = 1
    assert nested == [("e", None, 1)]


def test_initial_and_list_growth() -> None:
    state = State({"l": [1], "n": {"x": 5}})
    told, _ = watch(state, "l", "n.x", "n.y.z", initial=True)
    assert told == [("l", None, [1]), ("n.x", None, 5), ("n.y.z", None, None)]
    told.clear()
    state.append("l", 2)
    state.extend("fresh", [1])
    assert told == [("l", [1], [1, 2])]


def test_a_list_that_grows_is_copied_for_its_own_subscribers_only() -> None:
    class Counted(list[int]):
        reads = 0

        def __iter__(self) -> Iterator[int]:
            Counted.reads += 1
            return super().__iter__()

    state = State({"l": Counted([1]), "a": 1})
    told, _ = watch(state, "a")
    state.append("l", 2)
    assert state["l"] == [1, 2]
    assert not told
    assert Counted.reads == 0


def test_what_it_was_is_told_of_a_list_that_grows_again_meanwhile() -> None:
    state = State({"l": [1]})
    told, _ = watch(state, "l")

    def grow() -> None:
        if len(state["l"]) < 4:
            state.append("l", 0)

    state.subscribe_mutation("l", grow)
    late, _ = watch(state, "l")
    state.append("l", 2)
    assert [before for _, before, _ in told] == [[1], [1, 2], [1, 2, 0]]
    assert [before for _, before, _ in late] == [[1, 2, 0], [1, 2], [1]]


def test_injection_by_name() -> None:
    state = State({"a": 1})
    seen: list[Any] = []
    state.subscribe_mutation("a", lambda: seen.append("none"))
    state.subscribe_mutation("a", lambda state, *, payload, n=3: seen.append((state, payload, n)))
    state.subscribe_mutation("a", lambda data, context, *args, **kw: seen.append((data, context)))
    payload = {"previous_value": 1, "new_value": 2}
    state["a"] = 2
    assert seen[0] == "none"
    assert seen[1][0] is state
    assert seen[1][1:] == (payload, 3)
    assert seen[2] == (payload, {"event": "mutation", "mutation": "a"})
    with pytest.raises((TypeError, Exception), match="x"):
        state.subscribe_mutation("a", lambda x: None)


def test_cascades() -> None:
    state = State({"a": 0, "b": 0})
    state.subscribe_mutation("a", lambda payload, state: state.update(b=payload["new_value"] * 2))
    told, _ = watch(state, "b")
    state["a"] = 3
    assert told == [("b", 0, 6)]
    ledger, state = opened({"n": 0, "x": 1})

    def again(state: State) -> None:
        state["n"] += 1

    state.subscribe_mutation("n", again)
    state["x"] = 2
    with pytest.raises(RecursionError, match="circle, 128 deep, last n"):
        state["n"] = 1
    assert state["n"] == 129
    ledger.rollback(True)
    assert state == {"n": 0, "x": 1}
    ledger.open()
    with pytest.raises(RecursionError):
        state["n"] = 1
    ledger.rollback(True)


def test_a_subscriber_that_raises() -> None:
    ledger, state = opened({"a": 1, "n": {"b": 1}})

    def angry() -> None:
        raise ValueError("no")

    state.subscribe_mutation("n.b", angry)
    state["a"] = 2
    with pytest.raises(ValueError, match="no"):
        state["n"]["b"] = 2
    ledger.rollback(True)
    assert state == {"a": 1, "n": {"b": 1}}
    assert patch_of(ledger) is None


def test_async_subscribers_wait_for_the_turn() -> None:
    ledger, state = opened({"a": 1})
    seen: list[Any] = []

    async def later(payload: Any, state: Any) -> None:
        seen.append((payload["new_value"], state is ledger.root))

    state.subscribe_mutation("a", later)
    state.subscribe_mutation("a", lambda payload, state: later(payload, state))  # noqa: PLW0108
    state["a"] = 2
    assert seen == []
    calls = ledger.take_async()
    assert len(calls) == 2
    assert ledger.take_async() == []
    for call in calls:
        with pytest.raises(StopIteration):
            call().__await__().send(None)
    assert seen == [(2, True), (2, True)]


def test_subscriptions_of_the_template_exist_in_every_session() -> None:
    original = State({"a": 1, "n": {"b": [1]}})
    roots: list[Any] = []

    def subscriber(payload: Any, state: Any, context: Any) -> None:
        roots.append((state, context["mutation"], payload["previous_value"]))

    handle = original.subscribe_mutation(["a", "n.b", "n"], subscriber)
    gone, cancelled = watch(original, "a")
    cancelled.cancel()
    template = Template(original)
    one, two = template.open(), template.open()
    one.open()
    one.root["a"] = 2
    one.root["n"] = {"b": 3}
    assert [root is one.root for root, *_ in roots] == [True, True, True]
    assert [(path, previous) for _, path, previous in roots] == [
        ("a", 1),
        ("n", {"b": [1]}),
        ("n.b", [1]),
    ]
    assert roots[1][2]["b"] == [1]
    assert roots[1][2]["b"] is not template.open().root["n"]["b"]
    roots.clear()
    told, own = watch(one.root, "a")
    one.root["a"] = 3
    two.open()
    two.root["a"] = 9
    assert told == [("a", 2, 3)]
    assert [root is two.root for root, *_ in roots] == [False, True]
    own.cancel()
    handle.cancel()  # of the original: sessions opened before hear of it no more, nor do later ones
    one.root["a"] = 4
    template.open()
    assert len(told) == 1
    assert gone == []


def test_a_root_that_is_gone() -> None:
    state = State({"n": {"b": 1}})
    node = state["n"]
    told: list[Any] = []
    state.subscribe_mutation("n.b", lambda state: told.append(state))  # noqa: PLW0108
    del state
    gc.collect()
    node["b"] = 2
    assert told == [None]


def test_a_state_of_its_own_has_no_turn_for_async_subscribers() -> None:
    async def later() -> None:
        raise AssertionError("nobody runs it")

    for subscriber in (later, lambda state: later()):
        state = State({"a": 1})
        state.subscribe_mutation("a", subscriber)
        with pytest.raises(RuntimeError, match="a has an async subscriber, which runs at the end"):
            state["a"] = 2
        with pytest.raises(RuntimeError, match="assign it before you subscribe"):
            state.subscribe_mutation("b", subscriber, initial=True)


def test_one_path_may_have_many_subscribers_in_order() -> None:
    state = State({"n": {"a": 1}})
    order: list[str] = []
    state.subscribe_mutation("n.a", lambda: order.append("child"))
    state.subscribe_mutation("n", lambda: order.append("first"))
    state.subscribe_mutation(["n", "n"], lambda: order.append("twice"))
    second = state["n"].subscribe_mutation("a", lambda: order.append("from the child"))
    state["n"] = {"a": 2}
    assert order == ["first", "twice", "twice", "child", "from the child"]
    order.clear()
    second.cancel()
    state["n"]["a"] = 3
    assert order == ["child"]


def test_one_that_cancels_another_in_the_middle() -> None:
    state = State({"a": 1})
    told: Told = []
    state.subscribe_mutation("a", lambda state: handle.cancel())
    told, handle = watch(state, "a")
    state["a"] = 2
    state["a"] = 3
    assert told == []


def test_every_way_to_change_a_key_is_told() -> None:
    state = State({"a": 1, "l": [1], "n": {"a": 1}})
    told, _ = watch(state, "a", "l", "n.a", "new")
    state.a = 2
    state.update(a=3)
    assert state.pop("a") == 3
    assert state.setdefault("a", 4) == 4
    state.setdefault("a", 5)
    state["l"] = state["l"]
    state.extend("l", [2, 3])
    state.replace({"new": 1, "l": [], "n": {}})
    state.clear()
    assert told == [
        ("a", 1, 2),
        ("a", 2, 3),
        ("a", 3, None),
        ("a", None, 4),
        ("l", [1], [1]),  # the list that was told of; what grew is a copy of it
        ("l", [1], [1, 2, 3]),
        ("a", 4, None),
        ("new", None, 1),
        ("l", [1, 2, 3], []),
        ("n.a", 1, None),
        ("l", [], None),
        ("new", 1, None),
    ]


def test_a_path_that_begins_later() -> None:
    state = State()
    told, _ = watch(state, "a.b.c")
    state["a"] = 5
    state["a"] = {"b": 5}
    state["a"]["b"] = {"c": 1}
    state["a"]["b"]["c"] = 2
    del state["a"]
    assert told == [("a.b.c", None, 1), ("a.b.c", 1, 2), ("a.b.c", 2, None)]


def test_a_cascade_of_128_is_allowed() -> None:
    for limit, fine in ((127, True), (128, True), (129, False)):
        ledger, state = opened({"n": 0})

        def again(state: State, limit: int = limit) -> None:
            if state["n"] < limit:
                state["n"] += 1

        state.subscribe_mutation("n", again)
        if fine:
            state["n"] = 1
            assert state["n"] == limit
        else:
            with pytest.raises(RecursionError):
                state["n"] = 1
        ledger.rollback(True)


# -- in sessions


Heard = list[tuple[str, str, Any]]


def initial() -> tuple[State, Heard]:
    """A template with subscribers of nested paths; what they hear."""
    state = State({"cart": {"items": [], "total": 0, "deep": {"x": 1}}})
    heard: Heard = []

    def listen(payload: Any, session: Any, context: Any) -> None:
        heard.append((session.id, context["mutation"], payload["new_value"]))

    def count(state: Any, payload: Any) -> None:
        if payload["new_value"] is not None:
            state["cart"]["total"] = len(payload["new_value"])

    state.subscribe_mutation(["cart.items", ("cart", "deep", "x")], listen)
    state["cart"].subscribe_mutation("items", count)
    return state, heard


def buy(state: Any, payload: str) -> None:
    """Assign below."""
    state["cart"].append("items", payload)


def swap(state: Any) -> None:
    """Replace the parent."""
    state["cart"] = {"items": ["new"], "deep": {"x": 2}}


def drop(state: Any) -> None:
    """Delete the parent."""
    del state["cart"]


def test_nested_subscriptions_work_in_every_session(arun: Arun) -> None:
    async def story() -> None:
        state, heard = initial()
        async with gr.App(state=state, handlers=[buy, swap, drop]) as app:
            one, two = app.open_session(), app.open_session()
            await one.ask("buy", "chair")
            await two.ask("buy", "table")
            await two.ask("buy", "lamp")
            assert (one.state["cart"]["total"], two.state["cart"]["total"]) == (1, 2)
            assert heard == [  # the lists as they were: what somebody holds does not grow
                (one.id, "cart.items", ["chair"]),
                (two.id, "cart.items", ["table"]),
                (two.id, "cart.items", ["table", "lamp"]),
            ]
            heard.clear()
            await one.ask("swap")
            assert one.state["cart"] == {"items": ["new"], "deep": {"x": 2}, "total": 1}
            await one.ask("buy", "bed")
            await one.ask("drop")
            assert [(path, value) for _, path, value in heard] == [
                ("cart.items", ["new"]),
                ("cart.deep.x", 2),
                ("cart.items", ["new", "bed"]),
                ("cart.items", None),
                ("cart.deep.x", None),
            ]

    arun(story)


def test_a_raising_subscriber_undoes_its_turn_and_no_other(arun: Arun) -> None:
    def count(state: Any) -> None:
        state["count"] += 1
        state["other"] = state["count"]

    async def story() -> None:
        state = State({"count": 0})

        def angry(payload: Any) -> None:
            if payload["new_value"] == 2:
                raise ValueError("not two")

        async def later(payload: Any) -> None:
            if payload["new_value"] == 4:
                raise ValueError("not four")

        def skip(state: Any, payload: int) -> None:
            state["count"] = payload

        state.subscribe_mutation("count", angry)
        state.subscribe_mutation("count", later)
        async with gr.App(state=state, handlers=[count, skip]) as app:
            visitor = await Visitor(app).open()
            other = app.open_session()
            assert await visitor.call("count") is None
            error = await visitor.call("count")
            assert error["code"] == "handler_error"
            assert visitor.session.state == {"count": 1, "other": 1}
            await visitor.call("skip", 3)
            error = await visitor.call("count")
            assert error["code"] == "handler_error"
            assert visitor.session.state == {"count": 3, "other": 1}
            await visitor.call("skip", 7)
            await visitor.call("count")
            patches = [frame["data"] for frame in visitor.frames if frame["type"] == "gr:state"]
            assert [patch["="] for patch in patches] == [
                {"/count": 1, "/other": 1},
                {"/count": 3},
                {"/count": 7},
                {"/count": 8, "/other": 8},
            ]
            lines = [record.text for record in visitor.session.log.records()]
            assert any("not two" in line for line in lines)
            assert any("not four" in line for line in lines)
            await other.ask("count")
            assert other.state["count"] == 1

    arun(story)


def by_thread(state: Any) -> None:
    """A handler on a worker."""
    state["a"] = 1
    state["b"] = 1
    state["handler"] = "done"


async def by_loop(state: Any) -> None:
    """One on the loop that suspends."""
    state["a"] = 1
    await asyncio.sleep(0)
    state["b"] = 1
    state["handler"] = "done"


@gr.handler(inline=True)
def by_inline(state: Any) -> None:
    """One on the loop that does not."""
    by_thread(state)


@pytest.mark.parametrize("handler", [by_thread, by_loop, by_inline])
def test_async_subscribers_run_after_the_handler_in_order_before_the_commit(
    arun: Arun, handler: Any
) -> None:
    async def story() -> None:
        order: list[Any] = []
        state = State({"a": 0, "b": 0, "c": 0, "d": 0})

        async def first(state: Any, context: Any, session: Any) -> None:
            order.append((context["mutation"], state["handler"]))
            await asyncio.sleep(0)
            state["c"] += 1
            order.append(("end", session.state["c"]))

        async def second(state: Any, context: Any) -> None:
            order.append((context["mutation"], state["c"]))
            state["d"] += 1  # an async subscriber that triggers another

        async def third(payload: Any) -> None:
            order.append(("d", payload["new_value"]))

        state.subscribe_mutation(["a", "b"], first)
        state.subscribe_mutation("c", second)
        state.subscribe_mutation("d", third)
        async with gr.App(state=state, handlers=[handler]) as app:
            visitor = await Visitor(app).open()
            await visitor.call(handler.__name__)
            assert order == [
                ("a", "done"),
                ("end", 1),
                ("b", "done"),
                ("end", 2),
                ("c", 2),
                ("c", 2),
                ("d", 1),
                ("d", 2),
            ]
            patches = [frame["data"] for frame in visitor.frames if frame["type"] == "gr:state"]
            values = {"/a": 1, "/b": 1, "/handler": "done", "/c": 2, "/d": 2}
            assert patches == [{"=": values}]  # one commit, after all of them

    arun(story)


def test_cascades_of_sessions_do_not_add_up(arun: Arun) -> None:
    """The depth is counted in each session, whoever else is inside a subscriber."""
    count = 6
    barrier = threading.Barrier(count, timeout=10)

    def go(state: Any) -> None:
        state["n"] = 1

    async def story() -> None:
        state = State({"n": 0})

        def again(state: Any) -> None:
            if state["n"] == 1:
                barrier.wait()  # all sessions are inside a subscriber now
            if state["n"] < 100:
                state["n"] += 1

        state.subscribe_mutation("n", again)
        settings = gr.Settings(workers=count)
        async with gr.App(state=state, handlers=[go], settings=settings) as app:
            sessions = [app.open_session() for _ in range(count)]
            await asyncio.gather(*(session.ask("go") for session in sessions))
            assert {session.state["n"] for session in sessions} == {100}

    arun(story)


def test_subscribing_in_a_turn_is_for_that_session(arun: Arun) -> None:
    handles: list[Any] = []
    heard: list[Any] = []

    def listen(state: Any, session: Any) -> None:
        handle = state.subscribe_mutation(
            "n.a", lambda payload: heard.append((session.id, payload["new_value"])), initial=True
        )
        handles.append(handle)

    def count(state: Any) -> None:
        state["n"]["a"] += 1

    def stop() -> None:
        handles.pop().cancel()

    async def story() -> None:
        heard.clear()
        async with gr.App(state={"n": {"a": 0}}, handlers=[listen, count, stop]) as app:
            one, two = app.open_session(), app.open_session()
            await one.ask("listen")
            for session in (one, two, one):
                await session.ask("count")
            assert heard == [(one.id, 0), (one.id, 1), (one.id, 2)]
            await one.ask("stop")
            await one.ask("count")
            assert len(heard) == 3

    arun(story)


def test_an_async_one_that_is_called_at_once_waits_for_the_end_of_the_turn(arun: Arun) -> None:
    order: list[Any] = []

    def listen(state: Any) -> None:
        async def later(payload: Any, event_type: Any) -> None:
            order.append((event_type, payload["new_value"]))

        state.subscribe_mutation("a", later, initial=True)
        order.append("handler")

    async def story() -> None:
        order.clear()
        async with gr.App(state={"a": 5}, handlers=[listen]) as app:
            await app.open_session().ask("listen")
            assert order == ["handler", ("init", 5)]

    arun(story)


def test_async_ones_are_in_the_turn_that_is_held(arun: Arun) -> None:
    async def count(session: gr.Session, payload: Any) -> None:
        async with session.turn() as state:  # joins it: it would wait for itself otherwise
            state["heard"] = payload["new_value"]

    async def story() -> None:
        initial = State({"count": 0})
        initial.subscribe_mutation("count", count)
        async with gr.App(state=initial) as app:
            session = app.open_session()
            async with session.turn() as state:
                state["count"] = 1
            assert session.state == {"count": 1, "heard": 1}

            def in_a_thread() -> None:
                with session.turn() as state:
                    state["count"] = 2

            await asyncio.to_thread(in_a_thread)
            assert session.state == {"count": 2, "heard": 2}

    arun(story)
