"""What assigning, opening and shipping state cost, each as a ratio to a bare equivalent.

    python bench/micro/bench_state.py [rounds]

Every ratio compares two loops of one run, alternating A B B A; the median over the rounds is
printed. Every answer is checked. The bars are the project's performance goals.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tracemalloc
from collections.abc import Callable
from sys import intern
from time import thread_time as clock  # what others do meanwhile does not count

import orjson

from greenroom.core.state import Ledger, Template

Run = Callable[[int], float]


def versus(ours: Run, theirs: Run, loops: int, rounds: int) -> tuple[float, float, float]:
    """Median ratio, and the medians of both in nanoseconds per loop."""
    mine: list[float] = []
    base: list[float] = []
    ratios: list[float] = []
    for i in range(rounds):
        if i % 2:
            b, a = theirs(loops), ours(loops)
        else:
            a, b = ours(loops), theirs(loops)
        mine.append(a / loops * 1e9)
        base.append(b / loops * 1e9)
        ratios.append(a / b)
    return statistics.median(ratios), statistics.median(mine), statistics.median(base)


def timed(step: Callable[[int], None]) -> Run:
    def run(loops: int) -> float:
        started = clock()
        step(loops)
        return clock() - started

    return run


def ledger(values: dict[str, object]) -> Ledger:
    return Template(values).open()


def assign_same_key() -> tuple[Run, Run]:
    book = ledger({"counter": 0})
    plain: dict[str, int] = {"counter": 0}

    def ours(loops: int) -> None:
        book.open()
        state = book.root
        for i in range(loops):
            state["counter"] = i
        book.commit(False)
        assert state["counter"] == loops - 1

    def theirs(loops: int) -> None:
        for i in range(loops):
            plain["counter"] = i
        assert plain["counter"] == loops - 1

    return timed(ours), timed(theirs)


def ten_keys_and_commit() -> tuple[Run, Run]:
    keys = [f"key{i}" for i in range(10)]
    book = ledger(dict.fromkeys(keys, 0))
    plain = dict.fromkeys(keys, 0)
    a, b, c, d, e, f, g, h, j, k = keys

    def ours(loops: int) -> None:
        state = book.root
        for i in range(loops):
            book.open()
            state[a] = i
            state[b] = i
            state[c] = i
            state[d] = i
            state[e] = i
            state[f] = i
            state[g] = i
            state[h] = i
            state[j] = i
            state[k] = i
            book.commit(False)
        assert state.to_raw_state() == dict.fromkeys(keys, loops - 1)

    def theirs(loops: int) -> None:
        for i in range(loops):
            plain[a] = i
            plain[b] = i
            plain[c] = i
            plain[d] = i
            plain[e] = i
            plain[f] = i
            plain[g] = i
            plain[h] = i
            plain[j] = i
            plain[k] = i
        assert plain == dict.fromkeys(keys, loops - 1)

    return timed(ours), timed(theirs)


def assign_nested() -> tuple[Run, Run]:
    book = ledger({"a": {"b": {"k": 0}}})
    plain = {"a": {"b": {"k": 0}}}

    def ours(loops: int) -> None:
        book.open()
        state = book.root
        for i in range(loops):
            state["a"]["b"]["k"] = i
        book.commit(False)
        assert state["a"]["b"]["k"] == loops - 1

    def theirs(loops: int) -> None:
        for i in range(loops):
            plain["a"]["b"]["k"] = i
        assert plain["a"]["b"]["k"] == loops - 1

    return timed(ours), timed(theirs)


Place = tuple[tuple[str, ...], str, str]  # nodes on the way, key, pointer


def patch_bytes(
    template: Template, places: list[Place], values: list[object], sessions: int
) -> tuple[Run, Run]:
    """Encoding the patch of some dirty keys, against orjson on a prebuilt {path: value}.

    Several sessions are made dirty, then shipped between two readings of the clock.
    """
    prebuilt = {path: value for (_, _, path), value in zip(places, values, strict=True)}
    books = [template.open() for _ in range(sessions)]

    def dirty(book: Ledger) -> None:
        book.open()
        for (way, key, _), value in zip(places, values, strict=True):
            node = book.root
            for name in way:
                node = node[name]
            node[key] = value
        book.commit(True)

    def ours(loops: int) -> float:
        spent = 0.0
        for _ in range(loops // len(books)):
            for book in books:
                dirty(book)
            started = clock()
            for book in books:
                patch = book.ship()
            spent += clock() - started
            for book in books:
                book.shipped()
        assert patch is not None
        assert json.loads(patch.encode()) == {"=": prebuilt}
        return spent

    def theirs(loops: int) -> float:
        started = clock()
        for _ in range(loops):
            text = orjson.dumps(prebuilt)
        spent = clock() - started
        assert json.loads(text) == prebuilt
        return spent

    return ours, theirs


def patch_10_of_1000(mixed: bool) -> tuple[Run, Run]:
    template = Template({f"key{i}": 0 for i in range(1000)})
    places: list[Place] = [((), intern(f"key{i * 100}"), f"/key{i * 100}") for i in range(10)]
    return patch_bytes(template, places, sample(10, mixed), 50)


def patch_100_of_10000(nodes: int, mixed: bool) -> tuple[Run, Run]:
    """The 10,000 keys are spread evenly over some nested states, and so are the 100 dirty ones."""
    size = 10_000 // nodes
    template = Template({f"n{i}": {f"key{j}": 0 for j in range(size)} for i in range(nodes)})
    places: list[Place] = [
        ((f"n{i}",), intern(f"key{j}"), f"/n{i}/key{j}")
        for i in range(nodes)
        for j in range(100 // nodes)
    ]
    return patch_bytes(template, places, sample(100, mixed), 5)


def sample(count: int, mixed: bool) -> list[object]:
    if not mixed:
        return [1000 + i for i in range(count)]
    kinds: list[object] = [12345, "some plain text", True, None, 3.25]
    return [kinds[i % len(kinds)] for i in range(count)]


def open_session(keys: int) -> tuple[float, float]:
    """Microseconds and bytes of one open session."""
    template = Template({f"key{i}": i for i in range(keys)})
    kept = [template.open() for _ in range(1000)]
    del kept
    gc.collect()
    started = clock()
    many = [template.open() for _ in range(20_000)]
    spent = clock() - started
    assert many[-1].root["key0" if keys else "none"] == (0 if keys else None)
    del many
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    many = [template.open() for _ in range(1000)]
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del many
    return spent / 20_000 * 1e6, size / 1000


def first_write() -> float:
    """Microseconds of a session's first turn with one assignment, its patch included."""
    template = Template({f"key{i}": i for i in range(100)})
    books = [template.open() for _ in range(5_000)]
    started = clock()
    for book in books:
        book.open()
        book.root["key5"] = -1
        book.commit(True)
        patch = book.ship()
    spent = clock() - started
    assert patch is not None
    assert patch.encode() == b'{"=":{"/key5":-1}}'
    return spent / 5_000 * 1e6


