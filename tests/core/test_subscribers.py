"""Subscribers of the state are injected by name."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.core._turn import Message, Turn, enter_turn, leave_turn
from greenroom.core.errors import BadHandler, BadPayload
from greenroom.core.subscribers import Subscriber

CHANGE = {"previous_value": 1, "new_value": 2}
CONTEXT = {"event": "mutation", "mutation": "a.b"}


def test_on_a_state_of_its_own() -> None:
    subscriber = Subscriber(
        lambda context, state, payload, event_type, session=1, app=1, label=1, n=1: (
            context,
            state,
            payload,
            event_type,
            (session, app, label, n),
        )
    )
    assert subscriber(CHANGE, CONTEXT, "root") == (
        CONTEXT,
        "root",
        CHANGE,
        "mutation",
        (None, None, None, 1),
    )
    assert not subscriber.is_async


def test_in_a_turn() -> None:
    subscriber = Subscriber(lambda *, session, app, label, data: (session, app, label, data))
    token = enter_turn(Turn("the session", Message("add", 5, label="side"), app="the app"))
    try:
        assert subscriber(CHANGE, CONTEXT, "root") == ("the session", "the app", "side", CHANGE)
    finally:
        leave_turn(token)


def test_an_async_subscriber_is_marked(arun: Any) -> None:
    async def later(payload: Any) -> Any:
        return payload

    subscriber = Subscriber(later)
    assert subscriber.is_async

    async def story() -> None:
        assert await subscriber(CHANGE, CONTEXT, None) == CHANGE

    arun(story)


def test_errors_speak_of_a_subscriber() -> None:
    def typed(payload: int) -> None: ...

    with pytest.raises(BadHandler, match=r"subscriber .*nothing can be given to old, new"):
        Subscriber(lambda old, new: None)
    with pytest.raises(BadPayload, match="subscriber typed"):
        Subscriber(typed)(CHANGE, CONTEXT, None)
