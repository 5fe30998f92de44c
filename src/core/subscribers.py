"""Subscribers of the state: functions that are injected like handlers, inside an assignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._turn import current_turn
from .payloads import converter
from .plans import INJECTABLE, describe, fill_by_name, is_async
from .types import Slot

__all__ = ["Subscriber"]


class Subscriber:
    """What ``subscribe_mutation`` makes of a function: ``call(payload, context, state)``.

    ``payload`` and ``context`` are the mutation's, ``event_type`` is the context's ``event``. The
    session, the app and the label are the current turn's; outside of turns they are None. Raises
    BadHandler for a function with a parameter that is neither injectable nor has a default.
    """

    __slots__ = ("_convert", "_keywords", "_positional", "fn", "is_async")

    def __init__(self, fn: Callable[..., Any]) -> None:
        filling = fill_by_name(fn, INJECTABLE, "subscriber", payload=Slot.PAYLOAD)
        self._convert = converter(fn, filling.payloads, "subscriber")
        self._positional = filling.positional
        self._keywords = filling.keywords
        self.fn = fn
        self.is_async = is_async(fn)

    def __call__(self, payload: Any, context: dict[str, Any], state: Any) -> Any:
        """Call the function with what it wants of these, and of the current turn."""
        if self._convert is not None:
            payload = self._convert(payload)
        session = app = label = None
        turn = current_turn()
        if turn is not None:
            session, app, label = turn.session, turn.app, turn.label
        values = (state, payload, context, session, app, context.get("event"), label)  # as in Slot
        return self.fn(
            *[values[slot] for slot in self._positional],
            **{name: values[slot] for name, slot in self._keywords},
        )

    def __repr__(self) -> str:
        return f"<Subscriber {describe(self.fn)}>"
