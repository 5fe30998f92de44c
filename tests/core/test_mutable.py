"""Values that report their own changes: wherever they lie, once, and to their own session only."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dataclasses
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.ledgers import changes, in_thread, opened, patch_of, seen

import greenroom as gr
from greenroom.core import mutable
from greenroom.core._state import journal_of
from greenroom.core._turn import Turn, enter_turn, leave_turn
from greenroom.core.mutable import PLACES, ROOM
from greenroom.core.state import State, Template


class Count(gr.MutableValue):
    """Has no ``__init__`` that calls ours: there is none."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def up(self) -> None:
        self.number += 1
        self.mutate()

    def to_dict(self) -> dict[str, Any]:
        return vars(self)  # nothing of ours is in it


def fresh(state: State) -> State:
    """A state whose patch so far is taken."""
    state.take_patch()
    return state


# ---------------------------------------------------------------- where it lies


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), lambda one: one),
        (("n", "m"), lambda one: one),
        ((), lambda one: [1, one]),
        (("n",), lambda one: [{"deep": ({"er": [one]},)}]),
    ],
    ids=["root", "nested", "in a list", "in dicts in tuples in lists"],
)
def test_a_change_is_sent_with_what_the_value_lies_in(
    path: tuple[str, ...], place: Callable[[Any], Any]
) -> None:
    count = Count()
    state = State({"n": {"m": {}}, "other": [1]})
    node = state
    for key in path:
        node = node[key]
    node["k"] = place(count)
    fresh(state)
    count.up()
    pointer = "".join(f"/{key}" for key in (*path, "k"))
    found = changes(state)
    assert list(found) == ["="]
    assert list(found["="]) == [pointer]
    assert '"number": 1' in str(found).replace("'", '"')


def test_it_is_sent_from_every_place_where_it_lies_and_once_from_each() -> None:
    count = Count()
    state = fresh(State({"a": count, "n": {"b": count}, "list": [count, count]}))
    state["n2"] = state["n"]  # a copy of the node, with the same value
    fresh(state)
    count.up()
    count.up()
    assert changes(state)["="] == {
        "/a": {"number": 2},
        "/n/b": {"number": 2},
        "/n2/b": {"number": 2},
        "/list": [{"number": 2}, {"number": 2}],
    }
    state["a"] = count  # assigned and reported: one
    count.up()
    del state["n"], state["n2"], state["list"]
    assert changes(state)["="] == {"/a": {"number": 3}}


def test_what_was_appended_reports_and_its_list_is_sent_whole() -> None:
    state = State({"list": []})
    count = Count()
    state.append("list", count)
    state.extend("list", [{"c": Count(7)}])
    fresh(state)
    state.append("list", 5)
    count.up()
    assert changes(state) == {"=": {"/list": [{"number": 1}, {"c": {"number": 7}}, 5]}}


def test_where_it_lies_no_more_nothing_is_sent() -> None:
    count = Count()
    state = State({"a": count, "n": {"b": count}, "l": [count]})
    state["a"] = 1
    state["n"] = {"b": 2}
    state["l"].clear()
    fresh(state)
    count.up()
    assert not state.take_patch()
    state.replace({"n": {"x": {"y": count}}})
    fresh(state)
    count.up()
    assert changes(state) == {"=": {"/n/x/y": {"number": 2}}}
    del state["n"]
    fresh(state)
    count.up()
    assert not state.take_patch()


def test_what_lies_nowhere_may_report_too() -> None:
    Count().up()
    count = Count()
    State({"a": count})  # gone
    gc.collect()
    count.up()


def test_what_is_put_into_a_list_in_place_is_seen_once_the_list_is_assigned() -> None:
    """As with lists in general: the state does not see inside."""
    state = fresh(State({"list": []}))
    count = Count()
    state["list"].append(count)
    count.up()
    assert not state.take_patch()
    state["list"] = state["list"]
    fresh(state)
    count.up()
    assert changes(state) == {"=": {"/list": [{"number": 2}]}}


