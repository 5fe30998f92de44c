"""What the pages show is run as it is shown: the examples of the README, and whole pages."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import dataclasses
import inspect
import json
import re
import sys
import textwrap
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import uvicorn
from tests.core.visitor import HELLO, Visitor
from tests.support.scripts import script
from tests.support.served import served
from tests.test_docs import FENCE, PAGES, ROOT, name
from websockets.asyncio.client import connect as connect_ws

from greenroom import App, Settings
from greenroom.adapters import memory
from greenroom.client import connect

TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The code of a page in one language, with its lines."""
    text = page.read_text("utf-8")
    return [
        (text[: found.start()].count("\n") + 2, textwrap.dedent(found[4]))
        for found in FENCE.finditer(text)
        if found[3].strip() == language
    ]


async def run(code: str, where: str, line: int, names: dict[str, Any]) -> None:
    """Run one block; tracebacks name the page and the line."""
    compiled = compile("\n" * (line - 1) + code, where, "exec", TOP_LEVEL_AWAIT)
    result = eval(compiled, names)
    if inspect.iscoroutine(result):
        await result


async def run_page(page: Path) -> dict[str, Any]:
    """Run a page's blocks from top to bottom, as one program; what is defined at its end."""
    module = sys.modules["page"] = ModuleType("page")  # dataclasses look for it
    try:
        for line, code in blocks(page, "python"):
            await run(code, name(page), line, module.__dict__)
    finally:
        del sys.modules["page"]
    return module.__dict__


def test_the_verifier_of_the_security_page(arun: Any) -> None:
    async def story() -> None:
        made = await run_page(ROOT / "docs" / "security.md")
        assert len(made["settings"].csp) == 4
        async with made["app"] as app:
            (login,) = made["logins"]
            stranger = await Visitor(app, cookies={"login": "guessed"}).hello()
            assert stranger["data"]["code"] == "unauthorized"
            ada = await Visitor(app, cookies={"login": login}).open()
            assert ada.session.userinfo == {"name": "Ada", "admin": True}
            ada.send("log_out_everywhere")
            assert (await ada.until("gr:close"))["data"]["code"] == "unauthorized"
            again = await Visitor(app, cookies={"login": login}).hello(**ada.back())
            assert again["data"]["code"] == "unauthorized"

    arun(story)


def test_the_security_page_names_settings_that_exist_and_forgets_none() -> None:
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    rows = [row for row in text.splitlines() if row.startswith("| ")]
    named = {
        word
        for row in rows
        for cells in [row.strip("| ").split(" | ")]
        if len(cells) > 2
        for word in re.findall(r"`([a-z_]+)`", cells[2])
    }
    known = {field.name for field in dataclasses.fields(Settings)}
    assert named - {"imports"} <= known
    about = (
        "secret debug log_to_client expose origins hosts trusted_proxies csp authorize token_ttl "
        "max_frame_in inflight hello_timeout rate burst session_ttl unused_ttl max_connections "
        "max_sessions max_sessions_per_peer max_waiting_per_peer max_hellos max_links "
        "mailbox_messages mailbox_bytes log_bytes total_log_bytes dead turn_timeout workers_max"
    )
    assert set(about.split()) - named - set(re.findall(r"`([a-z_]+)", text)) == set()


@pytest.mark.parametrize(
    "page",
    [
        f"docs/{name}.md"
        for name in ("events", "globals", "operations", "reload", "state", "testing")
    ],
)
def test_the_blocks_of_a_page_are_one_program(arun: Any, page: str) -> None:
    arun(lambda: run_page(ROOT / page))


def test_streamed_text_is_streamed(arun: Any) -> None:
    """The handler of docs/state.md whose model is left to the reader."""

    async def story() -> None:
        names = await run_page(ROOT / "docs/state.md")

        async def model(prompt: str) -> AsyncGenerator[str, None]:
            for token in prompt.split():
                yield token

        names["model"] = model
        state = {"answer": "", "status": ""}
        async with App(state=state, handlers=[names["think"]]) as app:
            session = app.open_session()
            await session.ask("think", "a b c")
            assert session.state == {"answer": "abc", "status": "done"}

    arun(story)


# -- docs/deploying.md ----------------------------------------------------------------------------


def test_the_server_of_the_deploying_page_drains_before_it_goes(arun: Any) -> None:
    async def story() -> None:
        names = await run_page(ROOT / "docs/deploying.md")
        ready = asyncio.Event()

        class Server(names["Server"]):  # type: ignore[valid-type, misc]
            async def startup(self, sockets: Any = None) -> None:
                await super().startup(sockets)
                ready.set()

            @contextlib.contextmanager
            def capture_signals(self) -> Generator[None]:
                yield

        config = uvicorn.Config(
            names["api"], port=0, ws="websockets-sansio", log_config=None, log_level="critical"
        )
        server = Server(config)
        serving = asyncio.create_task(server.serve())
        await ready.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        async with connect_ws(f"ws://127.0.0.1:{port}/live/ws", proxy=None) as ws:
            await ws.send(json.dumps({"type": "gr:hello", "data": HELLO}))
            assert [json.loads(await ws.recv())["type"] for _ in range(2)] == [
                *("gr:welcome", "gr:snapshot")
            ]
            server.should_exit = True
            close = json.loads(await ws.recv())
            assert (close["type"], close["data"]["code"]) == ("gr:close", "draining")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        await serving
        assert names["live"].phase == "stopped"

    arun(story)


