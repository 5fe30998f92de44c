"""Values that run code in the middle, and readers beside a writer."""

from __future__ import annotations

import copy
import datetime as dt
import gc
import pickle
import sys
import threading

import pytest
from tests.core.ledgers import opened, seen

from greenroom.core.errors import Detached, StaleTurn
from greenroom.core.state import State, Template


def test_destructors_that_run_in_the_middle() -> None:
    ledger, state = opened({"a": 1, "n": {"b": 1}, "l": [1]})

    class Meddler:
        def __init__(self, key: str) -> None:
            self.key = key

        def __del__(self) -> None:
            try:
                state[self.key] = {"made by": self.key}
                del state["n"]
                state["n"] = {"b": 2}
                state.append("l", 0)
                state["self"] = state["self"]
            except (StaleTurn, Detached, TypeError):
                pass

    for key in ("a", "n", "x", "l"):
        state[key] = Meddler(key)
        state[key] = Meddler(key)
        state[key] = 1
        state[key] = {"deep": Meddler(key)}
        del state[key]
        state[key] = [Meddler(key)]
        state.append(key, Meddler(key)) if isinstance(state[key], list) else None
        state[key] = [0]
        state.append("l", Meddler("l")) if isinstance(state["l"], list) else None
        ledger.ship()
        ledger.shipped()
    ledger.rollback(True)
    assert state["a"] == 1 or isinstance(state["a"], State)
    ledger.open() if not ledger.in_turn else None
    state.replace({"k": 1})
    ledger.commit(True)
    gc.collect()
    ledger.ship()
    ledger.shipped()
    assert seen(ledger.snapshot()) == state.to_dict()


def test_collections_in_the_middle() -> None:
    """With the collector at every allocation, finalizers run wherever they can."""

    class Circle:
        def __init__(self, state: State) -> None:
            self.me = self
            self.state = state

        def __del__(self) -> None:
            try:
                self.state["from finalizer"] = {"n": 1}
                self.state["n"]["x"] = 5
            except (StaleTurn, Detached, TypeError):
                pass

    ledger, state = opened({"n": {"x": 1}, "l": [1]})
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for i in range(50):
            Circle(state)
            state["a"] = {"b": {"c": i}}
            state["n"]["x"] = i
            state.append("l", i)
            if i % 7 == 0:
                ledger.ship()
                ledger.shipped()
            if i % 11 == 0:
                ledger.rollback(True)
                ledger.open()
            if i % 13 == 0:
                ledger.snapshot()
    finally:
        gc.set_threshold(*before)
    ledger.commit(True)
    ledger.ship()
    assert seen(ledger.snapshot()) == state.to_dict()


def test_states_are_not_pickled_or_copied_by_accident() -> None:
    state = State({"a": 1})
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(state)


def test_a_chain_of_old_values_does_not_pile_up() -> None:
    ledger, state = opened({"a": 0})
    marker = object()
    before = sys.getrefcount(marker)
    for _ in range(5):
        state["a"] = marker
        state["a"] = 1
    assert sys.getrefcount(marker) == before
    state["b"] = marker
    ledger.commit(True)
    ledger.ship()
    ledger.open()
    del state["b"]
    ledger.commit(False)
    assert sys.getrefcount(marker) == before


def test_readers_beside_a_writer() -> None:
    ledger = Template({"n": {"l": [1], "x": 0}, "m": [1]}).open()
    stop = threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                view = ledger.view
                dict(view.items())
                view.to_raw_state()
                if view["n"] is not None:
                    _ = view["n"]["l"], view["n"]["x"]
                ledger.ship(foreign=True)
                ledger.snapshot(foreign=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    state = ledger.root
    for i in range(400):
        ledger.open()
        state["n"]["x"] = i
        state["n"]["l"] = [i]
        state.append("m", i)
        state["k"] = {"d": dt.date(2020, 1, 1), "i": i}
        if i % 3 == 0:
            ledger.rollback(True)
        else:
            del state["k"]
            ledger.commit(True)
            ledger.ship()
            ledger.shipped()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    ledger.ship()
    ledger.shipped()
    assert seen(ledger.snapshot()) == state.to_dict()
