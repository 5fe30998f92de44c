"""The app that is mounted in FastAPI: its page, its sessions, and an ordinary route beside them."""

from __future__ import annotations

from collections.abc import Callable

from playwright.async_api import expect
from tests.browser.conftest import Server, Visit


async def test_the_counter_counts_below_a_mount(visit: Visit, serve: Callable[..., Server]) -> None:
    server = serve("uvicorn", "--app-dir", "examples/fastapi_counter", "main:api")
    one, two = await visit(server.url), await visit(server.url)
    for _ in range(3):
        await one.get_by_role("button", name="more").click()
    await one.get_by_role("button", name="less").click()
    await two.get_by_role("button", name="more").click()
    await expect(one.get_by_label("Count")).to_have_text("2")
    await expect(two.get_by_label("Count")).to_have_text("1")
    answer = await one.request.get(f"{server.url}visitors")
    assert sorted((await answer.json())["counts"]) == [1, 2]
    await one.reload()
    await expect(one.get_by_label("Count")).to_have_text("2")
