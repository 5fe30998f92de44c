"""An app written for Writer runs after changing its import lines: real loader, sockets, clients."""

from __future__ import annotations

import asyncio
import difflib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.compat.conftest import HERE, MODULES, migrated, open_for_clients
from tests.core.visitor import Visitor

import greenroom.compat.writer as wf
from greenroom.cli.load import Loaded
from greenroom.client import Client, connect
from greenroom.core.errors import Refused

TEXTS = {path.name: path.read_text("utf-8") for path in (HERE / "app").glob("*.py")}


def test_nothing_but_import_lines_is_changed() -> None:
    assert set(TEXTS) == {f"{module}.py" for module in MODULES}
    changed: list[str] = []
    for text in TEXTS.values():
        assert "greenroom" not in text
        ours = migrated(text).splitlines()
        changed += [line for line in difflib.ndiff(text.splitlines(), ours) if line[0] in "+-"]
    assert len(changed) == 2 * 6
    for line in changed:
        assert line[2:].startswith(("import ", "from ")), line


def test_browsers_may_call_what_they_might_before(shop: Loaded) -> None:
    names = set(shop.app.handlers.names)
    assert {"increment", "find", "place", "take_back", "fetch", "edit_record"} <= names
    assert {"main.increment", "catalogue.find", "orders.place", "returns.take_back"} <= names
    hidden = {"_price", "_secret", "_greet", "count_events", "forgive_lookups", "not_banned"}
    assert not any(name.rpartition(".")[2] in hidden for name in names)
    left_out = {item.name for item in shop.app.handlers.left_out}
    assert left_out == {"main.count_events", "main.forgive_lookups", "main.not_banned"}
    assert "the shop starts" in [record.text for record in shop.app.log]


def follow(client: Client, *paths: str) -> list[tuple[str, Any]]:
    """What arrives at some paths, in order."""
    seen: list[tuple[str, Any]] = []

    def watch(path: str) -> None:
        client.subscribe(path, lambda value, _: seen.append((path, value)))

    for path in paths:
        watch(path)
    return seen


def test_two_customers_shop(shop: Loaded, arun: Any) -> None:
    async def story() -> None:
        async with open_for_clients(shop) as url, connect(url) as ada, connect(url) as bob:
            assert ada.state["counter"] == 3
            assert ada.state["visitors"] == 3  # assigned after init_state
            assert ada.state["greeting"] == "Hello, Ada"  # initial_triggered
            assert "_events" not in ada.state
            assert "_cost" not in ada.state["basket"]

            await ada.call("increment")
            assert ada.state["counter"] == 4
            assert ada.state["events"] == 2  # a generator middleware; the first was the view
            assert ada.state["history"] == [4]  # a subscriber of the root
            assert (bob.state["counter"], bob.state["history"]) == (3, [])
            await ada.call("decrement")
            assert ada.state["history"] == [4, 3]

            await ada.call("rename", "Grace")
            assert ada.state["greeting"] == "Hello, Grace"
            assert bob.state["greeting"] == "Hello, Ada"

            assert await ada.call("buy", "chair") == 40
            assert await ada.call("buy", "lamp") == 55
            assert ada.state["basket"]["lines"] == ["chair", "lamp"]
            assert ada.state["basket"]["note"] == "2 by basket.lines"  # of a nested path
            assert bob.state["basket"]["lines"] == []

            await ada.call("place")
            assert ada.state["order"] == {"items": ["chair", "lamp"], "status": "placed"}
            await ada.call("take_back")  # registered by a module that main registered
            assert ada.state["order"]["status"] == "returned"
            assert await ada.call("find", "a") == 3
            assert await ada.call("catalogue.find", "la") == 1

            await ada.call("start_over")
            assert ada.state["basket"]["lines"] == []
            assert ada.state["basket"]["note"] == "fresh"
            await ada.call("forget")
            assert "name" not in ada.state["customer"]
            assert "coupon" not in ada.state
            assert bob.state["coupon"] == "SAVE10"

    arun(story)


