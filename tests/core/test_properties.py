"""Calculated properties: fresh when read, sent once per turn, in every state of their class."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from tests.core.ledgers import changes, in_thread, patch_of, seen
from tests.core.schemas import EMPTY, Cart, Item, Ratio, runs

import greenroom as gr
from greenroom.core._calculated import Calculated
from greenroom.core.state import Ledger, Template

Arun = Any


@pytest.fixture(autouse=True)
def count_anew() -> None:
    """No test sees the runs of another."""
    runs.clear()


def opened(values: Any = None, schema: type[gr.State] | None = Cart) -> Ledger:
    """A ledger with an open turn, which clients have seen."""
    ledger = Template({} if values is None else values, schema).open()
    ledger.ship()
    ledger.snapshot()
    ledger.open()
    return ledger


MAKES = pytest.mark.parametrize(
    "make",
    [
        Cart,
        lambda: (Cart(), Cart())[1],
        lambda: opened().root,
        lambda: opened(Cart(), None).root,
        lambda: gr.State({"sub": Cart()})["sub"],
        lambda: opened({"sub": Cart()}, None).root["sub"],
    ],
    ids=["alone", "again", "session", "session of an instance", "nested", "nested in a session"],
)


@MAKES
def test_they_are_ordinary_keys_from_the_start(make: Any) -> None:
    state = make()
    assert state == EMPTY
    assert state.to_raw_state() == EMPTY
    assert state.to_dict()["summary"] == {"count": 0}
    assert "_hidden" not in state.to_dict()
    assert set(EMPTY) == set(state.keys()) == set(state) == set(dict(state.items()))
    assert "net" in state
    assert len(state) == len(EMPTY)
    assert state.net == state["net"] == state.get("net") == state.setdefault("net", 5) == 2


@MAKES
def test_they_are_fresh_when_read(make: Any) -> None:
    state = make()
    runs.clear()
    state.item.price = 5
    assert not runs  # nothing runs in an assignment
    assert state.gross == 15
    assert state["net"] == 5
    assert state.item.total == state["item"]["total"] == 5
    assert runs == {"total": 1, "net": 1, "gross": 1}
    state.other = {"price": 1}
    assert state.gross == 16
    state.other.count = 3
    assert dict(state.items())["gross"] == 18
    del state["other"]
    assert state.net == 5
    state.append("marks", 3)
    assert state.summary == {"count": 1, "_sum": 3}
    assert state._hidden == 1
    state["rows"] = {"a": 1}
    state["rows"]["b"] = 7
    assert state.most == 7
    assert 7 in list(state.values())
    del state["rows"]["b"]
    assert state.to_dict()["most"] == 1
    state.rows.extend("list", [])  # a change below counts like one of the rows
    del state.rows["list"]
    assert state.most == 1


def test_a_patch_has_each_once_however_much_was_assigned() -> None:
    ledger = opened()
    runs.clear()
    for price in range(1000):
        ledger.root.item.price = price
    assert patch_of(ledger) == {
        "=": {"/item/price": 999, "/item/total": 999, "/net": 999, "/gross": 1009}
    }
    assert runs == {"total": 1, "net": 1, "gross": 1}
    state = Cart()
    state.take_patch()
    runs.clear()
    for price in range(1000):
        state.item.price = price
    assert changes(state)["="]["/gross"] == 1009
    assert runs == {"total": 1, "net": 1, "gross": 1}
    assert not state.take_patch()


def test_what_was_not_concerned_is_not_calculated() -> None:
    ledger = opened()
    runs.clear()
    ledger.root["elsewhere"] = 1
    ledger.root.item["note"] = 1
    assert patch_of(ledger) == {"=": {"/elsewhere": 1, "/item/note": 1}}
    assert not runs


def test_among_many_stale_ones_only_those_of_the_place_are_calculated() -> None:
    ledger = Template({"rows": {str(row): Item() for row in range(50)}, "cart": Cart()}).open()
    ledger.open()
    rows, cart = ledger.root["rows"], ledger.root["cart"]
    for row in rows:
        rows[row].count = 3
    cart.item.price = 5
    cart["extra"] = {"deep": {"item": cart.item}}  # copied, and so calculated
    runs.clear()
    assert rows["7"].to_dict() == {"price": 2, "count": 3, "total": 6}
    assert runs == {"total": 1}
    assert len(rows.items()) == 50  # each is calculated when it is read
    assert runs == {"total": 1}
    assert cart.to_dict()["item"]["total"] == 5
    cart.extra.deep.item.price = 7
    assert cart == {**cart.to_raw_state(), "net": 5}
    assert cart.extra.to_dict() == {"deep": {"item": {"price": 7, "count": 1, "total": 7}}}
    runs.clear()
    assert {row["total"] for row in rows.to_dict().values()} == {6}
    assert runs == {"total": 49}
    ledger.commit(False)
    assert runs == {"total": 49}


def test_an_equal_value_is_a_change_like_any_other() -> None:
    ledger = opened()
    ledger.root.rows = {"a": 0}
    assert patch_of(ledger) == {"=": {"/rows": {"a": 0}, "/most": 0}}


def test_every_session_has_its_own() -> None:
    template = Template({}, Cart)
    one, two = template.open(), template.open()
    for ledger, price in ((one, 3), (two, 4)):
        ledger.open()
        ledger.root.item.price = price
        ledger.root.marks.append(price)
        ledger.root.marks = ledger.root.marks
    assert (one.root.gross, two.root.gross) == (13, 14)
    for ledger in (one, two):
        ledger.commit(True)
    assert (one.root.summary["_sum"], two.root.summary["_sum"]) == (3, 4)
    assert template.open().root == EMPTY == Cart()


def test_snapshots_have_them() -> None:
    ledger = opened({"item": {"price": 7}})
    ledger.commit(True)
    assert seen(ledger.snapshot())["gross"] == 17
    ledger.open()
    ledger.root.item.price = 8
    ledger.ship()  # mid-turn, by its own thread
    ledger.shipped()
    assert seen(ledger.snapshot())["gross"] == 18


def test_a_push_from_beside_the_turn_leaves_them_for_the_turn() -> None:
    ledger = opened()
    runs.clear()
    ledger.root.item.price = 8

    def beside() -> tuple[Any, Any, Any]:
        return ledger.ship(foreign=True), seen(ledger.snapshot(foreign=True)), ledger.view.gross

    patch, snapshot, read = in_thread(beside)
    assert not runs  # the loop runs nothing of a turn that is a worker's
    assert patch.set == {"/item/price": 8}
    assert read == 12  # the last value
    assert snapshot["item"]["price"] == 8
    assert ledger.dirty
    later = ledger.ship()
    assert later is not None
    assert later.set == {"/item/total": 8, "/net": 8, "/gross": 18}
    ledger.rollback(True)
    undone = ledger.ship()
    assert undone is not None
    assert undone.set == {"/item/price": 2, "/item/total": 2, "/net": 2, "/gross": 12}


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("shipped", [False, True])
def test_a_rollback_gives_them_back(read: bool, shipped: bool) -> None:
    ledger = opened()
    item = ledger.root.item
    ledger.root.item.price = 5
    ledger.root.marks = [1]
    ledger.root.other = {"count": 9}
    if shipped:
        ledger.ship()
        ledger.shipped()
    if read:
        assert ledger.root.gross == 33
    ledger.root.item = {"price": 100}
    if read:
        assert ledger.root.gross == 128
        assert item.total == 5  # of a removed state
    ledger.rollback(True)
    assert ledger.root == EMPTY
    patch = ledger.ship()
    ledger.shipped()
    assert (patch is not None) == shipped
    ledger.open()
    runs.clear()
    assert ledger.root.gross == 12
    assert not runs  # nothing is stale
    item.price = 6  # it is back in its place
    assert ledger.root.gross == 16


def test_undo_goes_on_with_the_turn() -> None:
    ledger = opened()
    ledger.root.item.price = 5
    ledger.undo()
    assert ledger.root.gross == 12
    ledger.root.rate = 1
    assert ledger.root.gross == 3
    ledger.mark()
    ledger.root.rate = 2
    ledger.undo()
    assert patch_of(ledger) == {"=": {"/rate": 1, "/gross": 3}}


def test_a_mark_is_a_start_with_nothing_stale() -> None:
    ledger = opened()
    ledger.root.rate = 1
    ledger.mark()
    ledger.undo()
    assert ledger.root.gross == 3


def test_a_removed_state_is_right_too() -> None:
    ledger = opened()
    item = ledger.root.item
    item.price = 50
    ledger.root.item = {"price": 1}
    assert item.total == 50
    with pytest.raises(gr.Detached):
        item.price = 3
    assert ledger.root.item.total == 1
    assert patch_of(ledger) == {
        "=": {"/item": {"price": 1, "count": 1, "total": 1}, "/net": 1, "/gross": 11}
    }
    parent = Cart({"item": {"price": 4}})
    item = parent.item
    item.count = 2
    del parent["item"]
    assert item == {"price": 4, "count": 2, "total": 8}


def test_what_a_removed_state_raises_concerns_nobody() -> None:
    ledger = Template({"half": Half()}).open()
    ledger.open()
    for remove in (ledger.root.pop, lambda key: ledger.root.update({key: Half({"by": 5})})):
        ledger.root["half"] = Half()
        removed = ledger.root["half"]
        removed.by = 0
        remove("half")
        with pytest.raises(ZeroDivisionError):
            removed["part"]
        ledger.ship()
        ledger.shipped()
        ledger.settle()
        assert removed.part == 10
    assert patch_of(ledger) is None
    assert ledger.root.to_dict() == {"half": {"by": 5, "part": 2}}


class Half(gr.State):
    """A state whose property may have no value."""

    by: int = 1

    @gr.property("by")
    def part(self) -> int:
        """Raises ZeroDivisionError."""
        return 10 // self.by


def test_a_removed_state_with_a_nested_result_is_all_removed() -> None:
    ledger = opened({"cart": Cart()}, None)
    cart = ledger.root["cart"]
    cart.marks = [1, 2]
    ledger.root["cart"] = None
    assert cart.summary["count"] == 2
    with pytest.raises(gr.Detached):
        cart.summary["count"] = 1
    ledger.rollback(True)
    assert ledger.root["cart"] == EMPTY


def test_replace_and_parents() -> None:
    state = Cart()
    state.item.price = 9
    state.replace({"item": {"count": 4}, "gross": -1, "extra": 1})
    assert state == {
        **EMPTY,
        "item": {"price": 2, "count": 4, "total": 8},
        "net": 8,
        "gross": 18,
        "extra": 1,
    }
    state.clear()
    assert state == EMPTY
    state.item.replace({})
    assert state.item == EMPTY["item"]
    holder = gr.State({"a": {"cart": Cart()}})
    holder["a"] = {"cart": holder["a"]["cart"], "more": 1}
    holder["a"]["cart"].rate = 1
    assert holder["a"]["cart"].gross == 3


def test_values_that_carry_a_property_do_not_set_it() -> None:
    saved = {**EMPTY, "net": 500, "item": {"price": 3, "total": 100}}
    for state in (Cart(saved), opened(saved).root, Template(Cart(saved)).open().root):
        assert (state.net, state.item.total) == (3, 3)


def test_copies_are_calculated_anew() -> None:
    state = Cart()
    state.item.price = 7
    copy = Cart(state)
    copy.item.count = 2
    assert (state.gross, copy.gross) == (17, 24)
    state["twin"] = state.item  # of what is stale
    assert state["twin"].total == 7
    plain = gr.State()
    state.item.price = 8
    plain["item"] = state.item.to_dict()
    assert plain["item"]["total"] == 8
    state.item.price = 9
    assert gr.State({"of": state})["of"]["gross"] == 19
    assert state == Cart(state)


@pytest.mark.parametrize(
    "copy",
    [
        gr.State,
        lambda state: Template(state, Free).root,
        lambda state: replaced(by=state),
        lambda state: replaced(Template({"in": state}).open().view["in"]),
    ],
    ids=["State(state)", "Template", "replace", "replace by a view"],
)
def test_copies_without_the_class_have_its_fresh_value(copy: Any) -> None:
    """There it is a key like any other, so nobody would ever calculate it."""
    item = Item()
    item.price = 7
    assert copy(item)["total"] == 7


class Free(gr.State):
    """What Item calculates is a field here."""

    total: int = 0


def replaced(by: Any) -> gr.State:
    state = gr.State()
    state.replace(by)
    return state


@MAKES
def test_nobody_assigns_them(make: Any) -> None:
    state = make()
    attempts: list[Any] = [
        lambda: state.__setitem__("net", 1),
        lambda: state.__delitem__("net"),
        lambda: state.pop("net"),
        lambda: state.append("net", 1),
        lambda: state.update(net=1),
    ]
    for attempt in attempts:
        with pytest.raises(TypeError, match=r"Cart\.net is calculated from item\.total and other"):
            attempt()
    with pytest.raises(AttributeError, match=r"Cart\.net is calculated .*assign there"):
        state.net = 1
    with pytest.raises(AttributeError, match=r"Cart\.net is calculated"):
        del state.net
    for _ in range(5):
        state.popitem()
    with pytest.raises(KeyError):
        state.popitem()
    assert set(state) == {"net", "gross", "most", "summary", "_hidden"}


def test_the_function_does_not_assign() -> None:
    class Bad(gr.State):
        a: int = 0
        b: int = 0

        @gr.property("a")
        def twice(self) -> int:
            if self.a:
                self["b"] = self.a
            return 1

        @gr.property("twice")
        def beyond(self) -> int:
            return self.twice

    for name in ("twice", "beyond"):
        ledger = opened({}, Bad)
        ledger.root["a"] = 1
        with pytest.raises(TypeError, match="a calculated property assigned") as caught:
            _ = ledger.root[name]
        assert "while Bad.twice was calculated" in caught.value.__notes__
        ledger.root["b"] = 5  # afterwards the handler may
        assert ledger.root.b == 5
        ledger.rollback(True)

    class Always(gr.State):
        a: int = 0

        @gr.property("a")
        def bad(self) -> int:
            self.a += 1
            return 1

    with pytest.raises(
        ValueError, match=r"Always\.bad .*TypeError: a calculated property assigned"
    ):
        Always()


def test_a_property_that_reads_itself() -> None:
    class Own(gr.State):
        a: int = 0

        @gr.property("a")
        def again(self) -> int:
            return (self["again"] or 0) + self.a

    state = Own()
    state.a = 1
    with pytest.raises(RecursionError, match=r"Own\.again is calculated from itself"):
        _ = state.again


def test_inheritance() -> None:
    class Special(Cart):
        fee: int = 1

        @gr.property(["fee", "item"])
        def net(self) -> int:
            return super().net + self.fee

        @gr.property("gross")
        def words(self) -> str:
            return f"{self.gross} EUR"

    state = Special()
    assert (state.net, state.gross, state.words) == (3, 13, "13 EUR")
    state.fee = 2
    assert (state.words, state.gross) == ("14 EUR", 14)
    assert Cart().net == 2
    holder = gr.State({"cart": Special()})
    holder["cart"].item.price = 5
    assert holder["cart"].words == "16 EUR"
    assert isinstance(Special.net, Calculated)

    class Plain(Cart):
        net: int = 40  # an ordinary field again

    state = Plain()  # type: ignore[assignment]
    state.net = 41  # type: ignore[assignment]
    assert state.gross == 51

    class Method(Cart):
        def net(self) -> int:  # type: ignore[override]
            return 1

        @gr.property("rate")
        def gross(self) -> int:
            return self.net() + self.rate

    assert Method().gross == 11
    assert "net" not in Method()

    class Mixin:
        @gr.property("price")
        def half(self: Any) -> float:
            return float(self.price / 2)

    class Mixed(Mixin, Item):
        pass

    mixed = Mixed()
    mixed.price = 5
    assert (mixed.half, mixed.total) == (2.5, 5)
    with pytest.raises(TypeError, match=r"gr\.property of a Mixin: it belongs into a class"):
        _ = Mixin().half


def test_only_properties_and_no_field() -> None:
    class Bare(gr.State):
        @gr.property("a")
        def next(self) -> int:
            return (self["a"] or 0) + 1

    state = Bare()
    assert state == {"next": 1}
    state["a"] = 5
    assert state.next == 6


@pytest.mark.parametrize(
    ("path", "error"),
    [(5, "a path is a string"), ((), "at least one key"), ("", "empty key"), ([], "one path")],
)
def test_bad_paths(path: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        gr.property(path)


def test_bad_properties_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Two\.sum is calculated from the state alone: write `def"):

        class Two(gr.State):
            @gr.property("a")  # type: ignore[arg-type]
            def sum(self, state: Any) -> int:
                return 1

    with pytest.raises(TypeError, match=r"NoSelf\.sum .*def sum\(self\)"):

        class NoSelf(gr.State):
            @gr.property("a")  # type: ignore[arg-type]
            @staticmethod
            def sum() -> int:
                return 1

    with pytest.raises(TypeError, match=r"cannot be async: fetch in a handler"):

        class Async(gr.State):
            @gr.property("a")
            async def sum(self) -> int:
                return 1

    with pytest.raises(TypeError, match="return a list"):

        class Generator(gr.State):
            @gr.property("a")
            def sum(self) -> Any:
                yield 1

    with pytest.raises(TypeError, match=r"write @gr\.property\(\"key\"\)"):

        class Bare(gr.State):
            @gr.property  # type: ignore[arg-type]
            def sum(self) -> int:  # type: ignore[misc]
                return 1

    with pytest.raises(TypeError, match=r"Method\.items cannot be a gr\.property"):

        class Method(gr.State):
            @gr.property("a")
            def items(self) -> Any:
                return 1

    with pytest.raises(TypeError, match=r"Alias\.\w+ and \w+ are one gr\.property"):

        class Alias(gr.State):
            @gr.property("a")
            def one(self) -> int:
                return 1

            two = one

    with pytest.raises(TypeError, match=r"Circle .*one from two from three from one"):

        class Circle(gr.State):
            @gr.property("two.x")
            def one(self) -> Any:
                return self.two

            @gr.property(["three", "a"])
            def two(self) -> Any:
                return self.three

            @gr.property("one")
            def three(self) -> Any:
                return self.one

    with pytest.raises(TypeError, match="hides a field of Item"):

        class Hiding(Item):
            @gr.property("count")
            def price(self) -> int:
                return self.count


def test_no_first_value_names_class_and_property() -> None:
    for make in (
        lambda: Ratio({"b": 0}),
        lambda: Template({"b": 0}, Ratio),
        lambda: gr.State().update(sub=Ratio({"b": 0})),
        lambda: gr.App(state=Template({"b": 0}, Ratio)),
    ):
        with pytest.raises(ValueError, match=r"Ratio\.ratio cannot be .*: ZeroDivisionError: div"):
            make()


def test_an_error_leaves_it_stale_until_it_works() -> None:
    ledger = opened({}, Ratio)
    ledger.root.b = 0
    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as caught:
            _ = ledger.root.ratio
        assert caught.value.__notes__ == ["while Ratio.ratio was calculated"]
    patch = ledger.ship()  # a partial push goes without it
    assert patch is not None
    assert patch.set == {"/b": 0}
    ledger.shipped()
    ledger.root.b = 2
    assert ledger.root.ratio == 0.5
    ledger.root.b = 0
    with pytest.raises(ZeroDivisionError):
        ledger.settle()
    ledger.rollback(True)
    assert ledger.root == {"a": 1, "b": 1, "ratio": 1}
    state = Ratio()
    state.b = 0
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            state.take_patch()
        with pytest.raises(ZeroDivisionError):
            state.to_dict()
    assert repr(state) == "Ratio({'a': 1, 'b': 0, 'ratio': 1.0})"
    state.b = 4
    assert state.take_patch().set == {"/b": 4, "/ratio": 0.25}


def test_an_error_elsewhere_does_not_disturb() -> None:
    state = gr.State({"one": Ratio(), "two": Ratio()})
    state["one"].b = 0
    state["two"].b = 2
    assert state["two"].to_dict() == {"a": 1, "b": 2, "ratio": 0.5}
    with pytest.raises(ZeroDivisionError):
        state.to_raw_state()


def test_another_thread_reads_the_last_value() -> None:
    ledger = opened()
    ledger.root.item.price = 5
    assert in_thread(lambda: (ledger.root.gross, ledger.view.to_dict()["gross"])) == (12, 12)
    assert ledger.view.gross == 15  # the owner's view is fresh
    ledger.root.item.price = 6
    ledger.adopt()
    ledger.commit(True)
    assert in_thread(lambda: ledger.view.gross) == 16


def test_a_thread_without_the_turn_disturbs_no_calculation() -> None:
    """A dict becomes a state with properties before the wrong thread is refused."""
    ledger = opened()
    inside, go_on = threading.Event(), threading.Event()

    class Slow(gr.State):
        @gr.property("a")
        def value(self) -> int:
            inside.set()
            assert go_on.wait(10)
            return 1

    go_on.set()
    slow = Slow()
    inside.clear()
    go_on.clear()

    def assign() -> None:
        with pytest.raises(gr.StaleTurn):
            ledger.root["slow"] = slow

    thread = threading.Thread(target=assign)
    thread.start()
    assert inside.wait(10)
    ledger.root.rate = 3  # the owner assigns while the other calculates
    assert ledger.root.gross == 5  # and calculates
    ledger.root.rate = 4
    go_on.set()
    thread.join()
    assert ledger.root.gross == 6


def test_closing_a_session_in_a_turn() -> None:
    ledger = opened()
    ledger.root.item.price = 5
    ledger.end()
    assert ledger.root.gross == 15
    ledger.root.item.price = 6
    assert ledger.root.gross == 16
    ledger.commit(False)
    ledger.end()


def test_nothing_is_held_by_what_is_stale() -> None:
    template = Template({}, Cart)
    gc.disable()
    try:
        ledger = template.open()
        ledger.open()
        ledger.root.update({"item": {"price": 3}, "marks": [1]})
        ledger.root.item.price = 5
        assert ledger.root.gross == 15
        ledger.root.item.price = 6
        ledger.commit(True)
        ledger.open()
        ledger.root.item.price = 7
        ledger.rollback(True)
        refs = [weakref.ref(one) for one in (ledger.root, ledger.root.item)]
        ledger.end()
        del ledger
        assert [ref() for ref in refs] == [None] * 2
        state = Cart()
        state.item.price = 3
        state.take_patch()
        ref = weakref.ref(state)
        del state
        assert ref() is None
    finally:
        gc.enable()


# -- subscribers of properties


def watched(state: gr.State, path: Any) -> list[tuple[Any, Any]]:
    """What a subscriber of a path hears."""
    heard: list[tuple[Any, Any]] = []
    state.subscribe_mutation(
        path, lambda payload: heard.append((payload["previous_value"], payload["new_value"]))
    )
    return heard


def test_a_subscriber_hears_of_each_new_value() -> None:
    for state in (Cart(), opened().root):
        heard = watched(state, "gross")
        inner = watched(state, ("item", "total"))
        state.item.price = 5
        state.item.price = 6
        state.rate = 1
        state.item = {"price": 1}
        state["rows"] = {}
        assert heard == [(12, 15), (15, 16), (16, 7), (7, 2)]
        assert inner == [(2, 5), (5, 6), (6, 1)]


def test_subscribers_of_what_it_is_calculated_from_see_it_fresh() -> None:
    state = Cart()
    read: list[int] = []
    state.subscribe_mutation("item.price", lambda state: read.append(state.gross))
    order: list[str] = []
    state.subscribe_mutation("item.price", lambda: order.append("price"))
    state.subscribe_mutation("gross", lambda: order.append("gross"))
    state.subscribe_mutation("net", lambda: order.append("net"))
    state.subscribe_mutation("item.total", lambda: order.append("total"))
    state.item.price = 5
    assert read == [15]
    assert order == ["price", "total", "net", "gross"]


def test_a_subscriber_of_a_property_may_assign() -> None:
    ledger = opened()
    root = ledger.root

    def limit(state: Cart, payload: Any) -> None:
        if payload["new_value"] > 20:
            state.item.price = 10
            state["limited"] = True

    root.subscribe_mutation("gross", limit)
    root.item.price = 500
    assert (root.gross, root["limited"]) == (20, True)
    assert patch_of(ledger) == {
        "=": {"/item/price": 10, "/item/total": 10, "/net": 10, "/gross": 20, "/limited": True}
    }


def test_a_circle_through_a_subscriber_ends() -> None:
    ledger = opened()

    def again(state: Cart) -> None:
        state.rate += 1

    ledger.root.subscribe_mutation("gross", again)
    with pytest.raises(RecursionError, match="128 deep"):
        ledger.root.rate = 1
    ledger.rollback(True)
    assert ledger.root == EMPTY


def test_a_subscribed_property_that_raises_leaves_the_assignment() -> None:
    ledger = opened({}, Ratio)
    heard = watched(ledger.root, "ratio")
    with pytest.raises(ZeroDivisionError):
        ledger.root.b = 0
    ledger.root.b = 2  # whoever caught it goes on
    assert heard == [(1, 0.5)]
    ledger.rollback(True)
    assert ledger.root.ratio == 1


def test_subscribing_to_what_is_stale_is_told_of_the_next_one() -> None:
    state = Cart()
    state.item.price = 5
    heard = watched(state, ["gross", "net"])
    assert heard == []
    state.item.price = 6
    assert heard == [(5, 6), (15, 16)]
    seen_at_once: list[Any] = []
    state.item.price = 7
    state.subscribe_mutation(
        "most", lambda payload, context: seen_at_once.append((payload, context)), initial=True
    )
    assert seen_at_once == [
        ({"previous_value": None, "new_value": 0}, {"event": "init", "mutation": "most"})
    ]


def test_a_nested_value_and_its_keys_can_be_subscribed_to() -> None:
    state = Cart()
    heard = watched(state, "summary.count")
    state.append("marks", 4)
    state.append("marks", 4)
    assert heard == [(0, 1), (1, 2)]


def test_the_template_s_subscribers_hear_of_every_session_s_properties() -> None:
    original = Cart()
    heard = watched(original, ["gross", "item.total"])
    template = Template(original)
    for price in (5, 6):
        ledger = template.open()
        ledger.open()
        ledger.root.item.price = price
        ledger.commit(True)
    assert heard == [(2, 5), (12, 15), (2, 6), (12, 16)]
