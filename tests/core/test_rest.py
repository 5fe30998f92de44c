"""A state at rest: only what differs from the template is kept, and nobody can tell."""

from __future__ import annotations

import functools
import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom.core.errors import StaleTurn
from greenroom.core.state import Template
from greenroom.testing import ManualClock

START = {"a": 1, "b": {"x": 1, "deep": {"y": 2}}, "c": [1], "d": None, "e": "text"}


def written(template: Template, **values: Any) -> Any:
    ledger = template.open()
    ledger.open()
    for key, value in values.items():
        ledger.root[key] = value
    ledger.commit(False)
    return ledger


def in_order(values: Any, start: Any) -> bool:
    """Whether the keys of a state come in the order of the template's, and new ones behind them."""
    known = [key for key in start if key in values]
    return list(values)[: len(known)] == known and all(
        in_order(values[key], start[key])
        for key in known
        if isinstance(values[key], dict) and isinstance(start[key], dict)
    )


# -- what comes back ------------------------------------------------------------------------------


KEYS = st.sampled_from(["a", "b", "c", "d", "e", "new", "_private"])
VALUES = st.one_of(
    st.integers(), st.text(max_size=3), st.none(), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from("xyz"), st.dictionaries(st.just("w"), st.integers())),
)  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES),
        st.tuples(st.just("set in b"), st.sampled_from("xyz"), VALUES),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("append"), st.just("c"), st.integers()),
        st.tuples(st.just("rest"), KEYS, st.none()),
    ),
    max_size=12,
)


@given(STEPS)
def test_a_state_that_rested_is_the_state_that_it_was(steps: list[Any]) -> None:
    resting, awake = Template(START).open(), Template(START).open()
    for what, key, value in (*steps, ("rest", "", None)):
        if what == "rest":
            rests = resting.rest()
            assert rests or not in_order(awake.root.to_raw_state(), START)
            continue
        for ledger in (resting, awake):
            ledger.open()
            root = ledger.root
            if what == "set":
                root[key] = value
            elif what == "set in b" and isinstance(root["b"], gr.State):
                root["b"][key] = value
            elif what == "delete" and key in root:
                del root[key]
            elif what == "append" and type(root["c"]) is list:
                root["c"].append(value)
            del root
            ledger.commit(False)
    assert list(resting.root) == list(awake.root)
    assert resting.root.to_raw_state() == awake.root.to_raw_state()
    assert resting.snapshot()[0] == awake.snapshot()[0]


def test_the_keys_of_a_decoded_frame_are_those_of_the_template() -> None:
    template = Template({"form": {"first name": "", "last name": ""}})
    form = json.loads('{"first name": "Ada", "last name": ""}')
    ledger = written(template, form=form)
    assert ledger.rest()
    assert ledger.root["form"].to_raw_state() == form


def test_a_ledger_begins_at_rest_and_whatever_needs_its_tree_wakes_it() -> None:
    template = Template(START)
    for wake in ("open", "snapshot"):
        ledger = template.open()
        assert ledger.resting
        assert (ledger.in_turn, ledger.dirty, ledger.shipping, ledger.position) == (
            False, False, False, 0,
        )  # fmt: skip
        assert ledger.ship() is None
        ledger.forget()
        ledger.end()
        assert ledger.resting
        getattr(ledger, wake)()
        assert not ledger.resting
    assert template.open().view["b"]["x"] == 1
    with pytest.raises(StaleTurn):
        template.open().root["a"] = 2


def test_positions_go_on_where_they_were() -> None:
    ledger = Template(START).open()
    ledger.snapshot()
    ledger.open()
    ledger.root["a"] = 2
    ledger.commit(True)
    patch = ledger.ship()
    assert patch is not None
    assert not ledger.rest()  # on its way to the loop, and clients have it
    ledger.shipped()
    ledger.forget()
    assert ledger.rest()
    assert ledger.position == patch.position == 1
    assert ledger.snapshot()[1] == 1


# -- when it cannot -------------------------------------------------------------------------------


def test_it_does_not_rest_while_somebody_holds_a_part_of_it() -> None:
    ledger = written(Template(START), a=5)
    for part in (ledger.root, ledger.view, ledger.root["b"]):
        assert not ledger.rest(), part
        del part
    assert ledger.rest()
    ledger.open()
    assert not ledger.rest()
    ledger.root["a"] = 6
    ledger.rollback(False)
    assert ledger.rest()
    assert ledger.root["a"] == 5


def test_it_does_not_rest_with_subscriptions_of_its_own_or_calculated_properties() -> None:
    class Sum(gr.State):
        a: int = 1
        b: int = 2

        @gr.property(["a", "b"])
        def both(self) -> int:
            return self.a + self.b

    calculated = Template({}, Sum).open()
    assert calculated.root["both"] == 3
    assert not calculated.rest()
    watched = written(Template(START), a=5)
    watched.root.subscribe_mutation("a", lambda: None)
    assert not watched.rest()