def test_only_what_was_assigned_is_sent(shop: Loaded, arun: Any) -> None:
    async def story() -> None:
        async with shop.app as app:
            visitor = await Visitor(app).open()
            await visitor.until("gr:import")  # what the initial state tells each view

            async def sent(event: str, data: Any = None, **more: Any) -> dict[str, Any]:
                begin = len(visitor.frames)
                await visitor.call(event, data, **more)
                new = [f["data"] for f in visitor.frames[begin:] if f["type"] == "gr:state"]
                assert len(new) == 1
                return {**new[0].get("=", {}), **dict.fromkeys(new[0].get("-", ()), "deleted")}

            assert await sent("cut") == {"/events": 2}  # in place and not assigned: not sent
            assert await sent("shuffle") == {"/deck": [2, 1], "/events": 3}
            assert await sent("set_filter", "oak") == {"/filters": {"text": "oak"}, "/events": 4}
            context = {"itemId": "k2"}
            assert await sent("pick", context=context) == {"/rows/k2/picked": True, "/events": 5}
            visitor.line.close()

    arun(story)


def test_context_and_session_say_who_asked(shop: Loaded, arun: Any) -> None:
    async def story() -> None:
        async with shop.app as app:
            facts = {"headers": {"user-agent": "tests"}, "cookies": {"theme": "dark"}}
            visitor = await Visitor(app, **facts).open()
            await visitor.call("show_source", context={"target": "button1", "event": "click"})
            state = visitor.session.state
            assert state["last_click"] == {"target": "button1", "event": "click"}
            assert await visitor.call("who_am_i") == visitor.session.id
            me = {"id": visitor.session.id, "theme": "dark", "agent": "tests", "known": True}
            assert state["me"] == me
            visitor.line.close()
            close = await Visitor(app, cookies={"banned": "yes"}).hello()
            assert close["data"]["code"] == "unauthorized"

    arun(story)


