"""What the server can ask a page to do: one frame for each verb."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from tests.core.visitor import Visitor

from greenroom import App

VERBS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any]]] = [
    ("notify", ("Saved",), {}, "gr:notify", {"message": "Saved", "kind": "info"}),
    (
        "notify",
        ("No",),
        {"title": "Sorry", "kind": "error", "position": "top-left", "duration": 500},
        "gr:notify",
        {
            "message": "No",
            "title": "Sorry",
            "kind": "error",
            "position": "top-left",
            "duration": 500,
        },
    ),
    ("open_url", ("https://a.example/x",), {}, "gr:open-url", {"url": "https://a.example/x"}),
    ("set_page", ("list",), {"params": {"a": "1"}}, "gr:page",
     {"page": "list", "params": {"a": "1"}}),
    ("set_page", ("list",), {}, "gr:page", {"page": "list", "params": {}}),
    ("set_content", ("#a",), {"text": "<b>"}, "gr:content", {"target": "#a", "text": "<b>"}),
    ("set_content", ("#a",), {"html": "<b>"}, "gr:content", {"target": "#a", "html": "<b>"}),
    ("set_content", ("#a",), {"text": ""}, "gr:content", {"target": "#a", "text": ""}),
    ("set_style", (".a", {"color": "red"}), {}, "gr:style",
     {"selector": ".a", "styles": {"color": "red"}}),
    ("call", ("charts", "draw", 1, [2]), {}, "gr:call",
     {"module": "charts", "function": "draw", "args": [1, [2]]}),
    ("import_module", ("./x.js",), {}, "gr:import", {"url": "./x.js"}),
    ("import_module", ("./x.js",), {"name": "y"}, "gr:import", {"url": "./x.js", "name": "y"}),
    (
        "download",
        (b"a,b", "t.csv"),
        {},
        "gr:download",
        {
            "filename": "t.csv",
            "mime": "text/csv",
            "data": {"$bytes": base64.b64encode(b"a,b").decode(), "mime": "text/csv",
                     "name": "t.csv"},
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "args", "options", "kind", "data"), VERBS, ids=[row[3] for row in VERBS]
)
def test_each_verb_is_one_frame(
    arun: Any,
    verb: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
    kind: str,
    data: dict[str, Any],
) -> None:
    async def story() -> None:
        def act(session: Any) -> None:
            getattr(session, verb)(*args, **options)
            session.emit("app:after")

        async with App(handlers=[act]) as app:
            visitor = await Visitor(app).open()
            getattr(visitor.session, verb)(*args, **options)  # at once
            assert await visitor.next() == {"type": kind, "seq": 2, "data": data, "label": "main"}
            await visitor.call("act")  # with the turn, in order
            assert [f["type"] for f in visitor.frames[-3:]] == [kind, "app:after", "gr:result"]
            assert visitor.frames[-3]["data"] == data
            visitor.line.close()

    arun(story)


def test_what_a_failed_turn_asked_for_is_not_done(arun: Any) -> None:
    async def story() -> None:
        def act(session: Any) -> None:
            session.notify("Saved")
            raise RuntimeError("it was not")

        async with App(handlers=[act]) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("act"))["code"] == "handler_error"
            assert "gr:notify" not in [frame["type"] for frame in visitor.frames]
            visitor.line.close()

    arun(story)


def test_a_download_may_be_a_file(arun: Any, tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "a picture.png"
        path.write_bytes(b"\x89PNG")
        async with App() as app:
            visitor = await Visitor(app).open()
            for source in (path, str(path)):
                visitor.session.download(source)
                frame = await visitor.next()
                assert frame["data"]["filename"] == "a picture.png"
                assert frame["data"]["mime"] == "image/png"
            visitor.session.download(b"?")
            frame = await visitor.next()
            assert (frame["data"]["filename"], frame["data"]["mime"]) == (
                "download", "application/octet-stream",
            )  # fmt: skip
            with pytest.raises(FileNotFoundError):
                visitor.session.download(tmp_path / "none")
            visitor.line.close()

    arun(story)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,<script>",
        "file:///etc/passwd",
        "vbscript:x",
        "blob:https://a.example/1",
    ],
)
def test_urls_that_run_or_read_something_are_refused(arun: Any, url: str) -> None:
    async def story() -> None:
        async with App() as app:
            visitor = await Visitor(app).open()
            with pytest.raises(ValueError, match="open_url takes"):
                visitor.session.open_url(url)
            with pytest.raises(ValueError, match="import_module takes"):
                visitor.session.import_module(url)
            assert not visitor.line.arrived
            visitor.line.close()

    arun(story)


@pytest.mark.parametrize(
    "url",
    ["http://a.example", "mailto:a@b.example", "/a?b=c", "a/b", "?q=a:b", "#x", "//a.example"],
)
def test_other_urls_are_taken(arun: Any, url: str) -> None:
    async def story() -> None:
        async with App() as app:
            visitor = await Visitor(app).open()
            visitor.session.open_url(url)
            assert (await visitor.next())["data"] == {"url": url}
            visitor.line.close()

    arun(story)


def test_content_is_text_or_html(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            session = app.open_session()
            odd: list[dict[str, Any]] = [{"kind": "purple"}, {"position": "middle"}]
            for options in odd:
                with pytest.raises(ValueError, match=r"not (at )?'(purple|middle)'"):
                    session.notify("x", **options)
            for fields in ({}, {"text": "a", "html": "b"}):
                with pytest.raises(ValueError, match="exactly one"):
                    session.set_content("#a", **fields)

    arun(story)