def test_opaque_dicts_of_a_schema() -> None:
    class Board(State):
        options: dict[str, Any] = {}  # noqa: RUF012 -- a field

    board = Board()
    board.options = {"c": Count()}
    fresh(board)
    board.options["c"].up()
    assert changes(board) == {"=": {"/options": {"c": {"number": 1}}}}


def test_private_ones_are_sent_nowhere_and_ring_subscribers() -> None:
    state = State({"_c": Count(), "n": {"_l": [Count()]}})
    seen_values: list[Any] = []
    state.subscribe_mutation("_c", lambda payload: seen_values.append(payload["new_value"].number))
    fresh(state)
    state["_c"].up()
    state["n"]["_l"][0].up()
    assert seen_values == [1]
    assert not state.take_patch()


@given(st.lists(st.sampled_from(["a", "b", "n/a", "list", "gone", "fill"]), max_size=8))
def test_wherever_it_was_moved_the_patch_says_where_it_is(moves: list[str]) -> None:
    count = Count()
    state = State({"n": {}, "list": []})
    for move in moves:
        if move == "gone":
            state.replace({"n": {}, "list": []})
        elif move == "fill":
            state["a"] = "x"
        elif move == "n/a":
            state["n"]["a"] = count
        else:
            state[move] = [count] if move == "list" else count
    state.take_patch()
    count.up()
    sent = state.take_patch().set
    expected = {
        "/" + key.replace(".", "/")
        for key, value in {
            "a": state["a"],
            "b": state["b"],
            "n.a": state["n"]["a"],
            "list": (state["list"] or [None])[0],
        }.items()
        if value is count
    }
    assert set(sent) == expected


# ---------------------------------------------------------------- what can be one


@dataclasses.dataclass(slots=True)
class Slotted(gr.MutableValue):
    number: int = 0


@dataclasses.dataclass(frozen=True)
class Frozen(gr.MutableValue):
    number: int = 0


@attrs.define
class Attrs(gr.MutableValue):
    number: int = 0


class Model(gr.MutableValue, pydantic.BaseModel):
    number: int = 0


class Struct(gr.MutableValue, msgspec.Struct):
    number: int = 0


class Equal(Count):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Items(gr.MutableValue, list[int]):
    pass


@pytest.mark.parametrize("kind", [Count, Slotted, Frozen, Attrs, Model, Struct, Equal])
def test_any_class_can_be_one(kind: Any) -> None:
    ledger, state = opened({"a": [kind()]})
    for value in (state["a"][0], copy.copy(state["a"][0]), copy.deepcopy(state["a"][0]), kind()):
        state["a"] = [value]
        patch_of(ledger)
        ledger.open()
        value.mutate()
        assert patch_of(ledger) == {"=": {"/a": [{"number": 0}]}}
        ledger.open()


def test_a_list_can_be_one() -> None:
    items = Items([1])
    state = fresh(State({"a": items}))
    items.append(2)
    items.mutate()
    assert changes(state) == {"=": {"/a": [1, 2]}}


def test_what_nothing_can_refer_to_weakly_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match="no tuple"):

        class Pair(gr.MutableValue, tuple[int, ...]):
            pass


def test_one_that_has_no_form_costs_its_key_and_is_named() -> None:
    class Mute(gr.MutableValue):
        pass

    ledger, state = opened({"a": 1, "m": None})
    state["m"] = Mute()
    state["m"].mutate()
    state["a"] = 2
    assert patch_of(ledger) == {"=": {"/a": 2}, "-": ["/m"]}
    assert ledger.take_unencodable() == [("m", "Mute")]


def test_one_encoded_by_the_registry() -> None:
    class Dice(gr.MutableValue):
        eyes = 1

    gr.encoders[Dice] = lambda dice: dice.eyes
    try:
        state = fresh(State({"d": Dice()}))
        state["d"].eyes = 6
        state["d"].mutate()
        assert changes(state) == {"=": {"/d": 6}}
    finally:
        del gr.encoders[Dice]


def test_copies_and_pickles_carry_no_places() -> None:
    count = Count(3)
    state = fresh(State({"a": count}))
    for other in (copy.copy(count), copy.deepcopy(count), pickle.loads(pickle.dumps(count))):
        assert vars(other) == {"number": 3}
        other.up()
        assert not state.take_patch()


