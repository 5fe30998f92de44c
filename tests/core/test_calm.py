"""Of many like messages the first few are said."""

from __future__ import annotations

import logging

import pytest

from greenroom.core.calm import KINDS, MANY, SECONDS, Calm, CalmFilter
from greenroom.core.log import AppLog


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_few_of_a_kind_are_said_and_the_others_counted() -> None:
    clock = Clock()
    calm = Calm(clock)
    assert [calm.ask("a") for _ in range(MANY)] == [""] * MANY
    assert [calm.ask("a") for _ in range(5)] == [None] * 5
    assert calm.ask("b") == ""
    clock.now += SECONDS
    assert calm.ask("a") == " (5 more like it were not shown)"
    assert calm.ask("a") == ""
    assert calm.hushed == 5


def test_what_was_never_told_of_is_told_at_the_end() -> None:
    calm = Calm(Clock())
    for _ in range(MANY + 3):
        calm.ask("a")
    calm.ask("b")
    assert calm.rest() == [("a", 3)]
    assert calm.rest() == []
    assert calm.ask("a") == ""


def test_kinds_without_number_are_one_kind() -> None:
    clock = Clock()
    calm = Calm(clock)
    said = [calm.ask(f"kind {n}") for n in range(10 * KINDS)]
    assert said.count("") == KINDS + MANY
    clock.now += SECONDS
    assert calm.ask("a new one") == ""  # the old ones have made room


def test_a_filter_for_loggers_of_others(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("somebody.else")
    calm = CalmFilter()
    logger.addFilter(calm)
    try:
        for number in range(MANY + 5):
            logger.warning("request %s is invalid", number)
            logger.debug("not looked at")
    finally:
        logger.removeFilter(calm)
    assert len(caplog.records) == MANY
    assert calm.calm.hushed == 5


def test_the_log_of_an_app_is_calm(caplog: pytest.LogCaptureFixture) -> None:
    log = AppLog()
    logging.getLogger("greenroom").setLevel(logging.NOTSET)
    log.start()
    said = [log.exception(f"number {n} failed", ValueError(n), kind="it failed") for n in range(30)]
    for _ in range(30):
        log.error("the same")
    log.stop()
    assert said == [True] * MANY + [False] * (30 - MANY)
    texts = [record.text for record in log]
    assert len(texts) == 2 * MANY + 2
    assert texts[-2:] == [
        "20 more were not shown: it failed",
        "20 more were not shown: the same",
    ]
    assert len(caplog.records) == len(texts)
