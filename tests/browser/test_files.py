"""A file picked in a browser reaches a handler and comes back as a download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect
from tests.browser.conftest import Server, Visit

CONTENT = bytes(range(256)) * 20_000  # 5 MB


def served(serve: Callable[..., Server]) -> Server:
    return serve("greenroom", "run", "tests/browser/pages/files")


def picked(name: str, content: bytes, mime: str = "application/x-mine") -> Any:
    return {"name": name, "mimeType": mime, "buffer": content}


async def saved(page: Page, button: str) -> tuple[str, bytes]:
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name=button, exact=True).click()
    download = await waiting.value
    path = await download.path()
    return download.suggested_filename, Path(path).read_bytes()


async def test_up_with_progress_and_down_again(visit: Visit, serve: Callable[..., Server]) -> None:
    page = await visit(served(serve).url)
    await page.get_by_label("pick").set_input_files(
        [picked("small.txt", b"hello", "text/plain"), picked("big one.bin", CONTENT)]
    )
    await expect(page.locator("#digest")).to_have_text(hashlib.sha256(CONTENT).hexdigest())
    await expect(page.locator("#files")).to_have_text(
        f'["small.txt text/plain 5","big one.bin application/x-mine {len(CONTENT)}"]'
    )
    await expect(page.locator("progress")).to_have_js_property("value", 1)
    steps = await page.evaluate("steps")
    sizes = [step["sent"] for step in steps]
    assert sizes[0] == 0
    assert sizes[-1] == len(CONTENT)
    assert sizes == sorted(sizes)
    assert [step["done"] for step in steps] == [False] * (len(steps) - 1) + [True]
    assert await saved(page, "give") == ("back again.bin", CONTENT)
    assert await saved(page, "give") == ("back again.bin", CONTENT)  # a new address each time
    assert await saved(page, "small") == ("täble.csv", b"a,b\n")


async def test_a_form_sends_its_files_with_the_rest(
    visit: Visit, serve: Callable[..., Server]
) -> None:
    page = await visit(served(serve).url)
    await page.get_by_label("note").fill("hi")
    files = [picked("a", b"x"), picked("b", CONTENT)]
    await page.get_by_label("files").set_input_files(files)
    await page.get_by_role("button", name="send").click()
    await expect(page.locator("#files")).to_have_text('["Bytes","File","hi"]')


async def test_an_upload_is_aborted(visit: Visit, serve: Callable[..., Server]) -> None:
    page = await visit(served(serve).url)
    code = await page.evaluate(
        """async () => {
            await gr.ready;
            const control = new AbortController();
            const file = new File([new Uint8Array(50_000_000)], "big");
            const progress = () => control.abort();
            const sent = gr.upload(file, { signal: control.signal, progress });
            return sent.then(() => "whole", (error) => error.code);
        }"""
    )
    assert code == "cancelled"