def test_it_does_not_rest_with_attributes_that_are_no_keys() -> None:
    class Memory(gr.State):
        x: int = 1

        @functools.cached_property
        def made(self) -> list[int]:
            return []

    class Slot(gr.State):
        __slots__ = ("made",)
        x: int = 1

    class Bare(gr.State):
        __slots__ = ()
        x: int = 1

    class Outer(gr.State):
        inner: Memory
        slot: Slot | None = None
        bare: Bare

    ledger = written(Template({}, Outer), bare={"x": 2}, inner={"x": 2})
    assert ledger.rest()
    made, known = ledger.root.inner.made, weakref.ref(ledger.root.inner)
    assert not ledger.rest()
    assert ledger.root.inner.made is made
    del ledger.root.inner.__dict__["made"]
    assert not ledger.rest()
    assert known() is not None
    del known
    assert ledger.rest()
    assert (ledger.root.inner.x, ledger.root.bare.x) == (2, 2)
    ledger.open()
    ledger.root["slot"] = {"x": 3}
    ledger.root["slot"].made = made
    ledger.commit(False)
    assert not ledger.rest()
    assert ledger.root["slot"].made is made


def test_the_collector_need_not_look_at_numbers_and_texts() -> None:
    template = Template(START)
    assert not gc.is_tracked(template.open())
    plain, holding = written(template, a=5, e="other"), written(template, a=[1])
    assert gc.is_tracked(plain)
    assert plain.rest()
    assert holding.rest()
    assert not gc.is_tracked(plain)
    assert gc.is_tracked(holding)  # a list may lead anywhere
    plain.open()
    assert gc.is_tracked(plain)


def test_a_turn_and_a_rest_of_others_while_a_state_wakes_are_not_lost() -> None:
    meanwhile: list[Callable[[], None]] = []

    class Inner(gr.State):
        x: int = 0

        def __new__(cls, _values: Any = None, /) -> Any:
            if meanwhile:  # as another thread may, when the collector runs code of somebody
                meanwhile.pop()()
            return super().__new__(cls)

    class Outer(gr.State):
        inner: Inner

    def turn() -> None:
        ledger.open()
        ledger.root.inner.x = 2
        ledger.commit(True)
        patch = ledger.ship()
        ledger.shipped()
        ledger.forget()
        assert patch is not None
        assert ledger.rest()

    ledger = written(Template({}, Outer), inner={"x": 1})
    assert ledger.rest()
    meanwhile.append(turn)
    assert ledger.view.inner.x == 2
    assert not meanwhile
    assert ledger.position == 1


# -- sessions -------------------------------------------------------------------------------------


@gr.handler(inline=True)
def write(state: Any, payload: Any) -> None:
    state["a"] = payload


def test_a_session_rests_a_minute_after_its_last_client(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = gr.Settings(ping=0)
        async with gr.App(state=START, handlers=[write], clock=clock, settings=settings) as app:
            visitor = await Visitor(app).open()
            session = visitor.session
            await visitor.call("write", 7)
            clock.advance(61)
            assert not session.ledger.resting
            visitor.raw(type="gr:bye")
            await visitor.line.settled()
            clock.advance(59)
            assert not session.ledger.resting
            clock.advance(2)
            assert session.ledger.resting
            assert session.all_links is None
            assert session.state["a"] == 7
            again = Visitor(app)
            await again.hello(token=visitor.welcome["token"])
            assert (await again.until("gr:snapshot"))["data"]["a"] == 7
            again.line.cut()

    arun(story)


def test_a_session_whose_client_never_came_back_rests_when_its_links_have_expired(
    arun: Any,
) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = gr.Settings(window=100)
        async with gr.App(state=START, handlers=[write], clock=clock, settings=settings) as app:
            visitor = await Visitor(app).open()
            session = visitor.session
            await visitor.call("write", 7)
            visitor.line.cut()
            await visitor.line.settled()
            clock.advance(90)
            assert not session.ledger.resting  # who comes back now goes on where he was
            clock.advance(200)
            assert session.ledger.resting

    arun(story)


def test_a_session_that_is_still_told_things_rests_and_stays(arun: Any) -> None:
    async def story() -> None:
        clock = ManualClock()
        settings = gr.Settings(session_ttl=1000)
        async with gr.App(state=START, handlers=[write], clock=clock, settings=settings) as app:
            session = app.open_session()
            for number in range(5):
                await session.ask("write", number)
                clock.advance(900)
                assert session.state["a"] == number
            assert session.id in app.sessions

    arun(story)


def test_a_running_app_is_what_holds_a_session_and_nothing_does_when_it_has_ended(
    arun: Any,
) -> None:
    async def story() -> None:
        async with gr.App(state=START) as app:
            session = app.open_session()
            assert not gc.is_tracked(session)
            session.userinfo["circle"] = session
            gone = weakref.ref(session)
            gc.collect()
            assert gone() is session
            session.close()
            tracked = gc.is_tracked(session)
            assert tracked
            del session
            gc.collect()
            assert gone() is None

    arun(story)


def test_sessions_that_only_the_values_of_their_template_hold_go_with_it(arun: Any) -> None:
    class Register:
        def __init__(self) -> None:
            self.sessions: list[Any] = []

    async def story() -> list[weakref.ref[Any]]:
        register = Register()
        async with gr.App(state={"a": 1, "register": gr.shared(register)}) as app:
            register.sessions += [app.open_session() for _ in range(2)]
            async with register.sessions[0].turn() as state:
                state["a"] = 2
                del state
            assert register.sessions[1].ledger.resting
        return [weakref.ref(register), *map(weakref.ref, register.sessions)]

    left = arun(story)
    gc.collect()
    assert [one() for one in left] == [None, None, None]
