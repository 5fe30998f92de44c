"""State classes with calculated properties, for the tests of those. ``runs`` counts how often."""

from __future__ import annotations

from collections import Counter
from typing import Any

import greenroom as gr

runs: Counter[str] = Counter()


class Item(gr.State):
    """A nested schema with a property."""

    price: int = 2
    count: int = 1

    @gr.property(["price", "count"])
    def total(self) -> int:
        """What the item costs."""
        runs["total"] += 1
        return self.price * self.count


class Cart(gr.State):
    """Properties of fields, of a nested property, of a dict, of each other."""

    item: Item
    other: Item | None = None
    rows: Any = {}  # noqa: RUF012 -- fields are no class attributes
    marks: list[int] = []  # noqa: RUF012
    rate: int = 10

    @gr.property(["net", "rate"])
    def gross(self) -> int:
        """Defined before what it is calculated from."""
        runs["gross"] += 1
        return self.net + self.rate

    @gr.property(["item.total", ("other", "total")])
    def net(self) -> int:
        """Of two nested properties."""
        runs["net"] += 1
        return self.item.total + (self.other.total if self.other else 0)

    @gr.property("rows")
    def most(self) -> int:
        """Of everything in a nested state."""
        runs["most"] += 1
        return max(self.rows.values(), default=0)

    @gr.property("marks")
    def summary(self) -> dict[str, Any]:
        """A nested state."""
        runs["summary"] += 1
        return {"count": len(self.marks), "_sum": sum(self.marks)}

    @gr.property("marks")
    def _hidden(self) -> int:
        """A private key."""
        return len(self.marks)


EMPTY: dict[str, Any] = {
    "item": {"price": 2, "count": 1, "total": 2},
    "other": None,
    "rows": {},
    "marks": [],
    "rate": 10,
    "net": 2,
    "gross": 12,
    "most": 0,
    "summary": {"count": 0, "_sum": 0},
    "_hidden": 0,
}


class Ratio(gr.State):
    """A property that can fail."""

    a: int = 1
    b: int = 1

    @gr.property(["a", "b"])
    def ratio(self) -> float:
        """One of the other."""
        return self.a / self.b
