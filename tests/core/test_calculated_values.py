"""The value of a calculated property, where it is a state: nobody assigns inside of it."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from tests.core.ledgers import changes, in_thread, opened, patch_of

import greenroom as gr


class Item(gr.State):
    """What a property may return: it has fields and a property of its own."""

    price: int = 1
    tags: list[str] = []  # noqa: RUF012 -- fields are no class attributes

    @gr.property("price")
    def twice(self) -> dict[str, int]:
        """A value in a value."""
        return {"price": 2 * self.price}


class Shop(gr.State):
    """Properties that are dicts and states."""

    prices: list[int] = [1]  # noqa: RUF012

    @gr.property("prices")
    def stats(self) -> dict[str, Any]:
        """A dict with all that a dict may hold."""
        return {"count": len(self.prices), "by": {"a": {"b": 0}}, "rows": list(self.prices)}

    @gr.property("prices")
    def best(self) -> Item:
        """A state of a schema."""
        return Item({"price": max(self.prices, default=0)})

    @gr.property("prices")
    def empty(self) -> dict[str, Any]:
        """It has no key that could be assigned."""
        return {}


def within(state: gr.State, *keys: str) -> Any:
    """What lies at a path."""
    value: Any = state
    for key in keys:
        value = value[key]
    return value


#: How to reach a Shop in states of all kinds: its keys there.
MAKES = pytest.mark.parametrize(
    ("make", "keys"),
    [
        (Shop, ()),
        (lambda: opened(Shop())[1], ()),
        (lambda: gr.State({"shop": Shop()}), ("shop",)),
        (lambda: opened({"a": {"shop": Shop()}})[1], ("a", "shop")),
    ],
    ids=["alone", "session", "nested", "nested in a session"],
)

ITEMS: dict[str, Any] = {
    "set": lambda shop: shop["stats"].__setitem__("count", 9),
    "set what is not there": lambda shop: shop["stats"].__setitem__("new", 9),
    "set again": lambda shop: shop["stats"].__setitem__("count", shop["stats"]["count"]),
    "mark": lambda shop: shop["stats"].__setitem__("by", shop["stats"]["by"]),
    "deeper": lambda shop: shop["stats"]["by"]["a"].__setitem__("b", 9),
    "a dict": lambda shop: shop["stats"]["by"].__setitem__("a", {"c": {}}),
    "a state": lambda shop: shop["stats"].__setitem__("other", shop["best"]),
    "delete": lambda shop: shop["stats"].__delitem__("count"),
    "delete what is not there": lambda shop: shop["stats"].__delitem__("new"),
    "pop": lambda shop: shop["stats"]["by"].pop("a"),
    "popitem": lambda shop: shop["stats"].popitem(),
    "append": lambda shop: shop["stats"].append("rows", 9),
    "append to nothing": lambda shop: shop["stats"].append("new", 9),
    "extend": lambda shop: shop["stats"].extend("rows", []),
    "update": lambda shop: shop["stats"].update({"count": 9}),
    "update by name": lambda shop: shop["stats"]["by"].update(a=1),
    "setdefault": lambda shop: shop["stats"].setdefault("new", 9),
    "clear": lambda shop: shop["stats"].clear(),
    "clear what is empty": lambda shop: shop["empty"].clear(),
    "replace": lambda shop: shop["stats"]["by"].replace({"a": {"b": 1}}),
    "fill what is empty": lambda shop: shop["empty"].__setitem__("a", 1),
    "a field": lambda shop: shop["best"].__setitem__("price", 9),
    "a property in it": lambda shop: shop["best"].__setitem__("twice", 9),
    "in a property in it": lambda shop: shop["best"]["twice"].__setitem__("price", 9),
    "a field's list": lambda shop: shop["best"].append("tags", "new"),
}
ATTRIBUTES: dict[str, Any] = {
    "set": lambda shop: setattr(shop.stats, "count", 9),
    "set what is not there": lambda shop: setattr(shop.stats, "new", 9),
    "deeper": lambda shop: setattr(shop.stats.by.a, "b", 9),
    "delete": lambda shop: delattr(shop.stats, "count"),
    "a field": lambda shop: setattr(shop.best, "price", 9),
    "delete a field": lambda shop: delattr(shop.best, "price"),
    "a property in it": lambda shop: setattr(shop.best, "twice", 9),
    "in a property in it": lambda shop: setattr(shop.best.twice, "price", 9),
}


@MAKES
@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        *[pytest.param(call, TypeError, id=name) for name, call in ITEMS.items()],
        *[pytest.param(call, AttributeError, id=f".{name}") for name, call in ATTRIBUTES.items()],
    ],
)
@pytest.mark.parametrize("fresh", [False, True], ids=["first", "new"])
def test_nobody_assigns_inside(
    make: Any, keys: tuple[str, ...], attempt: Any, error: type[Exception], fresh: bool
) -> None:
    state = make()
    if fresh:  # not the value the state began with
        within(state, *keys).prices = [1]
    before = state.to_raw_state()
    with pytest.raises(error, match=r"Shop\.\w+ is calculated from prices: assign there") as caught:
        attempt(within(state, *keys))
    place = re.escape(".".join([*keys, ""]))
    assert re.match(
        rf"{place}(stats|best|empty)(\.\w+)* is part of a calculated value: ", str(caught.value)
    )
    assert state.to_raw_state() == before
    within(state, *keys).prices = [5, 7]  # and all goes on
    assert within(state, *keys, "stats", "count") == 2
    assert within(state, *keys, "best", "twice", "price") == 14


def test_nothing_of_it_is_sent() -> None:
    state = Shop()
    state.take_patch()
    for attempt in ITEMS.values():
        with pytest.raises(TypeError):
            attempt(state)
    assert not state.take_patch()
    ledger, root = opened(Shop())
    for attempt in ITEMS.values():
        with pytest.raises(TypeError):
            attempt(root)
    assert patch_of(ledger) is None


def test_the_calculation_replaces_it() -> None:
    state = Shop()
    state.take_patch()
    state.append("prices", 4)
    assert changes(state)["="] == {
        "/stats": {"count": 2, "by": {"a": {"b": 0}}, "rows": [1, 4]},
        "/best": {"price": 4, "tags": [], "twice": {"price": 8}},
        "/empty": {},
    }


def test_a_copy_of_it_is_like_any_state() -> None:
    state = gr.State({"shop": Shop()})
    state["mine"] = state["shop"].stats
    state["mine"]["by"]["a"]["b"] = 5
    state["item"] = state["shop"].best
    state["item"].price = 3
    assert state["item"].twice == {"price": 6}
    alone = gr.State(state["shop"].stats)
    alone["by"]["a"] = 1
    state["plain"] = gr.State()
    state["plain"].replace(state["shop"])  # no Shop: all of it are ordinary keys
    state["plain"]["stats"]["count"] = 8
    values = state["shop"].stats.to_raw_state()
    values["count"] = 7
    assert state["shop"].stats == {"count": 1, "by": {"a": {"b": 0}}, "rows": [1]}
    _, root = opened(gr.State({"stats": state["shop"].stats}))
    root["stats"]["by"]["a"]["b"] = 6
    assert root["stats"]["by"]["a"] == {"b": 6}


def test_the_function_fills_what_it_returns() -> None:
    class Filled(gr.State):
        a: int = 1

        @gr.property("a")
        def made(self) -> gr.State:
            found = gr.State({"in": {}})
            found["in"]["a"] = self.a
            found.append("list", self.a)
            return found

    state = Filled()
    state.a = 2
    assert state.made == {"in": {"a": 2}, "list": [2]}


def test_a_view_refuses_as_ever() -> None:
    ledger, _ = opened(Shop())
    with pytest.raises(gr.StaleTurn, match=r"session\.state is for reading"):
        ledger.view["stats"]["count"] = 1


def test_one_that_was_replaced_is_detached() -> None:
    state = Shop()
    old = state.stats
    inner = old["by"]
    state.prices = []
    assert state.stats["count"] == 0
    for value in (old, inner):
        with pytest.raises(gr.Detached):
            value["count"] = 1
    assert old["count"] == 1


def test_a_rollback_gives_the_value_back_as_closed_as_it_was() -> None:
    ledger, root = opened(Shop())
    first = root.stats
    root.prices = []
    assert root.stats["count"] == 0
    ledger.undo()
    assert root.stats["count"] == 1
    for value in (first, root.stats, root.stats["by"]):
        with pytest.raises(TypeError, match="is part of a calculated value"):
            value["count"] = 2


def test_a_value_that_reports_its_own_changes_reports_them_there_too() -> None:
    class Note(gr.MutableValue):
        text = "old"

        def to_dict(self) -> dict[str, str]:
            return {"text": self.text}

    class Notes(gr.State):
        first: Any = None

        @gr.property("first")
        def shown(self) -> dict[str, Any]:
            return {"note": self.first}

    note = Note()
    state = Notes({"first": note})
    state.take_patch()
    note.text = "new"
    note.mutate()
    assert changes(state)["="] == {"/first": {"text": "new"}, "/shown": {"note": {"text": "new"}}}


def test_a_subscriber_cannot_either() -> None:
    state = Shop()

    def meddle(payload: Any) -> None:
        payload["new_value"]["count"] = 5

    state.subscribe_mutation("stats", meddle)
    with pytest.raises(TypeError, match=r"stats\.count is part of a calculated value"):
        state.prices = [3]


# ---------------------------------------------------------------- two threads, one State


class Slow(gr.State):
    """One property stops until it may go on; the other is nobody's business."""

    a: int = 1
    fails: bool = False
    inside = threading.Event()
    go_on = threading.Event()

    @gr.property("a")
    def slow(self) -> int:
        """Waits after the first time."""
        if self.a > 1:
            self.inside.set()
            assert self.go_on.wait(10)
        if self.fails:
            raise ValueError("on purpose")
        return self.a

    @gr.property("a")
    def swift(self) -> int:
        """Does not wait."""
        return -self.a


