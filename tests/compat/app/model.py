"""The schema of the shop's state, and a value that reports its own changes."""

import writer as wf
from writer import State, WriterState
from writer.core import MutableValue


class Basket(State):
    lines: list
    note: str
    _cost: int

    @wf.property("lines")
    def size(self):
        return len(self.lines)


class Shop(WriterState):
    counter: int
    basket: Basket
    filters: dict
    history: list

    @wf.property("counter")
    def doubled(self):
        return self.counter * 2

    @wf.property(["counter", "basket.lines"])
    def summary(self):
        return f"{self.counter} and {len(self.basket.lines)}"


class Thermometer(MutableValue):
    def __init__(self, degrees):
        super().__init__()
        self.degrees = degrees

    def add(self, degrees):
        self.degrees += degrees
        self.mutate()

    def to_dict(self):
        return {"degrees": self.degrees}
