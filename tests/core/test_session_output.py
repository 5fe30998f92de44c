"""What leaves a session: events, results, errors, the first snapshot, and what cannot be sent."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from tests.core.visitor import Visitor

from greenroom import (
    App,
    BadHandler,
    BadPayload,
    Settings,
    TooLarge,
    Unencodable,
)


def add(state: Any, payload: int = 1) -> int:
    state["count"] += payload
    result: int = state["count"]
    return result


def crash(state: Any, session: Any) -> None:
    state["count"] = 99
    session.emit("app:never", 1)
    raise RuntimeError("the secret of the house")


def test_events_leave_with_their_turn_in_order(arun: Any) -> None:
    async def story() -> None:
        def speak(state: Any, session: Any, app: Any) -> str:
            state["said"] = True
            session.emit("app:one", 1)
            app.emit("app:two", {"a": [1]})
            session.emit("app:other", 3, label="elsewhere")
            return "done"

        async with App(handlers=[speak]) as app:
            visitor = await Visitor(app).open()
            await visitor.call("speak")
            types = [frame["type"] for frame in visitor.frames]
            assert types[2:] == ["gr:state", "app:one", "app:two", "gr:result"]
            assert visitor.frames[3] == {
                "type": "app:one", "seq": 3, "data": 1, "label": "main",
            }  # fmt: skip
            visitor.line.close()

    arun(story)


def test_a_failure_with_words_that_are_no_unicode_is_answered(arun: Any) -> None:
    """Names of files that are no UTF-8 stand in messages as they stand in Python: half a letter."""

    def open_it() -> None:
        raise FileNotFoundError("no file caf\udce9")

    def refuse() -> None:
        raise BadPayload("nothing is called caf\udce9")

    async def story() -> None:
        settings = Settings(debug=True)
        async with App(handlers=[open_it, refuse], settings=settings) as app:
            visitor = await Visitor(app).open()
            for name, words in (("open_it", "no file"), ("refuse", "nothing is called")):
                answer = await visitor.call(name)
                assert answer["message"].endswith(f"{words} caf\\udce9")
            logged = [f["data"]["text"] for f in visitor.frames if f["type"] == "gr:log"]
            assert logged == [
                "'open_it' failed: FileNotFoundError: no file caf\\udce9",
                "'refuse': nothing is called caf\\udce9",
            ]
            visitor.line.close()

    arun(story)


def test_what_a_failed_turn_made_is_not_sent(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[crash, add]) as app:
            visitor = await Visitor(app).open()
            failure = await visitor.call("crash")
            assert failure == {"code": "handler_error", "message": "the handler failed"}
            assert await visitor.call("add") == 1
            types = [frame["type"] for frame in visitor.frames]
            assert types[2:] == ["gr:error", "gr:state", "gr:result"]
            assert "secret" in "".join(record.text for record in visitor.session.log)
            visitor.line.close()

    arun(story)


def test_with_debug_pages_see_the_error_and_the_log(arun: Any) -> None:
    async def story() -> None:
        settings = Settings(debug=True)
        async with App(state={"count": 0}, handlers=[crash], settings=settings) as app:
            visitor = await Visitor(app).open()
            failure = await visitor.call("crash")
            assert failure["message"] == "RuntimeError: the secret of the house"
            logs = [f for f in visitor.frames if f["type"] == "gr:log"]
            if not logs:
                logs = [await visitor.until("gr:log")]
            assert logs[0]["data"]["level"] == "error"
            assert "RuntimeError" in logs[0]["data"]["traceback"]
            visitor.line.close()

    arun(story)


def test_a_result_that_has_no_form_is_an_error_and_the_state_stands(arun: Any) -> None:
    async def story() -> None:
        def odd(state: Any) -> object:
            state["done"] = True
            return object()

        async with App(handlers=[odd]) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("odd"))["code"] == "handler_error"
            assert visitor.session.state["done"] is True
            visitor.line.close()

    arun(story)


def test_a_result_whose_encoder_raises_is_an_error_and_the_state_stands(arun: Any) -> None:
    class Bad:
        def to_dict(self) -> Any:
            raise ZeroDivisionError("by the encoder")

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Worse:
        def to_dict(self) -> Any:
            raise Silent

    async def story() -> None:
        def odd(state: Any) -> object:
            state["done"] = True
            return [Bad()]

        async def odder(session: Any) -> object:
            session.emit("app:odder", 1)
            return Worse()

        async with App(handlers=[odd, odder]) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("odd"))["code"] == "handler_error"
            assert (await visitor.call("odder"))["code"] == "handler_error"
            types = [frame["type"] for frame in visitor.frames]
            assert types[2:] == ["gr:state", "gr:error", "app:odder", "gr:error"]
            assert "ZeroDivisionError: by the encoder" in next(iter(visitor.session.log)).text
            visitor.line.close()

    arun(story)


def test_what_cannot_be_sent_is_told_with_its_reason_where_the_developer_looks(arun: Any) -> None:
    class Bad:
        def to_dict(self) -> Any:
            raise ZeroDivisionError("by the encoder")

    async def story() -> None:
        def mixed(state: Any) -> object:
            state["keys"] = [{1: 2}]
            state["bad"] = Bad()
            state["text"] = "\ud800"
            return object()

        async with App(handlers=[mixed]) as app:
            visitor = await Visitor(app).open()
            await visitor.call("mixed")
            for log in (visitor.session.log, app.log):  # the app's goes to the terminal
                said = "\n".join(record.text for record in log)
                assert "state keys is a list (keys must be strings, not int (1))" in said
                assert "state bad is a Bad (ZeroDivisionError: by the encoder)" in said
                assert "state text is a str (" in said
                assert "the result of 'mixed': builtins.object has no form" in said
            visitor.line.close()

    arun(story)


def test_a_value_that_has_no_form_costs_its_key_alone(arun: Any) -> None:
    async def story() -> None:
        def mixed(state: Any) -> None:
            state["good"] = 1
            state["bad"] = object()

        async with App(handlers=[mixed]) as app:
            visitor = await Visitor(app).open()
            await visitor.call("mixed")
            (patch,) = [f["data"] for f in visitor.frames if f["type"] == "gr:state"]
            assert patch == {"=": {"/good": 1}}
            assert any("bad" in record.text for record in visitor.session.log)
            visitor.line.close()

    arun(story)


def test_a_toast_of_no_kind_is_an_error(arun: Any) -> None:
    async def story() -> None:
        async with App() as app:
            with pytest.raises(ValueError, match="info, success, warning, error, not 'fatal'"):
                app.open_session().notify("x", kind="fatal")  # type: ignore[arg-type]

    arun(story)


def test_a_handler_in_the_place_of_the_list_is_an_error_that_shows_the_cure() -> None:
    with pytest.raises(BadHandler, match=r"handlers=\[add\]"):
        App(handlers=add)  # type: ignore[arg-type]


def test_bad_emits_raise_where_they_are_made(arun: Any) -> None:
    async def story() -> None:
        async with App(settings=Settings(max_frame_out=1000)) as app:
            session = app.open_session()
            with pytest.raises(ValueError, match="namespace:name"):
                session.emit("nonsense", 1)
            with pytest.raises(ValueError, match="gr:"):
                session.emit("gr:state", 1)
            with pytest.raises(TooLarge, match="max_frame_out"):
                session.emit("app:big", "x" * 2000)
            with pytest.raises(Unencodable):
                session.emit("app:odd", object())

    arun(story)


def test_a_payload_that_does_not_fit_is_the_clients_fault(arun: Any) -> None:
    async def story() -> None:
        async with App(state={"count": 0}, handlers=[add]) as app:
            visitor = await Visitor(app).open()
            assert (await visitor.call("add", "many"))["code"] == "bad_payload"
            assert visitor.session.state["count"] == 0
            with pytest.raises(BadPayload):
                await visitor.session.ask("add", "many")
            visitor.line.close()

    arun(story)


def test_the_first_snapshot_holds_values_of_every_kind(arun: Any) -> None:
    async def story() -> None:
        values = {"raw": b"abc", "day": dt.date(2020, 1, 2), "set": {1}, "list": [(1, b"q")]}
        async with App(state=values) as app:
            visitor = await Visitor(app).open()
            assert visitor.frames[1]["data"] == {
                "raw": {"$bytes": "YWJj"},
                "day": "2020-01-02",
                "set": [1],
                "list": [[1, {"$bytes": "cQ=="}]],
            }
            visitor.line.close()

    arun(story)
