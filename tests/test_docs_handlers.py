"""docs/handlers.md: its blocks run from top to bottom, in an app, and do what the page says."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator
from types import ModuleType
from typing import Any

import pytest
from tests.core.visitor import Visitor
from tests.test_docs import ROOT
from tests.test_docs_run import run_page

import greenroom as gr

PAGE = ROOT / "docs/handlers.md"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules that the page imports and does not show."""
    for name, handler in (("orders", "ship"), ("more_handlers", "refund")):
        module = ModuleType(name)
        exec(f"def {handler}(state): return {handler!r}", vars(module))
        monkeypatch.setitem(sys.modules, name, module)


def test_the_page_is_one_application(arun: Any, elsewhere: None) -> None:
    @contextlib.asynccontextmanager
    async def connect() -> AsyncGenerator[str]:
        yield "a database"

    async def fetch_rows() -> list[int]:
        return [1, 2, 3]

    async def story() -> None:
        app = gr.App(state={"count": 0, "ticks": 0, "name": "Ada", "job": None})
        with app.registering():
            page = await run_page(PAGE)
        page.update(connect=connect, fetch_rows=fetch_rows)
        names = ("increment", "load", "rename", "order", "tick", "stop", "_open", "save")
        for name in names:
            app.handlers.add(page[name])
        assert [middleware.kind for middleware in app.middlewares] == [
            *("generator", "async_generator", "plain")
        ]
        async with app:
            stranger = await Visitor(app).hello()
            assert stranger["data"]["code"] == "unauthorized"
            visitor = await Visitor(app, cookies={"login": "s3cret"}).open()
            session = visitor.session
            assert session.userinfo == {"name": "Ada"}
            assert (await visitor.call("increment", 1))["code"] == "handler_error"  # no member
            session.userinfo["member"] = True
            await visitor.call("increment")
            await visitor.call("increment", 4)
            assert (await visitor.call("increment", "5"))["code"] == "bad_payload"
            await visitor.call("load")
            await visitor.call("rename", "Grace")
            await visitor.call("order", {"item": "chair", "quantity": 2})
            assert (await visitor.call("order", {"quantity": 2}))["code"] == "bad_payload"
            await visitor.call("tick")
            await visitor.call("open")
            await visitor.call("stop")
            assert session.state == {
                "count": 5,
                "rows": [1, 2, 3],
                "name": "Grace",
                "last": "2 x chair",
                "ticks": 1,
                "open": True,
                "job": None,
                "_database": "a database",
            }
            assert [await visitor.call(name) for name in ("ship", "more_handlers.refund")] == [
                *("ship", "refund")
            ]
            await visitor.call("cart:add", {"item": "chair"})
            assert visitor.frames[-2]["data"] == {"item": "chair"}
            await visitor.call("cart:clear")
            await visitor.call("save")
            said = [record.text for record in session.log]
            assert {"cleared", "saving Grace", "saved", "the disk is nearly full"} <= set(said)
            assert any(text.startswith("increment: 0.") for text in said)
            visitor.line.close()
        assert page["shop"].template.open().root == {"cart": []}
        assert page["office"].template.open().root == {"desk": 1}

    arun(story)