# ---------------------------------------------------------------- sessions


def test_each_session_has_a_copy_that_reports_to_it_alone() -> None:
    original = Count()
    template = Template({"a": original, "n": {"l": [Count(5)]}})
    ledgers = [template.open() for _ in range(3)]
    for ledger in ledgers:
        ledger.ship()
        ledger.snapshot()
        ledger.open()
    one, two, three = ledgers
    one.root["a"].up()
    two.root["n"]["l"][0].up()
    original.up()  # the template took a copy
    assert patch_of(one) == {"=": {"/a": {"number": 1}}}
    assert patch_of(two) == {"=": {"/n/l": [{"number": 6}]}}
    assert patch_of(three) is None
    assert seen(three.snapshot())["a"] == {"number": 0}


def test_a_default_of_a_schema_is_each_sessions_own() -> None:
    class Sub(State):
        count: Count = Count()

    class Game(State):
        sub: Sub
        count: Count = Count(10)

    template = Template(None, Game)
    one, two = template.open(), template.open()
    for ledger in (one, two):
        ledger.ship()
        ledger.snapshot()
        ledger.open()
    one.root["sub"]["count"].up()
    one.root["count"].up()
    assert patch_of(one) == {"=": {"/count": {"number": 11}, "/sub/count": {"number": 1}}}
    assert patch_of(two) is None
    one.open()
    one.root["sub"] = {}
    one.root["sub"]["count"].up()
    assert patch_of(one) == {"=": {"/sub": {"count": {"number": 1}}}}
    assert two.root["sub"]["count"].number == 0


def test_outside_of_the_turn_it_says_so() -> None:
    ledger, state = opened({"a": Count()})
    count = state["a"]
    with pytest.raises(gr.StaleTurn, match="a Count was changed outside of the turn"):
        in_thread(count.up)
    ledger.commit(True)
    with pytest.raises(gr.StaleTurn, match=r"with session\.turn"):
        count.up()
    ledger.open()
    count.up()
    assert patch_of(ledger) == {"=": {"/a": {"number": 3}}}


def test_once_no_session_has_it_any_thread_may_change_it() -> None:
    ledger, state = opened({"a": Count()})
    count = state["a"]
    del state["a"]
    ledger.commit(True)
    in_thread(count.up)
    assert count.number == 1


def test_in_a_thread_that_the_turn_started_it_is_refused(arun: Any) -> None:
    """``asyncio.to_thread`` takes the context along, and with it the turn, but not the right."""

    def start(state: Any) -> None:
        context = contextvars.copy_context()
        in_thread(lambda: context.run(state["a"].up))

    async def story() -> None:
        async with gr.App(state={"a": Count()}, handlers=[start]) as app:
            with pytest.raises(gr.StaleTurn):
                await app.open_session().ask("start")

    arun(story)


def test_what_several_sessions_hold_is_sent_in_the_session_whose_turn_it_is() -> None:
    count = Count()
    one, state = opened({})
    two, other = opened({})
    state["a"] = other["b"] = count
    for ledger in (one, two):
        patch_of(ledger)
    one.open()
    count.up()
    assert patch_of(one) == {"=": {"/a": {"number": 1}}}
    assert patch_of(two) is None
    two.open()
    count.mutate()
    assert patch_of(two) == {"=": {"/b": {"number": 1}}}


def test_turns_that_wait_on_the_loop_hear_nothing_of_each_others(arun: Any) -> None:
    """Both turns are the loop's, so the thread alone would not tell them apart."""
    count = Count()
    gates: dict[str, Any] = {}

    async def hold(state: Any, payload: str) -> None:
        state["c"] = count
        gates[payload] = asyncio.Event()
        await gates[payload].wait()
        if payload == "one":
            state.subscribe_mutation("c", lambda: gates.setdefault("rang", True))
            count.up()

    async def story() -> None:
        async with gr.App(state={"c": None}, handlers=[hold]) as app:
            one, two = app.open_session(), app.open_session()
            rang: list[str] = []
            two.ledger.open()
            two.ledger.root.subscribe_mutation("c", lambda: rang.append("two"))
            two.ledger.commit(False)
            first = asyncio.ensure_future(_wait(one, "one"))
            second = asyncio.ensure_future(_wait(two, "two"))
            while len(gates) < 2:
                await asyncio.sleep(0)
            rang.clear()
            gates["one"].set()
            await first
            assert gates["rang"] is True
            assert rang == []
            gates["two"].set()
            await second

    arun(story)