def test_slow_handlers_are_seen_while_they_run(
    shop: Loaded, arun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of a second ends when "Loading..." is on the screen."""
    shown, sleep = threading.Event(), time.sleep
    monkeypatch.setattr(time, "sleep", lambda n: shown.wait(20) if n == 0.3 else sleep(n))

    async def story() -> None:
        async with open_for_clients(shop) as url, connect(url) as client:
            seen = follow(client, "message")
            client.subscribe("message", lambda value, _: shown.set())
            await client.call("slowly")
            assert seen == [("message", "Loading..."), ("message", "Completed")]
            await client.call("fetch")
            assert client.state["data"] == {"loaded": True}
            assert client.state["message"] == "Completed"

    arun(story)


def test_what_raises_is_undone_and_not_told(shop: Loaded, arun: Any) -> None:
    async def story() -> None:
        async with open_for_clients(shop) as url, connect(url) as client:
            with pytest.raises(Refused) as refused:
                await client.call("fail")
            assert refused.value.code == "handler_error"
            assert "hunter2" not in str(refused.value)
            assert client.state["counter"] == 3
            assert await client.call("forgive") is None  # a middleware swallowed it
            assert client.state["message"] == "sorry: out of stock"
            assert client.state["counter"] == 3
            session = next(iter(shop.app.sessions.values()))
            assert [r.level for r in session.log] == ["error"]
            assert "hunter2" in str(session.log.records()[0].traceback)

    arun(story)


def test_values_report_their_own_changes(shop: Loaded, arun: Any) -> None:
    async def story() -> None:
        async with open_for_clients(shop) as url, connect(url) as ada, connect(url) as bob:
            assert ada.state["thermometer"] == {"degrees": 20}
            await ada.call("warm", 5)
            assert ada.state["thermometer"] == {"degrees": 25}
            assert bob.state["thermometer"] == {"degrees": 20}

            session = shop.app.sessions[await ada.call("who_am_i")]
            table = session.state["stock"]
            assert isinstance(table, wf.EditableDataFrame)
            await ada.call(
                "edit_record", {"record_index": 0, "record": {"item": "chair", "left": 9}}
            )
            await ada.call("add_record", {"record": {"item": "sofa", "left": 2}})
            assert await ada.call("remove_record", {"record_index": 1}) == {
                "item": "chair",
                "left": 9,
            }
            assert table.df == [{"item": "chair", "left": 9}, {"item": "sofa", "left": 2}]
            other = shop.app.sessions[await bob.call("who_am_i")]
            assert other.state["stock"].record(1) == {"item": "lamp", "left": 0}
            await bob.call("restock")
            assert other.state["stock"].df == [{"item": "sofa", "left": 1}]

    arun(story)


def test_properties_follow_what_they_are_made_of(shop: Loaded, arun: Any) -> None:
    async def story() -> None:
        async with open_for_clients(shop) as url, connect(url) as ada, connect(url) as bob:
            assert (ada.state["doubled"], ada.state["summary"]) == (6, "3 and 0")
            assert ada.state["basket"]["size"] == 0
            await ada.call("increment")
            assert (ada.state["doubled"], ada.state["summary"]) == (8, "4 and 0")
            await ada.call("buy", "lamp")
            assert (ada.state["basket"]["size"], ada.state["summary"]) == (1, "4 and 1")
            await bob.call("buy", "lamp")  # the second session has them too
            assert (bob.state["basket"]["size"], bob.state["summary"]) == (1, "3 and 1")

    arun(story)


def test_mail_becomes_what_pages_understand(shop: Loaded, arun: Any) -> None:
    async def story() -> None:
        async with shop.app as app:
            visitor = await Visitor(app).open()

            async def told(event: str, data: Any = None) -> list[tuple[str, Any]]:
                begin = len(visitor.frames)
                await visitor.call(event, data)
                new = visitor.frames[begin:]
                return [(f["type"], f["data"]) for f in new if f["type"] != "gr:state"][:-1]

            await visitor.until("gr:import")  # of the initial state: for every view that opens
            first = [(f["type"], f["data"]) for f in visitor.frames[-2:]]
            assert first == [
                ("mail:importStylesheet", {"stylesheetKey": "theme", "path": "theme.css"}),
                ("gr:import", {"url": "./charts.js", "name": "charts"}),
            ]
            assert await told("say", "hello") == [
                ("gr:notify", {"message": "hello", "title": "Shop", "kind": "success"})
            ]
            assert [r.text for r in visitor.session.log] == ["Said: hello"]
            [(kind, file)] = await told("export")
            assert (kind, file["filename"], file["mime"]) == (
                "gr:download",
                "stock.csv",
                "text/csv",
            )
            assert file["data"]["$bytes"] == "aXRlbSxsZWZ0Cg=="
            assert await told("advertise") == [("gr:open-url", {"url": "https://example.org/"})]
            assert await told("leave") == [
                ("gr:page", {"page": "goodbye", "params": {}}),
                ("mail:routeVarsChange", {"from": "shop"}),
                ("gr:call", {"module": "charts", "function": "draw", "args": [1, 2]}),
            ]
            await visitor.call("picture")
            assert visitor.session.state["picture"].mime == "image/png"
            second = await Visitor(app).open()
            assert (await second.until("gr:import"))["data"]["name"] == "charts"
            visitor.line.close()
            second.line.close()

    arun(story)


def test_prints_reach_their_own_session(
    shop: Loaded, arun: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        async with open_for_clients(shop) as url, connect(url) as ada, connect(url) as bob:
            await asyncio.gather(
                ada.call("inspect_payload", "from ada"), bob.call("inspect_payload", "from bob")
            )
            for client, text in ((ada, "from ada"), (bob, "from bob")):
                session = shop.app.sessions[await client.call("who_am_i")]
                assert [r.text for r in session.log] == [f"Payload: '{text}'"]

    arun(story)
    assert "Payload: 'from ada'" in capsys.readouterr().out


def test_the_names_serve_streamsync_as_well(tmp_path: Path) -> None:
    import greenroom.compat.writer as ss

    assert ss.StreamsyncState is ss.WriterState
    assert issubclass(ss.StreamsyncState, ss.State)
