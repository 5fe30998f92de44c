"""Mutating state, mutation detection, mutation event: what is changed, what is sent, who hears."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pyarrow.ipc
import pytest
from tests.core.visitor import Visitor
from tests.seeds.samples import IMPORT, main, patch_of, samples, told
from tests.support.scripts import script

FRAME = '{"my_df": pandas.DataFrame({"x": [1, 2, 3]}), "other": 1}'
NAMES = "import random\nimport pandas\n"


def column(data: dict[str, str]) -> list[Any]:
    """The column x of a table as a browser gets it."""
    raw = base64.b64decode(data["$bytes"])
    values: list[Any] = pyarrow.ipc.open_stream(raw).read_all().column("x").to_pylist()
    return values


# -- mutating state -------------------------------------------------------------------------------


@told("Mutating state")
def test_mutating_state_takes_bobs_counter_from_4_to_5(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    (sample,) = samples(seed, "Mutating state")

    async def story() -> None:
        async with script(tmp_path, main(sample, '{"counter": 4}')) as app:
            bob = await Visitor(app).open()
            assert bob.frames[-1]["data"] == {"counter": 4}
            assert await patch_of(bob, "handle_click") == {"=": {"/counter": 5}}
            assert bob.session.state["counter"] == 5
            bob.line.close()

    arun(story)


@told("Mutating state")
def test_mutating_state_leaves_other_sessions_alone(arun: Any, tmp_path: Path, seed: str) -> None:
    (sample,) = samples(seed, "Mutating state")

    async def story() -> None:
        async with script(tmp_path, main(sample, '{"counter": 4}')) as app:
            alice, bob = await Visitor(app).open(), await Visitor(app).open()
            await bob.call("handle_click")
            seen = len(alice.frames)
            assert await patch_of(alice, "handle_click") == {"=": {"/counter": 5}}  # from 4 too
            assert len(alice.frames) == seen + 2, "nothing of Bob's click ever reached Alice"
            newcomer = await Visitor(app).open()
            assert newcomer.frames[-1]["data"] == {"counter": 4}
            for visitor in (alice, bob, newcomer):
                visitor.line.close()

    arun(story)


@told("Mutating state")
def test_mutating_state_reads_missing_keys_as_none(arun: Any, tmp_path: Path, seed: str) -> None:
    (sample,) = samples(seed, "Mutating state")
    sample += '\ndef look(state):\n    return [state["counter"], state["missing"]]\n'

    async def story() -> None:
        async with script(tmp_path, main(sample, '{"counter": 4}')) as app:
            visitor = await Visitor(app).open()
            assert await visitor.call("look") == [4, None]
            assert visitor.session.state["missing"] is None
            visitor.line.close()

    arun(story)


# -- mutation detection ---------------------------------------------------------------------------


@told("Mutation detection")
def test_mutation_detection_sees_each_of_the_two_samples(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    async def story() -> None:
        for number, sample in enumerate(samples(seed, "Mutation detection")):
            folder = tmp_path / str(number)
            async with script(folder, main(sample, FRAME, NAMES)) as app:
                visitor = await Visitor(app).open()
                patch = await patch_of(visitor, "handle_click")
                assert list(patch) == ["="]
                assert list(patch["="]) == ["/my_df"]
                assert sorted(column(patch["="]["/my_df"])) == [1, 2, 3]
                visitor.line.close()

    arun(story)


@told("Mutation detection")
def test_mutation_detection_needs_an_assignment(arun: Any, tmp_path: Path, seed: str) -> None:
    """The samples' own ``sample()`` makes a new frame; here one is really changed in place."""
    assert samples(seed, "Mutation detection")
    sample = (
        "def in_place(state):\n    state['my_df'].loc[0, 'x'] = 9\n\n"
        "def afterwards(state):\n    state['my_df'] = state['my_df']\n"
    )

    async def story() -> None:
        async with script(tmp_path, main(sample, FRAME, NAMES)) as app:
            visitor, other = await Visitor(app).open(), await Visitor(app).open()
            assert await patch_of(visitor, "in_place") == {}
            patch = await patch_of(visitor, "afterwards")
            assert column(patch["="]["/my_df"]) == [9, 2, 3]
            patch = await patch_of(other, "afterwards")  # each session has a frame of its own
            assert column(patch["="]["/my_df"]) == [1, 2, 3]
            visitor.line.close()
            other.line.close()

    arun(story)


OPERATORS = {
    "state['n'] = 7": 7,
    "state['n'] += 1": 8,
    "state['n'] -= 1": 6,
    "state['n'] *= 2": 14,
    "state['n'] //= 2": 3,
    "state['n'] **= 2": 49,
    "state['n'] %= 4": 3,
    "state['n'] |= 8": 15,
    "state['n'] <<= 1": 14,
}


@told("Mutation detection")
@pytest.mark.parametrize("line", OPERATORS)
def test_mutation_detection_sees_every_assignment_operator(
    arun: Any, tmp_path: Path, seed: str, line: str
) -> None:
    assert samples(seed, "Mutation detection")
    files = main(f"def change(state):\n    {line}\n", '{"n": 7, "other": 1}')

    async def story() -> None:
        async with script(tmp_path, files) as app:
            visitor = await Visitor(app).open()
            assert await patch_of(visitor, "change") == {"=": {"/n": OPERATORS[line]}}
            visitor.line.close()

    arun(story)


@told("Mutation detection")
def test_mutation_detection_sends_what_was_assigned_and_nothing_else(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    assert samples(seed, "Mutation detection")
    state = '{"a": 1, "b": [1, 2], "deep": {"x": {"y": 1, "z": 2}}, "_private": 0}'
    sample = (
        "def one(state):\n    state['a'] = 1\n\n"  # an equal value is an assignment like any other
        "def inside(state):\n    state['deep']['x']['y'] += 1\n    state['_private'] = 1\n\n"
        "def read(state):\n    return [state['a'], state['b'], state['deep']['x']['y']]\n\n"
        "def drop(state):\n    del state['a']\n"
    )

    async def story() -> None:
        async with script(tmp_path, main(sample, state)) as app:
            visitor = await Visitor(app).open()
            assert await patch_of(visitor, "one") == {"=": {"/a": 1}}
            assert await patch_of(visitor, "inside") == {"=": {"/deep/x/y": 2}}
            assert await patch_of(visitor, "read") == {}
            assert await patch_of(visitor, "drop") == {"-": ["/a"]}
            visitor.line.close()

    arun(story)


# -- mutation event -------------------------------------------------------------------------------


@told("Mutation event")
def test_mutation_event_calls_whoever_subscribed_to_the_key(
    arun: Any, tmp_path: Path, seed: str
) -> None:
    (sample,) = samples(seed, "Mutation event")

    async def story() -> None:
        async with script(tmp_path, {"main.py": IMPORT + sample}) as app:
            visitor, other = await Visitor(app).open(), await Visitor(app).open()
            assert await patch_of(visitor, "change_a", 5) == {
                "=": {"/a": 5, "/my_counter": 1, "/seen": [0, 5, "mutation", "a"]}
            }
            assert await patch_of(visitor, "change_a", 5) == {
                "=": {"/a": 5, "/my_counter": 2, "/seen": [5, 5, "mutation", "a"]}
            }
            assert await patch_of(visitor, "change_b", 5) == {"=": {"/b": 5}}
            assert (await patch_of(other, "change_a", 1))["="]["/my_counter"] == 1
            visitor.line.close()
            other.line.close()

    arun(story)
