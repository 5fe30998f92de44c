"""Schemas: annotated State classes."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, ClassVar, Optional, TypedDict

import pytest
from tests.core.ledgers import patch_of

import greenroom as gr
from greenroom.core.state import Ledger, Template

Arun = Any


class Point(TypedDict):
    """A dict with a known shape."""

    x: int
    y: int


class Sub(gr.State):
    """A nested schema."""

    n: int = 1
    marks: list[int] = [1]  # noqa: RUF012 -- fields are no class attributes

    def doubled(self) -> int:
        """Twice ``n``."""
        return self.n * 2


class Special(Sub):
    """With one more."""

    extra: str = "e"
    n = 5  # a new default


class Root(gr.State):
    """One field of each kind."""

    kinds: ClassVar[int] = 7
    later: Later
    count: int = 0
    bare: float
    sub: Sub
    maybe: Sub | None = None
    old: Optional[Sub]  # noqa: UP045 -- the older spelling counts too
    raw: dict[str, Any] = {"a": {"b": 1}}  # noqa: RUF012
    point: Point
    anything: Any = None
    _secret: str = "hidden"

    @property
    def shown(self) -> str:
        """Made of two fields."""
        return f"{self.count} {self.sub.n}"


class Later(gr.State):
    """Defined after the class that names it."""

    deep: Sub


def opened(values: Any = None, schema: type[gr.State] | None = None) -> Ledger:
    """A ledger with an open turn, which clients have seen."""
    ledger = Template({} if values is None else values, schema).open()
    ledger.ship()
    ledger.snapshot()
    ledger.open()
    return ledger


EMPTY = {
    "later": {"deep": {"n": 1, "marks": [1]}},
    "count": 0,
    "sub": {"n": 1, "marks": [1]},
    "maybe": None,
    "raw": {"a": {"b": 1}},
    "anything": None,
    "_secret": "hidden",
}


@pytest.mark.parametrize("make", [Root, lambda: opened({}, Root).root], ids=["alone", "session"])
def test_a_schema_begins_with_its_defaults(make: Any) -> None:
    state = make()
    assert state.to_raw_state() == EMPTY
    assert isinstance(state, Root)
    assert [state[key] for key in ("bare", "old", "point")] == [None] * 3
    assert (
        getattr(state, "bare", 0) is getattr(state, "old", 0) is getattr(state, "point", 0) is None
    )
    assert [type(one) for one in (state.sub, state.later, state.later.deep)] == [Sub, Later, Sub]
    assert type(state.raw) is dict
    assert state.kinds == 7
    assert "kinds" not in state
    assert state.shown == "0 1"
    assert state.sub.doubled() == 2
    assert "_secret" not in state.to_dict()
    assert make() == state


@pytest.mark.parametrize("make", [Root, lambda: opened({}, Root).root], ids=["alone", "session"])
def test_attributes_are_the_tracked_keys(make: Any) -> None:
    state = make()
    state.count += 1
    state.bare = 0.5
    state.sub.n = 3
    assert (state["count"], state["bare"], state["sub"]["n"]) == (1, 0.5, 3)
    state["count"] = 9
    assert state.count == 9
    state["unknown"] = {"x": 1}
    assert type(state.unknown) is gr.State
    del state.bare
    assert "bare" not in state
    assert state.bare is None
    with pytest.raises(AttributeError, match="no key 'nobody'"):
        state.nobody = 1


def test_only_what_was_assigned_is_sent() -> None:
    ledger = opened({}, Root)
    ledger.root.sub.n = 2
    ledger.root.raw = {"whole": {"dict": 1}}
    assert patch_of(ledger) == {"=": {"/sub/n": 2, "/raw": {"whole": {"dict": 1}}}}


def test_a_dict_becomes_the_state_its_field_says() -> None:
    state = Root({"sub": {"n": 8}, "later": {"deep": {"marks": []}}})
    assert type(state.later.deep) is Sub
    assert state.sub == {"n": 8, "marks": [1]}
    state.sub = {"n": 4, "more": 1}  # type: ignore[assignment]
    assert type(state.sub) is Sub
    assert state.sub == {"n": 4, "marks": [1], "more": 1}
    state.maybe = state.old = {}  # type: ignore[assignment]
    assert type(state.maybe) is Sub is type(state.old)
    state["anything"] = {"n": 1}
    assert type(state.anything) is gr.State
    state.maybe = None
    assert state["maybe"] is None


def test_a_state_keeps_its_class_and_exactly_its_keys() -> None:
    state = Root()
    special = Special()
    assert special.n == 5
    del special["marks"]
    state.sub = special
    assert type(state.sub) is Special
    assert state.sub == {"n": 5, "extra": "e"}
    assert state.sub is not special
    state["elsewhere"] = state.sub
    assert type(state["elsewhere"]) is Special
    state.sub = gr.State({"n": 2})  # type: ignore[assignment]
    assert type(state.sub) is Sub
    assert state.sub == {"n": 2, "marks": [1]}


def test_raw_dicts_are_leaves() -> None:
    state = Root({"raw": {"a": {"b": 1}}, "point": {"x": 1, "y": 2}})
    state.take_patch()
    assert type(state.point) is dict
    state.raw["a"]["b"] = 2
    assert not state.take_patch()
    state.raw = state.raw
    assert state.take_patch().set == {"/raw": {"a": {"b": 2}}}
    state.raw = gr.State({"q": {"r": 1}})  # type: ignore[assignment]
    assert type(state.raw) is dict is type(state.raw["q"])
    with pytest.raises(ValueError, match="nested deeper"):
        state.raw = deep(200)


def test_a_raw_dict_poured_into_a_plain_state_is_a_nested_state() -> None:
    session = opened({}, Root).root
    for _ in range(2):  # the template's own dict, then the session's
        plain = gr.State(session)
        assert type(plain["raw"]["a"]) is gr.State
        plain["raw"]["a"]["b"] = 2
        assert session.raw == {"a": {"b": 1}}


def deep(levels: int) -> dict[str, Any]:
    """A dict in a dict in a dict."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"in": value}
    return value


