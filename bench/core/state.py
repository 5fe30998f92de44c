"""Assigning state: against the same stores into plain dicts."""

from __future__ import annotations

from greenroom.core.state import Ledger, Template

from ..harness import Bench, Measure, clock


async def run(bench: Bench) -> None:
    await _same_key(bench)
    await _ten_keys(bench)
    await _nested(bench)
    await _growth(bench)


def _ledger(values: dict[str, object]) -> Ledger:
    return Template(values).open()


async def _same_key(bench: Bench) -> None:
    loops = bench.loops(200_000)
    book = _ledger({"counter": 0})
    plain = {"counter": 0}

    def ours() -> float:
        book.open()
        state = book.root
        start = clock()
        for i in range(loops):
            state["counter"] = i
        spent = clock() - start
        book.commit(False)
        assert state["counter"] == loops - 1
        return spent / loops

    def base() -> float:
        start = clock()
        for i in range(loops):
            plain["counter"] = i
        spent = clock() - start
        assert plain["counter"] == loops - 1
        return spent / loops

    await bench.compare("state[k] = v, the same key again", base, ours, bar=1.5, against="dict")


async def _ten_keys(bench: Bench) -> None:
    loops = bench.loops(20_000)
    keys = [f"key{i}" for i in range(10)]
    book = _ledger(dict.fromkeys(keys, 0))
    plain = dict.fromkeys(keys, 0)
    a, b, c, d, e, f, g, h, j, k = keys

    def ours() -> float:
        state = book.root
        start = clock()
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
        spent = clock() - start
        assert state.to_raw_state() == dict.fromkeys(keys, loops - 1)
        return spent / loops

    def base() -> float:
        start = clock()
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
        spent = clock() - start
        assert plain == dict.fromkeys(keys, loops - 1)
        return spent / loops

    await bench.compare("ten keys, and the commit", base, ours, bar=4.0, against="ten dict stores")


async def _nested(bench: Bench) -> None:
    loops = bench.loops(100_000)
    book = _ledger({"a": {"b": {"k": 0}}})
    plain = {"a": {"b": {"k": 0}}}

    def ours() -> float:
        book.open()
        state = book.root
        start = clock()
        for i in range(loops):
            state["a"]["b"]["k"] = i
        spent = clock() - start
        book.commit(False)
        assert state["a"]["b"]["k"] == loops - 1
        return spent / loops

    def base() -> float:
        start = clock()
        for i in range(loops):
            plain["a"]["b"]["k"] = i
        spent = clock() - start
        assert plain["a"]["b"]["k"] == loops - 1
        return spent / loops

    await bench.compare("state[a][b][k] = v", base, ours, bar=1.7, against="dicts")


async def _growth(bench: Bench) -> None:
    """A turn of ten assignments with its patch, in a state of 10 keys and in larger ones."""
    loops = bench.loops(2_000)

    def turns(size: int) -> Measure:
        keys = [f"key{i * (size // 10)}" for i in range(10)]
        book = _ledger({f"key{i}": i for i in range(size)})

        def measure() -> float:
            state = book.root
            patch = None
            start = clock()
            for i in range(loops):
                book.open()
                for key in keys:
                    state[key] = i
                book.commit(True)
                patch = book.ship()
                book.shipped()
            spent = clock() - start
            assert patch is not None
            assert patch.set == {f"/{key}": loops - 1 for key in keys}
            return spent / loops

        return measure

    small = turns(10)
    for size in (1_000, 100_000):
        await bench.compare(
            f"ten keys and their patch in a state of {size:,} keys", small, turns(size),
            bar=1.3, against="the same in a state of 10 keys",
        )  # fmt: skip
