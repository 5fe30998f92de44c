"""The examples of docs/client.md that need a browser, served and used as they are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.async_api import expect
from tests.browser.conftest import Server, Visit, Watch
from tests.support.scripts import write
from tests.test_docs import ROOT
from tests.test_docs_run import blocks

Serve = Callable[..., Server]

HEAD = '<!doctype html><title>A page</title><link rel="icon" href="data:,"><body>'
SCRIPT = 'import { connect } from "./greenroom.js";\nconst gr = (globalThis.gr = connect());\n'


def example(language: str, word: str) -> str:
    """The block of the page that has a word in it."""
    (found,) = (text for _, text in blocks(ROOT / "docs/client.md", language) if word in text)
    return found


async def test_answers_stay_with_the_messages_they_are_for(
    visit: Visit, serve: Serve, tmp_path: Path
) -> None:
    main = "import greenroom as gr\n\ngr.init_state({'last_id': 0, 'messages': []})\n\n\n"
    files = {
        "main.py": main + example("python", "def receive("),
        "public/index.html": f"{HEAD}<script type=module src=page.js></script>"
        + example("html", "data-gr-id"),
        "public/page.js": SCRIPT + "gr.bind(document);\n",
    }
    page = await visit(serve("greenroom", "run", str(write(tmp_path, files))).url)
    await page.evaluate("gr.call('receive', 'hello')")
    await page.get_by_placeholder("answer").press_sequentially("half")
    await page.evaluate("gr.call('receive', 'are you there?')")
    await page.keyboard.type(" an answer")
    await page.keyboard.press("Enter")
    await expect(page.locator("b")).to_have_text(["are you there?", "hello (half an answer)"])


async def test_failures_of_the_page_reach_the_log_of_the_server(
    visit: Visit, serve: Serve, tmp_path: Path, watch: Watch
) -> None:
    watch.expect("no chart|no data")
    files = {
        "main.py": example("python", "def page_failed("),
        "public/index.html": f"{HEAD}<script type=module src=page.js></script>",
        "public/page.js": SCRIPT + example("js", "page_failed"),
    }
    server = serve("greenroom", "run", str(write(tmp_path, files)))
    page = await visit(server.url)
    await page.evaluate(
        """async () => {
            await gr.ready;
            setTimeout(() => { throw new Error("no chart"); });
            void Promise.reject(new Error("no data"));
        }"""
    )
    wanted = ("a page failed: Uncaught Error: no chart", "a page failed: Error: no data")
    while not all(text in "".join(server.log) for text in wanted):
        await page.evaluate("null")
