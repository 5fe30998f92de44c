"""docs/coming-from-writer.md: its app runs, its page fits, and what it says holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.compat.conftest import HERE, migrated
from tests.core.visitor import Visitor
from tests.support.scripts import script
from tests.test_docs import FENCE, ROOT
from tests.test_docs_run import blocks

PAGE = ROOT / "docs/coming-from-writer.md"


def test_the_app_of_the_page_runs(arun: Any, tmp_path: Path) -> None:
    [(_, text)] = blocks(PAGE, "python")

    async def story() -> None:
        async with script(tmp_path, {"main.py": text}) as app:
            assert app.handlers.left_out[0].name == "main.guard"
            visitor = await Visitor(app).open()
            assert visitor.frames[-1]["data"] == {"count": 0, "cart": {}, "title": "nothing yet"}
            await visitor.call("add", "chair")
            patch, toast = visitor.frames[-3:-1]
            assert patch["data"]["="] == {
                "/count": 1,
                "/cart": {"chair": 1},
                "/title": "1 things",
            }
            assert toast["data"] == {
                "message": "chair is in it",
                "title": "Cart",
                "kind": "success",
            }
            visitor.line.close()

    arun(story)


def test_the_diff_of_the_page_is_what_the_tests_change() -> None:
    diff = next(m[4] for m in FENCE.finditer(PAGE.read_text("utf-8")) if m[3].strip() == "diff")
    lines = [line.strip() for line in diff.splitlines()]
    before = [line[1:] for line in lines if line.startswith("-")]
    after = [line[1:] for line in lines if line.startswith("+")]
    assert migrated("\n".join(before)).splitlines() == after


def test_the_page_asks_for_what_the_app_has() -> None:
    [(_, text)] = blocks(PAGE, "python")
    [(_, page)] = blocks(PAGE, "html")
    assert 'data-gr-on:click="add"' in page
    assert "def add(" in text
    assert 'data-gr-text="title"' in page


def test_the_javascript_of_the_page_is_that_of_the_app_in_the_browser() -> None:
    [(_, code)] = blocks(PAGE, "js")
    assert code.strip() == (HERE / "app/public/page.js").read_text("utf-8").strip()