@pytest.mark.parametrize("others", ["task", "job", "other session"])
def test_beside_a_turn_that_waits_on_the_loop_it_is_refused(arun: Any, others: str) -> None:
    """The value is at hand in ``session.state``; to change it there is not to be in the turn."""

    async def story() -> None:
        gate, inside = asyncio.Event(), asyncio.Event()
        refused: list[bool] = []

        async def hold(state: Any) -> None:
            inside.set()
            await gate.wait()

        @gr.handler(concurrent=True)
        async def job(session: Any) -> None:
            attempt(session)

        async def edit(state: Any, payload: str) -> None:
            attempt(app.sessions[payload])

        def attempt(session: Any) -> None:
            for edit in (session.state["c"].up, lambda: session.state["table"].remove(0)):
                with pytest.raises(gr.StaleTurn):
                    edit()
                refused.append(True)

        app = gr.App(
            state={"c": Count(), "table": gr.EditableTable([{"a": 1}])},
            handlers=[hold, job, edit],
        )
        async with app:
            one, two = app.open_session(), app.open_session()
            waiting = asyncio.ensure_future(_ask(one, "hold"))
            await inside.wait()
            if others == "task":
                attempt(one)
            elif others == "job":
                await _ask(one, "job")
            else:
                await _ask(two, "edit", one.id)
            assert len(refused) == 2
            assert len(one.state["table"]) == 1
            gate.set()
            await waiting

    arun(story)


async def _ask(session: Any, event: str, payload: Any = None) -> Any:
    return await session.ask(event, payload)


async def _wait(session: Any, payload: str) -> Any:
    return await session.ask("hold", payload)


# ---------------------------------------------------------------- shared ones


def test_a_shared_one_reports_to_the_session_whose_turn_changes_it(arun: Any) -> None:
    shared = Count()

    def up(state: Any) -> None:
        state["n"]["c"].up()

    def take(state: Any) -> None:
        state["mine"] = [gr.shared(1), shared]
        state["other"] = gr.shared(shared)

    async def story() -> None:
        async with gr.App(state={"n": {"c": gr.shared(shared)}}, handlers=[up, take]) as app:
            one, two = app.open_session(), app.open_session()
            for session in (one, two):
                session.ledger.snapshot()
            assert one.state["n"]["c"] is two.state["n"]["c"] is shared
            shared.up()  # no turn, nobody to tell
            async with one.turn() as state:
                state["n"]["c"].up()
                found = one.ledger.ship()
                one.ledger.shipped()
            assert found is not None
            assert found.set == {"/n/c": {"number": 2}}
            assert two.ledger.ship() is None

    arun(story)


def test_a_shared_default_of_a_schema(arun: Any) -> None:
    shared = Count()

    class Game(State):
        count: Any = gr.shared(shared)

    async def story() -> None:
        async with gr.App(state=Game) as app:
            session = app.open_session()
            session.ledger.snapshot()
            async with session.turn() as state:
                assert state["count"] is shared
                shared.up()
                found = session.ledger.ship()
                session.ledger.shipped()
            assert found is not None
            assert found.set == {"/count": {"number": 1}}

    arun(story)


# ---------------------------------------------------------------- turns


def test_subscribers_hear_of_it_like_of_an_assignment() -> None:
    ledger, state = opened({"n": {"c": Count()}, "total": 0})
    heard: list[Any] = []

    def total(state: Any, payload: Any, context: Any) -> None:
        heard.append(context)
        assert payload["new_value"] is payload["previous_value"] is state["n"]["c"]
        state["total"] = payload["new_value"].number

    state.subscribe_mutation("n.c", total)
    state["n"]["c"].up()
    assert heard == [{"event": "mutation", "mutation": "n.c"}]
    assert patch_of(ledger) == {"=": {"/n/c": {"number": 1}, "/total": 1}}


