"""The examples of docs/protocol.md are parts of stories that the server replays."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.reference.link_vectors import FILE, transcript

from greenroom.core.hello import CLOSES

PAGE = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text("utf-8")
VECTORS = {vector["name"]: vector for vector in json.loads(FILE.read_text("utf-8"))["vectors"]}
EXAMPLES = re.findall(r"^```text vector: (.+)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example_is_part_of_its_vector(name: str, example: str) -> None:
    wanted, story = example.splitlines(), transcript(VECTORS[name])
    places = range(len(story) - len(wanted) + 1)
    assert any(story[place : place + len(wanted)] == wanted for place in places)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8
    assert PAGE.count("```text vector:") == len(EXAMPLES)


def test_frames_in_tables_are_json() -> None:
    frames = re.findall(r"^\| `(\{\"type\".*?\})`(?:,| \|)", PAGE, re.MULTILINE)
    assert len(frames) >= 15
    for frame in frames:
        if ":n}" not in frame:
            assert "type" in json.loads(frame)


def test_the_page_has_every_close() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{4}) \|", PAGE, re.MULTILINE))
    assert rows == {code: str(ws) for code, (ws, _) in CLOSES.items()}