@pytest.mark.parametrize("how", ["read", "new state"])
def test_a_thread_that_calculated_beside_the_owner_may_assign_in_its_own_turn(how: str) -> None:
    """A dict becomes a state with properties before the wrong thread is refused."""
    refused, take_over = threading.Event(), threading.Event()
    said: list[Any] = []

    class Owner(gr.State):
        a: int = 0

        @gr.property("a")
        def b(self) -> int:
            if self.a:
                Slow.go_on.set()
                assert refused.wait(10)  # the other began before us, and ends in the middle of us
            return self.a

    def other() -> None:
        with pytest.raises(gr.StaleTurn):
            root["slow"] = {"a": 2}
        refused.set()
        assert take_over.wait(10)
        ledger.adopt()
        root["mine"] = 1  # nobody takes it for a function that assigns
        said.append(root["mine"])

    class Root(Owner):
        slow: Slow
        owner: Owner

    ledger, root = opened(Root())
    Slow.inside.clear()
    Slow.go_on.clear()
    thread = threading.Thread(target=other)
    thread.start()
    assert Slow.inside.wait(10)
    if how == "read":
        root.a = 1
        assert root.b == 1  # fresh, for the owner
    else:
        root["owner"] = {"a": 1}
        assert root.owner.b == 1
    take_over.set()
    thread.join()
    assert said == [1]


@pytest.mark.parametrize("end", ["read", "take_patch", "raise"])
def test_a_thread_that_reads_beside_a_calculation_has_the_last_value(end: str) -> None:
    state = Slow()
    state.take_patch()
    state.inside.clear()
    state.go_on.clear()
    state.a = 2
    state.fails = end == "raise"
    found: list[Any] = []

    def read() -> None:
        try:
            found.append(state.slow)
        except ValueError as error:
            found.append(error.args[0])

    thread = threading.Thread(target=read)
    thread.start()
    try:
        assert state.inside.wait(10)
        assert (state.slow, state.swift) == (1, -1)  # of another thread: no false circle
        assert state.to_dict()["slow"] == 1
        if end == "take_patch":
            assert changes(state)["="] == {"/a": 2, "/fails": False}
    finally:
        state.go_on.set()
        thread.join()
    assert found == ["on purpose" if end == "raise" else 2]
    state.fails = False
    assert (state.slow, state.swift) == (2, -2)  # what was put off is not forgotten
    state.a = 3
    assert (state.slow, state.swift) == (3, -3)
    assert in_thread(lambda: state.swift) == -3
    state["b"] = 1  # and nobody is taken for a function that assigns
    assert in_thread(lambda: state.update(b=2)) is None