# -- docs/client.md -------------------------------------------------------------------------------


def test_the_python_client_of_the_client_page_watches(
    arun: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        names = await run_page(ROOT / "docs/client.md")

        async def add(state: Any, payload: int, session: Any) -> int:
            session.emit("app:news", "added")
            state["count"] += payload
            result: int = state["count"]
            return result

        app = App(state={"count": 0}, handlers=[add])
        app.events.create_signal("count:changed", internal=False)
        app.events.query("count:of", internal=False)(lambda which: f"{which}!")
        async with app:
            watched = await names["watch"](lambda: memory.connect(app))
            assert watched == (10, "all!", 10)

    arun(story)
    assert {"5", "10", "added"} <= set(capsys.readouterr().out.split())


def test_the_javascript_of_the_client_page_names_what_there_is() -> None:
    offered = (ROOT / "src/client/greenroom.d.ts").read_text("utf-8")
    for _, code in blocks(ROOT / "docs/client.md", "js"):
        for line in code.splitlines():
            for part in line.split("gr.")[1:]:
                word = part.removeprefix("events.").split("(")[0].split(";")[0].split(".")[0]
                assert f"{word}(" in offered or f"{word}:" in offered, line


def test_the_attributes_of_the_client_page_are_all_there_are() -> None:
    page = (ROOT / "docs/client.md").read_text("utf-8")
    code = (ROOT / "src/client/greenroom/bind.js").read_text("utf-8")
    for kind in ("text", "html", "show", "class", "attr", "value", "on", "each"):
        assert f'case "{kind}":' in code
        assert f"data-gr-{kind}" in page
    assert code.count('      case "') == 8


# -- README.md ------------------------------------------------------------------------------------


README = ROOT / "README.md"


def test_the_app_of_the_readme_has_twenty_lines_and_does_what_they_say(tmp_path: Path) -> None:
    _, text = blocks(README, "python")[0]
    assert len(text.splitlines()) <= 20

    async def story() -> None:
        async with script(tmp_path, {"main.py": text}) as app:
            visitor = await Visitor(app).open()
            assert visitor.frames[-1]["data"] == {"count": 0, "answer": ""}
            await visitor.call("add")
            assert visitor.frames[-2]["data"] == {"=": {"/count": 1}}
            await visitor.call("add", 5)
            assert visitor.frames[-2]["data"] == {"=": {"/count": 6}}
            assert (await visitor.call("add", "five"))["code"] == "bad_payload"
            begin = len(visitor.frames)
            await visitor.call("think")
            patches = [f["data"] for f in visitor.frames[begin:] if f["type"] == "gr:state"]
            tails = "".join(patch["+"]["/answer"] for patch in patches if "+" in patch)
            assert visitor.session.state["answer"].endswith(tails)
            assert len(patches) > 2, "it was not sent while it ran"
            assert sum("+" in patch for patch in patches) >= 2, "it was sent whole"
            assert visitor.session.state["answer"] == "Only the new words travel. "
            visitor.line.close()

    asyncio.run(story())


def test_the_page_of_the_readme_asks_for_what_the_app_has() -> None:
    _, text = blocks(README, "python")[0]
    _, page = blocks(README, "html")[0]
    assert 'data-gr-on:click="add"' in page
    assert "def add(" in text
    assert 'data-gr-text="count"' in page
    assert '"count": 0' in text


def test_the_fastapi_block_of_the_readme_serves() -> None:
    line, text = blocks(README, "python")[1]

    async def story() -> None:
        names: dict[str, Any] = {"__name__": "api"}
        await run(text, "README.md", line, names)
        live: App = names["live"]
        async with served(names["api"]) as port:
            assert live.running  # started by the lifespan, before the first request
            async with connect(f"ws://127.0.0.1:{port}/live/ws") as client:
                assert client.state == {"count": 0}
                seen: list[Any] = []
                client.subscribe("count", lambda value, previous: seen.append((value, previous)))
                assert await client.call("add", 5) == 5
                assert seen == [(5, 0)]  # the patch is there before the result
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                script = await http.get("/live/greenroom.js")
                assert script.status_code == 200
                assert "javascript" in script.headers["content-type"]
        assert not live.running

    asyncio.run(story())


def test_the_documented_words_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = makefile.split(".PHONY:")[1].split("\n\n")[0].replace("\\", " ").split()
    for page in PAGES:
        for _, code in blocks(page, "sh"):
            for line in code.splitlines():
                words = line.split("#")[0].split()
                if words[:1] == ["make"]:
                    assert words[1] in phony, (name(page), line)


# -- docs/files.md --------------------------------------------------------------------------------


def test_the_files_of_the_files_page_go_up_and_down(arun: Any, tmp_path: Path) -> None:
    async def story() -> None:
        names = await run_page(ROOT / "docs/files.md")
        handlers = [names[name] for name in ("take", "album", "export")]
        async with (
            App(handlers=handlers) as app,
            connect(lambda: memory.connect(app)) as client,
        ):
            path = tmp_path / "a.txt"
            path.write_bytes(b"a" * 100_000)
            names["client"] = client
            await names["send"](client, path)
            assert client.state["name"] == "a.txt"
            assert client.state["size"] == 100_000
            await names["saving"](client, tmp_path)
            await client.call("export")
            path = tmp_path / "list.csv"
            while not (path.is_file() and path.read_bytes()):
                await asyncio.sleep(0.002)
            assert path.read_bytes() == b"name,size\n"

    arun(story)
