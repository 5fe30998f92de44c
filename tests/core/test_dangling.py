"""Paths that name nothing: what the start-up log says of them, and what only doctor does."""

from __future__ import annotations

from typing import Any, Optional

import greenroom as gr
from greenroom.core.dangling import Dangling, dangling
from greenroom.core.state import Template


class Item(gr.State):
    """Its property has a misspelt path."""

    price: int = 1
    count: int = 1

    @gr.property(["price", "cuont"])
    def total(self) -> int:
        """What the item costs."""
        return self.price * self.count


ITEM = (
    "Item.total is calculated from cuont, but Item declares no cuont (count?). Correct the path, "
    "or annotate cuont if it comes later"
)


class Chain(gr.State):
    """Its fields have no end."""

    next: Optional[Chain] = None  # noqa: UP045 -- the other way to write it
    item: Item | None = None


class Cart(gr.State):
    """Paths that name something, in all ways."""

    item: Item | None = None
    rows: Any = {}  # noqa: RUF012 -- fields are no class attributes
    options: dict[str, int] = {}  # noqa: RUF012
    marks: list[int] = []  # noqa: RUF012
    later: int

    @gr.property(
        [
            "item.price", "item.total", "item.total.x", "rows", "options.speed", "marks.0", "later",
            "later.still", "poured", "poured.in.it", ("rows", "a.b"),
        ]
    )  # fmt: skip
    def fine(self) -> int:
        """Nothing to say."""
        return 1


class Mixed(Cart):
    """A class that inherits says its own name; what it adds, its base may need."""

    more: int = 0

    @gr.property(["fine", "itm.price", "item.prize", "far.away", "a\\.b"])
    def gross(self) -> int:
        """Four paths are wrong."""
        return 1


def test_a_schema_proves_a_path_wrong() -> None:
    def said(values: Any, schema: type[gr.State]) -> list[str]:
        found = dangling(Template(values, schema))
        assert all(one.certain for one in found)
        return [one.text.partition(". ")[0] for one in found]

    values = {"poured": {"in": {"it": 1}}, "rows": {"a.b": 1}}
    item = ITEM.partition(". ")[0]
    assert said({**values, "item": {}}, Cart) == [item]
    gross = "Mixed.gross is calculated from"
    assert said(values, Mixed) == [
        f"{gross} itm.price, but Mixed declares no itm (item?)",
        f"{gross} item.prize, but Item declares no prize (price?)",
        f"{gross} far.away, but Mixed declares no far",
        f"{gross} a\\.b, but Mixed declares no a.b",
        item,
    ]


def test_it_is_found_wherever_a_state_of_the_class_is() -> None:
    for values in (
        Item(),
        {"a": {"b": {"c": Item()}}},
        {"a": Chain()},
        Chain({"next": {"next": {}}}),
        gr.State({"x": Item(), "y": Item()}),
        Template(Item()).root,
    ):
        assert dangling(Template(values)) == [Dangling(ITEM, certain=True)]


def test_no_value_is_read() -> None:
    class Own(list[int]):
        copies = 0

        def __deepcopy__(self, memo: Any) -> Own:
            Own.copies += 1
            return Own(self)

    template = Template({"a": Own(), "b": {"c": Own()}, "item": Item()})
    Own.copies = 0
    assert len(dangling(template)) == 1
    assert Own.copies == 0


def test_where_no_schema_says_what_comes_it_is_a_hint() -> None:
    class Bare(gr.State):
        @gr.property(["cout", "rows.a"])
        def twice(self) -> int:
            return 2 * (self["cout"] or 0)

    state = gr.State({"cart": {"items": []}, "bare": Bare({"count": 1, "rows": {"b": 1}})})
    state.subscribe_mutation(
        ["cart", "cart.itms", "cart.items.0", "new", "cart.items"], lambda: None
    )
    state.subscribe_mutation("gone", lambda: None).cancel()
    assert dangling(Template(state)) == [
        Dangling(f"{text}", certain=False)
        for text in (
            "Bare.twice is calculated from cout, where nothing is at the start (count?)",
            "Bare.twice is calculated from rows.a, where nothing is at the start",
            "a subscription waits for cart.itms, where nothing is at the start (items?)",
            "a subscription waits for new, where nothing is at the start",
        )
    ]


def test_a_subscription_to_what_a_schema_does_not_declare() -> None:
    class Basket(gr.State):
        lines: list[str] = []  # noqa: RUF012
        sub: Chain

    state = Basket()
    state.subscribe_mutation(["lines", "line", "sub.item.price", "sub.item.prize"], lambda: None)
    state.sub.subscribe_mutation("nxt", lambda: None)
    found = [one.text.partition(". ")[0] for one in dangling(Template(state))]
    assert found[1:] == [
        "a subscription waits for line, but Basket declares no line (lines?)",
        "a subscription waits for sub.item.prize, but Item declares no prize (price?)",
        "a subscription waits for sub.nxt, but Chain declares no nxt (next?)",
    ]


def test_a_class_that_cannot_be_used_yet_is_left_for_its_use() -> None:
    class Broken(gr.State):
        a: Nowhere  # type: ignore[name-defined]  # noqa: F821

    class Holder(gr.State):
        one: Broken | None = None

        @gr.property("one.b")
        def b(self) -> int:
            return 1

    assert dangling(Template({}, Holder)) == [
        Dangling("Holder.b is calculated from one.b, where nothing is at the start", certain=False)
    ]


# ---------------------------------------------------------------- who hears of it


def warnings(app: gr.App) -> list[str]:
    return [record.text for record in app.log.records() if record.level == "warning"]


def test_the_start_up_log_warns(arun: Any) -> None:
    async def story() -> None:
        beginning = gr.State({"item": Item()})
        app = gr.App(state=beginning)
        beginning.subscribe_mutation("nothing", lambda: None)  # no schema: a hint only
        beginning["more"] = Chain()
        assert warnings(app) == []
        async with app:
            assert warnings(app) == [ITEM]
            app.open_session()
            assert warnings(app) == [ITEM]

    arun(story)


def test_a_factory_is_looked_at_once_it_has_made_a_state(arun: Any) -> None:
    def make() -> gr.State:
        return Item()

    async def story() -> None:
        async with gr.App(state=make) as app:
            assert warnings(app) == []
            for _ in range(3):
                app.open_session()
            assert warnings(app) == [ITEM]

    arun(story)


def test_new_code_is_looked_at_as_well(arun: Any) -> None:
    async def story() -> None:
        async with gr.App(state={"item": 1}) as app:
            assert warnings(app) == []
            app.adopt(gr.App(state={"item": Item()}))
            assert warnings(app) == [ITEM]

    arun(story)
