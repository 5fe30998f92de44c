"""Logs of sessions and of the app: what they keep, cut and pass on."""

from __future__ import annotations

import asyncio
import logging
import threading
from itertools import count
from typing import Any

import pytest

import greenroom as gr
from greenroom.core import capture
from greenroom.core._turn import Message, Turn, enter_turn, leave_turn
from greenroom.core.log import AppLog, Record, SessionLog


def ticking() -> Any:
    times = count(1)
    return lambda: float(next(times))


def texts(log: Any) -> list[str]:
    return [record.text for record in log]


def test_records() -> None:
    log = SessionLog(clock=ticking())
    assert list(log) == []
    log("called")
    log("called loudly", "error")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    log.write("info", "e", handler="save")
    assert list(log) == [
        Record("info", "called", 1.0),
        Record("error", "called loudly", 2.0),
        Record("debug", "a", 3.0),
        Record("info", "b", 4.0),
        Record("warning", "c", 5.0),
        Record("error", "d", 6.0),
        Record("info", "e", 7.0, "save"),
    ]
    assert len(log) == 7
    log.clear()
    assert log
    assert log.records() == []


def test_a_level_nobody_knows() -> None:
    with pytest.raises(ValueError, match="use one of debug, info, warning, error"):
        SessionLog().write("fatal", "x")  # type: ignore[arg-type]


def test_the_oldest_give_way_by_number_and_by_size() -> None:
    log = SessionLog(limit=3)
    for number in range(5):
        log.info(str(number))
    assert texts(log) == ["2", "3", "4"]
    log.max_size = 10
    log.info("a" * 9)
    assert texts(log) == ["4", "a" * 9]
    log.info("b" * 100)
    assert texts(log) == ["b" * 100]
    log.info("c")
    assert texts(log) == ["c"]


def test_a_long_text_is_cut_and_says_so() -> None:
    log = SessionLog()
    log.info("x" * 10_000)
    assert texts(log)[0].endswith("x... (1808 characters more)")
    assert len(texts(log)[0]) < 8_300


def test_the_handler_is_that_of_the_turn() -> None:
    log = SessionLog()
    token = enter_turn(Turn(None, Message("save")))
    try:
        log.info("in")
    finally:
        leave_turn(token)
    log.info("out")
    assert [record.handler for record in log] == ["save", None]


def test_a_traceback_is_kept_apart() -> None:
    kept = SessionLog()
    try:
        raise LookupError("no tea")
    except LookupError as error:
        kept.exception("handler order failed", error)
    (record,) = kept
    assert record.level == "error"
    assert record.text == "handler order failed: LookupError: no tea"
    assert record.traceback is not None
    assert "test_log.py" in record.traceback
    assert record.traceback.endswith("LookupError: no tea")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_traceback_begins_where_the_application_does(
    arun: Any, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def blocking() -> None:
        raise LookupError("no tea")

    async def waiting() -> None:
        await asyncio.sleep(0)
        raise LookupError("no tea")

    async def story() -> None:
        caplog.clear()
        async with gr.App(handlers=[blocking, waiting]) as app:
            session = app.open_session()
            with pytest.raises(LookupError):
                await session.ask("blocking" if kind == "sync" else "waiting")
            (record,) = session.log
            shown = [caplog.text, record.traceback or ""]
            for text in shown:
                assert text.count('  File "') == 1, text
                assert "test_log.py" in text

    arun(story)


def test_records_are_passed_on() -> None:
    told: list[Record] = []
    log = SessionLog(told.append)
    log.info("a")
    assert told == list(log)


def test_failing_to_pass_on_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(record: Record) -> None:
        raise OSError("the link is gone")

    log = SessionLog(fail)
    log.info("a")
    assert texts(log) == ["a"]
    assert "passing on a log record failed" in caplog.text


def test_a_listener_that_prints_does_not_hear_itself(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []

    def listen(record: Record) -> None:
        print("again")
        told.append(record.text)

    log = AppLog(listen)
    with log.capturing():
        print("once")
    assert told == ["once"]
    assert sorted(capsys.readouterr().out.split()) == ["again", "once"]


def test_the_apps_own_words_go_to_its_logger_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="greenroom")
    kept = AppLog()
    kept.start()
    kept.start()
    try:
        with kept.capturing():
            kept.debug("a")
            kept.info("b")
            kept.warning("c")
            kept.error("d")
            kept.exception("e", ValueError("f"))
    finally:
        kept.stop()
        kept.stop()
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("greenroom", "DEBUG", "a"),
        ("greenroom", "INFO", "b"),
        ("greenroom", "WARNING", "c"),
        ("greenroom", "ERROR", "d"),
        ("greenroom", "ERROR", "e"),
    ]
    assert texts(kept) == ["a", "b", "c", "d", "e: ValueError: f"]  # each once
    assert not capture.installed()


def test_an_idle_log_is_small() -> None:
    assert SessionLog().__sizeof__() < 120
    assert not hasattr(SessionLog(), "__dict__")


def test_many_threads_write_one_log() -> None:
    log = SessionLog(limit=50)
    gate = threading.Barrier(4)

    def work(name: str) -> None:
        gate.wait()
        for number in range(500):
            log.printed(f"{name} {number}\n")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log) == 50
    assert log._size == sum(len(text) for text in texts(log))
    for name in "abcd":  # every thread's own lines are whole and in order
        numbers = [int(text.split()[1]) for text in texts(log) if text[0] == name]
        assert numbers == sorted(numbers)