def main(rounds: int) -> None:
    ratios = [
        ("state[k] = v, same key, against dict", assign_same_key(), 200_000, 1.5),
        ("ten keys and commit, against ten dict stores", ten_keys_and_commit(), 20_000, 4.0),
        ("state[a][b][k] = v, against dicts", assign_nested(), 100_000, 1.7),
        ("patch 10 of 1,000, ints, against orjson", patch_10_of_1000(False), 5_000, 4.0),
        ("patch 10 of 1,000, mixed, against orjson", patch_10_of_1000(True), 5_000, 4.0),
        ("patch 100 of 10,000 in 10 nested, ints", patch_100_of_10000(10, False), 500, 5.5),
        ("patch 100 of 10,000 in 10 nested, mixed", patch_100_of_10000(10, True), 500, 5.5),
        ("patch 100 of 10,000 in 100 nested, ints", patch_100_of_10000(100, False), 500, 5.5),
        ("patch 100 of 10,000 in 100 nested, mixed", patch_100_of_10000(100, True), 500, 5.5),
    ]
    for name, (ours, theirs), loops, bar in ratios:
        ratio, mine, base = versus(ours, theirs, loops, rounds)
        verdict = "ok" if ratio <= bar else "MISSED"
        print(f"{name:48} {ratio:6.2f} x  (bar {bar}) {mine:9.1f} / {base:8.1f} ns  {verdict}")
    for keys in (0, 100):
        spent, size = open_session(keys)
        print(f"open, template of {keys:3} keys: {spent:.3f} us (bar 3), {size:.0f} B (bar 1024)")
    print(f"first write of a session of 100 keys with its patch: {first_write():.2f} us (bar 5)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
