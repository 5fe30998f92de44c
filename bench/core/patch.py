"""Encoding a patch: against one orjson.dumps of a prebuilt {path: value}."""

from __future__ import annotations

import json
from sys import intern

import orjson

import greenroom as gr
from greenroom.core.state import Ledger, Template

from ..harness import Bench, Measure, clock

Place = tuple[tuple[str, ...], str, str]  # nodes on the way, key, pointer


async def run(bench: Bench) -> None:
    for mixed in (False, True):
        kind = "mixed values" if mixed else "ints"
        template = Template({f"key{i}": 0 for i in range(1_000)})
        places: list[Place] = [((), intern(f"key{i * 100}"), f"/key{i * 100}") for i in range(10)]
        base, ours = _patch(bench, template, places, _sample(10, mixed), 5_000, 50)
        await bench.compare(
            f"patch bytes, 10 of 1,000 keys, {kind}", base, ours,
            bar=4.0, against="orjson.dumps of {path: value}",
        )  # fmt: skip
    for mixed in (False, True):
        kind = "mixed values" if mixed else "ints"
        template = Template({f"n{i}": {f"key{j}": 0 for j in range(100)} for i in range(100)})
        places = [((f"n{i}",), intern("key7"), f"/n{i}/key7") for i in range(100)]
        base, ours = _patch(bench, template, places, _sample(100, mixed), 400, 4)
        await bench.compare(
            f"patch bytes, 100 of 10,000 nested keys, {kind}", base, ours,
            bar=5.5, against="orjson.dumps of {path: value}",
        )  # fmt: skip
    await _sizes(bench)
    await _watched(bench)


def _sample(count: int, mixed: bool) -> list[object]:
    if not mixed:
        return [1000 + i for i in range(count)]
    kinds: list[object] = [12345, "some plain text", True, None, 3.25]
    return [kinds[i % len(kinds)] for i in range(count)]


def _dirty(book: Ledger, places: list[Place], values: list[object]) -> None:
    book.open()
    for (way, key, _), value in zip(places, values, strict=True):
        node = book.root
        for name in way:
            node = node[name]
        node[key] = value
    book.commit(True)


def _patch(
    bench: Bench,
    template: Template,
    places: list[Place],
    values: list[object],
    count: int,
    sessions: int,
) -> tuple[Measure, Measure]:
    """Several sessions are made dirty, then shipped between two readings of the clock."""
    loops = bench.loops(count)
    prebuilt = {path: value for (_, _, path), value in zip(places, values, strict=True)}
    books = [template.open() for _ in range(sessions)]

    def ours() -> float:
        spent = 0.0
        patch = None
        for _ in range(max(1, loops // sessions)):
            for book in books:
                _dirty(book, places, values)
            start = clock()
            for book in books:
                patch = book.ship()
            spent += clock() - start
            for book in books:
                book.shipped()
        assert patch is not None
        assert json.loads(patch.encode()) == {"=": prebuilt}
        return spent / (max(1, loops // sessions) * sessions)

    def base() -> float:
        text = b""
        start = clock()
        for _ in range(loops):
            text = orjson.dumps(prebuilt)
        spent = clock() - start
        assert json.loads(text) == prebuilt
        return spent / loops

    return base, ours


async def _sizes(bench: Bench) -> None:
    """The same 100 dirty keys beside 0, 900 and 99,900 others."""
    places: list[Place] = [((), intern(f"key{i}"), f"/key{i}") for i in range(100)]
    values = _sample(100, False)

    def of_size(size: int) -> Measure:
        template = Template({f"key{i}": 0 for i in range(size)})
        return _patch(bench, template, places, values, 400, 4)[1]

    small = of_size(100)
    for size in (1_000, 100_000):
        await bench.compare(
            f"patch bytes, 100 dirty of {size:,} keys", small, of_size(size),
            bar=1.3, against="100 dirty of 100 keys", of="us",
        )  # fmt: skip


async def _watched(bench: Bench) -> None:
    """A turn with one assignment, and its patch, beside subscriptions and properties."""
    loops = bench.loops(5_000)

    def total(state: gr.State) -> int:
        return int(state["a"]) + 1

    names = [f"sum{i}" for i in range(20)]
    schema = type("Sums", (gr.State,), {name: gr.property(["a", "b.c"])(total) for name in names})

    def turns(size: int, subscriptions: int, properties: bool, key: str, repeats: int) -> Measure:
        values = {"a": 0, **{f"key{i}": 0 for i in range(size)}}
        initial = schema(values) if properties else gr.State(values)
        for i in range(subscriptions):
            initial.subscribe_mutation(f"key{i}.below" if i % 2 else f"key{i + 1}", print)
        book = Template(initial).open()

        def measure() -> float:
            state = book.root
            patch = None
            start = clock()
            for i in range(loops // repeats):
                book.open()
                for _ in range(repeats):
                    state[key] = i
                book.commit(True)
                patch = book.ship()
                book.shipped()
            spent = clock() - start
            assert patch is not None
            value = loops // repeats - 1
            sums = {f"/{name}": value + 1 for name in names if properties and key == "a"}
            assert patch.set == {f"/{key}": value, **sums}
            return spent / (loops // repeats)

        return measure

    alone = turns(10_000, 0, False, "key9999", 1)
    for subscriptions, properties in ((100, False), (0, True), (100, True)):
        there = [f"{subscriptions} subscriptions"] * bool(subscriptions)
        there += ["20 properties"] * properties
        await bench.compare(
            f"1 of 10,000 keys and its patch, {' and '.join(there)} elsewhere",
            alone, turns(10_000, subscriptions, properties, "key9999", 1),
            bar=1.3, against="the same without any",
        )  # fmt: skip
    await bench.compare(
        "1 of 100,000 keys and its patch, 100 subscriptions and 20 properties elsewhere",
        turns(1_000, 100, True, "key999", 1), turns(100_000, 100, True, "key999", 1),
        bar=1.3, against="the same in 1,000 keys",
    )  # fmt: skip
    await bench.compare(
        "what 20 properties are calculated from, assigned 100 times, and the patch",
        turns(100, 0, True, "a", 1), turns(100, 0, True, "a", 100),
        bar=None, against="assigned once",
    )  # fmt: skip