def test_a_subscriber_may_take_it_away_from_its_other_places() -> None:
    count = Count()
    ledger, state = opened({})
    state.update({"a": count, "b": count})
    patch_of(ledger)
    ledger.open()
    for one, other in ("ab", "ba"):

        def take(state: Any, payload: Any, other: str = other) -> None:
            if payload["new_value"] is count:
                state[other] = None

        state.subscribe_mutation(one, take)
    count.up()
    assert patch_of(ledger) == {"=": {"/a": {"number": 1}, "/b": None}}


def test_what_was_changed_in_a_turn_that_is_undone_is_sent_as_it_is() -> None:
    """Inside the value nothing can be undone; clients must not go on with what it was."""
    ledger, state = opened({"c": Count(), "x": 1})
    heard: list[int] = []
    patch_of(ledger)
    ledger.snapshot()
    ledger.open()
    state.subscribe_mutation("c", lambda: heard.append(1))
    state["c"].up()
    state["x"] = 2
    ledger.rollback(True)
    assert heard == [1]
    assert patch_of(ledger) == {"=": {"/c": {"number": 1}}}
    assert state["x"] == 1
    assert ledger.snapshot()[1] == ledger.position


def test_undone_twice_it_is_still_sent() -> None:
    """A middleware that fails after the handler did undoes the turn again."""
    ledger, state = opened({"c": Count()})
    patch_of(ledger)
    ledger.open()
    state["c"].up()
    ledger.undo()
    ledger.undo()
    ledger.rollback(True)
    assert patch_of(ledger) == {"=": {"/c": {"number": 1}}}
    ledger.open()
    ledger.rollback(True)  # the next turn knows nothing of it
    assert patch_of(ledger) is None


def test_an_interrupt_in_an_undo_ends_the_turn_all_the_same() -> None:
    class Watched(gr.State):
        c: Any = gr.shared(None)

        @gr.property("c")
        def shown(self) -> int:
            if self.c is not None and self.c.number == 1:
                raise KeyboardInterrupt
            return 0

    ledger, state = opened(Watched({"c": Count()}))
    state["c"].up()
    with pytest.raises(KeyboardInterrupt):
        ledger.rollback(True)
    assert not ledger.in_turn
    ledger.open()
    state["c"].up()
    assert patch_of(ledger) == {"=": {"/c": {"number": 2}, "/shown": 0}}


def test_a_rollback_brings_it_back_to_where_it_reports() -> None:
    count = Count()
    ledger, state = opened({"n": {}})
    state["n"]["c"] = count
    patch_of(ledger)
    ledger.open()
    del state["n"]
    count.up()  # lies nowhere
    ledger.rollback(True)
    patch_of(ledger)
    ledger.open()
    count.up()
    assert patch_of(ledger) == {"=": {"/n/c": {"number": 2}}}


def test_a_partial_push_takes_it_and_the_next_sends_it_again() -> None:
    ledger, state = opened({"c": Count()})
    patch_of(ledger)
    ledger.open()
    state["c"].up()
    first = ledger.ship()
    ledger.shipped()
    state["c"].up()
    assert first is not None
    assert first.set == {"/c": {"number": 1}}
    assert patch_of(ledger) == {"=": {"/c": {"number": 2}}}


def test_due_pushes_see_it() -> None:
    ledger, state = opened({"c": Count()})
    pushed: list[Any] = []

    def push() -> None:
        patch = ledger.ship()
        ledger.shipped()
        pushed.append(patch and patch.set)

    ledger.on_due = push
    ledger.due = True
    state["c"].up()
    assert pushed == [{"/c": {"number": 1}}]
    assert not ledger.due
    state["c"].up()
    assert len(pushed) == 1


def test_an_encoder_may_not_report() -> None:
    class Sly(Count):
        def to_dict(self) -> dict[str, Any]:
            self.mutate()
            return {}

    ledger, state = opened({"c": None})
    state["c"] = Sly()
    assert patch_of(ledger) == {"-": ["/c"]}
    assert "StaleTurn" in ledger.take_unencodable()[0][1]