def test_replace_is_like_a_new_one() -> None:
    ledger = opened({}, Root)
    root = ledger.root
    root.replace({"count": 4, "sub": {"n": 6}})
    assert root == {**EMPTY, "count": 4, "sub": {"n": 6, "marks": [1]}}
    assert type(root.sub) is Sub
    assert type(root.later.deep) is Sub
    root.clear()
    assert root == EMPTY


def test_a_rollback_brings_back_the_same_states() -> None:
    ledger = opened({}, Root)
    before = ledger.root.sub
    ledger.root.sub = {"n": 100}
    ledger.root.sub.marks = []
    ledger.root.maybe = {}
    del ledger.root["later"]
    ledger.rollback(True)
    assert ledger.root == EMPTY
    assert ledger.root.sub is before
    assert type(ledger.root.later) is Later
    ledger.open()
    before.n = 2
    assert ledger.root.sub.n == 2


@pytest.mark.parametrize(
    ("values", "schema"),
    [
        ({}, Root),
        (Root(), None),
        (Root(), Root),
        ({"sub": Sub(), "raw": {"a": {"b": 1}}}, Root),
        (gr.State({"count": 0}), Root),
    ],
    ids=["class", "instance", "both", "values", "state"],
)
def test_sessions_share_nothing_that_can_change(values: Any, schema: Any) -> None:
    template = Template(values, schema)
    one, two = template.open(), template.open()
    one.open()
    two.open()
    for ledger in (one, two):
        assert type(ledger.root) is Root
        assert type(ledger.root.sub) is Sub
        ledger.root["maybe"] = {}
    one.root.sub.marks.append(2)
    one.root.raw["a"]["b"] = 2
    one.root.maybe.marks.append(2)
    one.root.later.deep.marks.append(2)
    one.root.sub = {}
    one.root.sub.marks.append(3)
    assert two.root == {**EMPTY, "maybe": {"n": 1, "marks": [1]}}
    assert template.open().root == EMPTY == Root()


def test_a_shared_default_is_one_object() -> None:
    catalogue = object()

    class Shop(gr.State):
        goods: Any = gr.shared(catalogue)

    for template in (Template({}, Shop), Template(Shop())):
        assert template.open().root.goods is catalogue
    assert Shop().goods is catalogue


@pytest.mark.parametrize("default", [{"n": 3}, Sub({"n": 3}), Special({"n": 3})])
def test_a_nested_field_may_have_a_default(default: Any) -> None:
    class Outer(gr.State):
        sub: Sub = default

    made = Special if isinstance(default, Special) else Sub
    template = Template({}, Outer)
    for state in (Outer(), template.open().root, Template(Outer()).open().root):
        assert type(state.sub) is made
        assert (state.sub.n, state.sub.marks) == (3, [1])
        state.sub.marks.append(2)
    assert Outer().sub.marks == [1] == template.open().root.sub.marks


