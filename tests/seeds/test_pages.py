"""The pages of the seeds name tests that exist, and every test is named there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.seeds.samples import SEEDS, samples, sections

HERE = Path(__file__).parent
TESTS = {
    name: heading
    for path in HERE.glob("test_*.py")
    for heading, name in re.findall(
        r'@told\("([^"]+)"\)\n(?:@.*\n|[^d].*\n)*?def (test_\w+)', path.read_text("utf-8")
    )
}


@pytest.mark.parametrize("seed", sorted(SEEDS))
def test_every_sentence_has_a_test(seed: str) -> None:
    for heading, text in sections(seed).items():
        rows = re.findall(r"^\| (?!said|-)(.+) \| (.+) \|$", text, re.MULTILINE)
        assert rows, heading
        assert samples(seed, heading), heading
        for _, tests in rows:
            named = re.findall(r"`(test_\w+)`", tests)
            assert named, heading
            assert {TESTS[name] for name in named} == {heading}


def test_every_test_is_named_by_a_sentence() -> None:
    named = {name for text in SEEDS.values() for name in re.findall(r"`(test_\w+)`", text)}
    assert named == set(TESTS)
    for name, heading in TESTS.items():
        prefix = re.sub(r"\W+", "_", heading.lower()).replace("asynchronous_event", "async")
        prefix = prefix.replace("plain_python_functions", "plain_functions")
        assert name.startswith(f"test_{prefix}_"), "a test is called after its heading"