# ---------------------------------------------------------------- calculated properties


class Game(State):
    count: Count = Count()
    limit: int = 10

    @gr.property("count")
    def left(self) -> int:
        if self.count.number > self.limit:
            raise ValueError("too many")
        return self.limit - self.count.number


def test_a_property_is_calculated_from_it() -> None:
    ledger = Template(None, Game).open()
    ledger.snapshot()
    ledger.open()
    ledger.root["count"].up()
    ledger.root["count"].up()
    assert patch_of(ledger) == {"=": {"/count": {"number": 2}, "/left": 8}}


def test_after_an_undo_a_property_is_calculated_from_what_it_is_now() -> None:
    ledger = Template(None, Game).open()
    ledger.snapshot()
    ledger.open()
    ledger.root["count"].up()
    ledger.rollback(True)
    assert patch_of(ledger) == {"=": {"/count": {"number": 1}, "/left": 9}}
    ledger.open()
    ledger.root["count"].number = 20
    ledger.root["count"].mutate()
    with pytest.raises(ValueError, match="too many"):
        ledger.settle()
    ledger.rollback(True)  # nor can it be calculated now: its last value stands
    assert not ledger.in_turn
    assert patch_of(ledger) == {"=": {"/count": {"number": 20}}}
    assert ledger.root["left"] == 9


# ---------------------------------------------------------------- what is left behind


def test_the_table_of_places_ends_with_its_values_and_holds_no_session() -> None:
    before = len(PLACES)
    ledger, state = opened({"c": [Count() for _ in range(5)]})
    kept = state["c"][0]
    journal = weakref.ref(journal_of(ledger.root) or ledger)
    assert len(PLACES) == before + 5
    gc.disable()
    try:
        ledger.commit(False)
        del ledger, state
        assert journal() is None
        assert len(PLACES) == before + 1
        kept.up()
        del kept
        assert len(PLACES) == before
    finally:
        gc.enable()


def test_places_where_it_lies_no_more_do_not_pile_up() -> None:
    count = Count()
    ledger, state = opened({"seats": {}})
    for seat in range(10 * ROOM):
        state["seats"] = {str(seat): count}
        patch_of(ledger)
        ledger.open()
    assert sum(map(len, PLACES[id(count)].own.values())) <= 2 * ROOM
    count.up()
    assert patch_of(ledger) == {"=": {f"/seats/{10 * ROOM - 1}": {"number": 1}}}
    for _ in range(10 * ROOM):  # sessions that are gone
        other, place = opened({})
        place["c"] = count
        other.commit(False)
    assert len(PLACES[id(count)].own) <= 2 * ROOM


def test_one_of_very_many_sessions_is_not_looked_for_in_all(monkeypatch: Any) -> None:
    count = Count()
    ledgers = [opened({"c": None})[0] for _ in range(5 * ROOM)]
    for ledger in ledgers:
        ledger.root["c"] = count
        ledger.commit(False)
    looked: list[Any] = []
    found_in = mutable._found_in

    def look(value: gr.MutableValue, home: Any) -> Any:
        looked.append(home)
        return found_in(value, home)

    monkeypatch.setattr(mutable, "_found_in", look)
    ledgers[7].open()
    token = enter_turn(Turn(ledger=ledgers[7]))
    try:
        count.up()
    finally:
        leave_turn(token)
    assert looked == [journal_of(ledgers[7].root)]
    assert patch_of(ledgers[7]) == {"=": {"/c": {"number": 1}}}
    assert not any(ledger.dirty for ledger in ledgers)


def test_many_threads_may_read_their_copies_at_once() -> None:
    template = Template({"c": [Count() for _ in range(50)]})
    found: list[int] = []

    def read() -> None:
        ledger = template.open()
        ledger.open()
        for count in ledger.root["c"]:
            count.up()
        patch = ledger.ship()
        ledger.shipped()
        assert patch is not None
        found.append(len(patch.set["/c"]))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [50] * 8