def test_the_view_reads_attributes_and_methods() -> None:
    view = opened({}, Root).view
    assert (view.count, view.bare, view.sub.n) == (0, None, 1)
    assert view.sub.doubled() == 2
    assert view.shown == "0 1"
    with pytest.raises(gr.StaleTurn):
        view.count = 1
    with pytest.raises(AttributeError):
        _ = view.nobody


def test_the_states_of_a_session_go_by_reference_counts_alone() -> None:
    template = Template({}, Root)
    gc.disable()
    try:
        ledger = template.open()
        ledger.open()
        ledger.root.update({"sub": {"n": 2}, "maybe": {}})
        ledger.commit(True)
        refs = [weakref.ref(one) for one in (ledger.root, ledger.root.sub, ledger.root.later)]
        ledger.end()
        del ledger
        assert [ref() for ref in refs] == [None] * 3
    finally:
        gc.enable()


def test_an_app_takes_schemas(arun: Arun) -> None:
    def handle(state: Root) -> str:
        state.count += 1
        state.sub = {"n": state.count}  # type: ignore[assignment]
        return type(state).__name__ + type(state.sub).__name__

    async def story() -> None:
        for app in (
            gr.App(state=Root, handlers=[handle]),
            gr.App(state=Root(), handlers=[handle]),
            gr.App(state=lambda: Root({}), handlers=[handle]),
            gr.App(state=lambda: Root, handlers=[handle]),
            gr.App(handlers=[handle]),
        ):
            if app.factory is None and type(app.template.root) is gr.State:  # type: ignore[union-attr]
                app.init_state({"count": 0}, schema=Root)
            async with app:
                one, two = app.open_session(), app.open_session()
                assert await one.ask("handle") == "RootSub"
                assert await asyncio.wait_for(one.ask("handle"), 5) == "RootSub"
                assert (one.state.count, one.state.sub.n) == (2, 2)
                assert await two.ask("handle") == "RootSub"
                assert two.state.count == 1

    arun(story)


def test_bad_schemas_are_refused() -> None:
    app = gr.App()
    with pytest.raises(TypeError, match=r"subclass of gr\.State"):
        app.init_state({}, schema=dict)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="factory has no schema"):
        app.init_state(dict, schema=Root)
    with pytest.raises(TypeError, match=r"items cannot be a field: it is a method"):
        type("Bad", (gr.State,), {"__annotations__": {"items": list}})
    with pytest.raises(TypeError, match="hides a field"):

        class Hiding(Root):
            def count(self) -> int:  # type: ignore[override]
                return 1

    with pytest.raises(TypeError, match="several State classes"):

        class Either(gr.State):
            sub: Sub | Later

        Either()
    with pytest.raises(TypeError, match="a State class and a dict"):

        class Both(gr.State):
            sub: Sub | dict[str, int]

        Both()
    with pytest.raises(TypeError, match="names nothing in"):

        class Unknown(gr.State):
            sub: Nowhere  # type: ignore[name-defined] # noqa: F821

        Unknown()


def test_a_class_may_contain_itself_but_not_always() -> None:
    class Tree(gr.State):
        value: int = 0
        left: Tree | None = None

    tree = Tree({"left": {"left": {"value": 3}}})
    assert type(tree.left.left) is Tree  # type: ignore[union-attr]
    assert tree.left.left.left is None  # type: ignore[union-attr]

    class Endless(gr.State):
        again: Endless

    with pytest.raises(TypeError, match=r"annotate it `Endless \| None`"):
        Endless()


def test_plain_mixins_and_several_bases() -> None:
    class Other(gr.State):
        colour: str = "red"
        sub: Later

    class Joined(Other, Special):
        pass

    state = Joined()
    assert (state.colour, state.extra, state.n) == ("red", "e", 5)
    assert type(state.sub) is Later


def test_a_python_property_may_have_a_setter() -> None:
    class Both(gr.State):
        count: int = 1

        @property
        def double(self) -> int:
            return self.count * 2

        @double.setter
        def double(self, value: int) -> None:
            self.count = value // 2

    ledger = opened({}, Both)
    ledger.root.double = 8
    assert ledger.root.count == 4
    assert patch_of(ledger) == {"=": {"/count": 4}}
