"""The samples of the seeds, from the pages beside this file: by seed, heading and number."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.test_docs import FENCE

SEEDS = {path.stem: path.read_text("utf-8") for path in Path(__file__).parent.glob("*.md")}
IMPORT = "import greenroom as gr\n\n"  # the line that is ours


def sections(seed: str) -> dict[str, str]:
    """The text below each heading of a seed."""
    _, *parts = re.split(r"^## (.*)\n", SEEDS[seed], flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def samples(seed: str, heading: str) -> list[str]:
    """The code below a heading, block by block."""
    return [textwrap.dedent(found[4]) for found in FENCE.finditer(sections(seed)[heading])]


def told(heading: str) -> Any:
    """Run a test for every seed that has this heading: ``seed`` is its number."""
    seeds = sorted(seed for seed in SEEDS if heading in sections(seed))
    return pytest.mark.parametrize("seed", seeds, ids=[f"seed_{seed}" for seed in seeds])


def main(sample: str, state: str = "", names: str = "") -> dict[str, str]:
    """The folder of an app: a sample, what it starts with, and the names it leaves undefined."""
    begin = f"gr.init_state({state})\n\n" if state else ""
    return {"main.py": f"{IMPORT}{names}\n{begin}{sample}\n"}


def patches(visitor: Visitor, since: int = 0) -> list[dict[str, Any]]:
    """The patches a client got, beginning with the frame of that number."""
    return [frame["data"] for frame in visitor.frames[since:] if frame["type"] == "gr:state"]


async def patch_of(visitor: Visitor, event: str, data: Any = None, **more: Any) -> Any:
    """Send an event; the one patch it led to, {} when there was none."""
    since = len(visitor.frames)
    answer = await visitor.call(event, data, **more)
    assert not (isinstance(answer, dict) and "code" in answer), answer
    found = patches(visitor, since)
    assert len(found) < 2, "a short turn is sent in one piece"
    return found[0] if found else {}
