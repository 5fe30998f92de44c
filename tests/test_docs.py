"""The Markdown pages: links lead somewhere, anchors exist, Python code compiles."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "bench/**/*.md", "examples/**/*.md", "src/**/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors a page offers, made from its headings as GitHub makes them."""
    found: dict[str, int] = {}
    result: set[str] = set()
    text = FENCE.sub("", page.read_text("utf-8"))
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = found[slug] = found.get(slug, -1) + 1
        result.add(f"{slug}-{count}" if count else slug)
    return result | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


def links(text: str) -> list[str]:
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    inline = re.findall(r"\[[^]]*\]\(<?([^)\s>]+)>?[^)]*\)", prose)
    named = re.findall(r"^\[[^]]+\]: *(\S+)", prose, re.MULTILINE)
    return inline + named


def test_the_readers_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three\n[a](b.md#c) `[no](x)`\n```\n[no](y)\n```\n[d]: e\n# A\n# A\n"
    )
    assert anchors(page) == {"one-two-three", "a", "a-1"}
    assert links(page.read_text()) == ["b.md#c", "e"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in links(page.read_text("utf-8")):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue  # another site: not asked, so that tests need no network
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_can_be_read(page: Path) -> None:
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        language = found[3].split()[0].lower() if found[3].strip() else ""
        code = textwrap.dedent(found[4])
        line = text[: found.start()].count("\n") + 2
        where = f"{name(page)}:{line}"
        if language in ("python", "py"):
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compile(code, where, "exec", flags)
        elif language == "json":
            assert json.loads(code) is not None, where
