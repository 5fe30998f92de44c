"""Callbacks: who hears which event. The app has one table of them, and so may a session.

Threads. Callbacks come and go on any thread. Every change makes a new index and puts it in place in
one step, so that ``resolve`` may be called from any thread at any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .parts import Handler
from .plans import fill_callback, name_of
from .types import DEFAULT_LABEL, EVENT_NAME, HANDLER_NAME

__all__ = ["CallbackTable", "Heard", "Subscription", "table_lock"]

EVERYTHING: Final = "*"
RESERVED: Final = "gr:"

Heard = tuple[tuple[str | None, Handler], ...]  # label, if it matters, and callback

table_lock = threading.Lock()  # of all tables; held while one is changed


class Subscription:
    """What ``on`` returns: ``off()`` ends it; more than once is fine."""

    __slots__ = ("_end", "event", "handler", "label")

    def __init__(
        self,
        event: str,
        handler: Handler,
        label: str | None,
        end: Callable[[Subscription], None],
    ) -> None:
        self._end = end
        self.event = event
        self.handler = handler
        self.label = label

    def off(self) -> None:
        """Stop hearing the event. A turn that has begun still runs the callback."""
        self._end(self)

    def move(self, end: Callable[[Subscription], None]) -> None:
        """Another table has it now."""
        self._end = end

    def __repr__(self) -> str:
        return f"<Subscription {self.event!r} label={self.label!r} {self.handler.where}>"


class _Index(NamedTuple):
    """What `CallbackTable.resolve` looks at, and the compiled `SessionCore.resolve` first."""

    fixed: dict[str, tuple[Handler, ...]]  # events whose callbacks do not ask for a label
    by_label: dict[str, Heard]
    others: Heard  # what hears every other event


NOTHING: Final = _Index({}, {}, ())


class CallbackTable:
    """The subscriptions of ``on``, in the order they were made."""

    __slots__ = ("_subscriptions", "index")

    def __init__(self) -> None:
        self._subscriptions: tuple[Subscription, ...] = ()
        self.index = NOTHING

    def on(
        self, event: str, callback: Callable[..., Any], *, label: str | None = None
    ) -> Subscription:
        """Run ``callback`` for ``event``: ``namespace:name``, a handler's plain name, or ``*``.

        ``label``: only when it comes from the view of that label. Raises BadHandler for a callback
        that cannot be called, ValueError for a name no event has.
        """
        _check_event(event)
        what = f"callback of {event!r}"
        handler = Handler(
            callback,
            event,
            qualified=f"{getattr(callback, '__module__', '')}.{name_of(callback)}",
            filling=fill_callback(callback, what),
            what=what,
            answers=event != EVERYTHING,
        )
        subscription = Subscription(event, handler, label, self._drop)
        with table_lock:
            self._put((*self._subscriptions, subscription))
        return subscription

    def resolve(self, event: str, label: str | None = DEFAULT_LABEL) -> tuple[Handler, ...]:
        """What runs for ``event`` from the view ``label``, in order; empty for nothing."""
        index = self.index
        found = index.fixed.get(event)
        if found is not None:
            return found
        heard = index.by_label.get(event)
        if heard is None:
            heard = index.others
            if not heard:
                return ()
        return tuple([handler for only, handler in heard if only is None or only == label])

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What is heard now, in the order it was asked for."""
        return self._subscriptions

    def clear(self) -> None:
        """Forget all subscriptions, which hold the table."""
        with table_lock:
            self._put(())

    def _drop(self, subscription: Subscription) -> None:
        with table_lock:
            self._put(tuple(each for each in self._subscriptions if each is not subscription))

    def _put(self, subscriptions: tuple[Subscription, ...]) -> None:
        """Take new subscriptions, and make the index anew. Under the lock."""
        heard = {event: list(items) for event, items in self._first().items()}
        for each in subscriptions:
            heard.setdefault(each.event, [])
        for each in subscriptions:
            targets = heard.values() if each.event == EVERYTHING else (heard[each.event],)
            for target in targets:
                target.append((each.label, each.handler))
        others = tuple(heard.pop(EVERYTHING, ()))
        fixed: dict[str, tuple[Handler, ...]] = {}
        by_label: dict[str, Heard] = {}
        for event, items in heard.items():
            if all(only is None for only, _ in items):
                fixed[event] = tuple(handler for _, handler in items)
            else:
                by_label[event] = tuple(items)
        self._subscriptions = subscriptions
        self.index = _Index(fixed, by_label, others)

    def _first(self) -> dict[str, Heard]:
        """What hears an event before any subscription does."""
        return {}


def _check_event(event: str) -> None:
    if event == EVERYTHING:
        return
    if event.startswith(RESERVED):
        raise ValueError(f"{event!r}: names that begin with gr: belong to the protocol")
    if not (EVENT_NAME.match(event) or HANDLER_NAME.match(event)):
        raise ValueError(
            f"{event!r} is no event: use namespace:name, a handler's plain name, or * for all"
        )
