"""A client for tests: the real sans-I/O half of the Python client, a mirror, and a diary.

:class:`Visitor` owns no transport. Whoever moves its bytes (``byteline.py``, ``dialler.py``) says
``opened``, ``received`` and ``ended``, and hands on what ``link.take()`` returns.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from greenroom.client.link import Link
from greenroom.client.machine import State
from greenroom.client.patch import Mirror
from greenroom.core.types import Packet


class Outcome(NamedTuple):
    """How a frame of the client ended: ``code`` is "" for a result."""

    code: str
    value: Any


class Visitor:
    """One page: submits events, mirrors the state, and writes down everything it is told."""

    def __init__(
        self,
        name: str,
        now: Callable[[], float],
        *,
        token: str | None = None,
        label: str = "main",
    ) -> None:
        self.name = name
        self.now = now
        self.link = Link(label=label, token=token)
        self.mirror = Mirror()
        self.sent: list[str] = []  # tags, in the order of submission
        self.outcomes: dict[str, Outcome] = {}
        self.again: list[str] = []  # tags that were settled a second time: must stay empty
        self.events: list[tuple[str, Any]] = []
        self.signals: list[tuple[str, Any]] = []
        self.order: list[tuple[str, Any]] = []  # everything numbered, as it was applied
        self.gaps = self.renewals = self.snapshots = self.patches = 0
        self.closes: list[tuple[str, str]] = []  # (how to go on, code)
        self.after: float | None = None
        self.connected = False
        self.hang_up: Callable[[], None] = lambda: None
        self.on_state: Callable[[dict[str, Any]], None] = lambda root: None

    # -- what tests call ----------------------------------------------------------------------

    def submit(self, type: str, data: Any = None, *, tag: str | None = None) -> str:
        """Send an event; its outcome will be in ``outcomes`` under the tag."""
        tag = f"{self.name}{len(self.sent) + 1}" if tag is None else tag
        self.sent.append(tag)
        named = type in ("gr:subscribe", "gr:unsubscribe")
        self.link.submit(
            type, json.dumps(data).encode(), tag=tag, name=data["name"] if named else None
        )
        self.react()
        return tag

    @property
    def over(self) -> bool:
        """Whether it will never connect again."""
        return self.link.state is State.CLOSED

    @property
    def live(self) -> bool:
        return self.link.state is State.LIVE

    @property
    def lost(self) -> set[str]:
        return {tag for tag, outcome in self.outcomes.items() if outcome.code == "lost"}

    @property
    def unanswered(self) -> list[str]:
        return [tag for tag in self.sent if tag not in self.outcomes]

    @property
    def state(self) -> dict[str, Any]:
        return self.mirror.root

    # -- what transports call -----------------------------------------------------------------

    def opened(self) -> None:
        self.connected = True
        self.link.open(self.now())
        self.react()

    def received(self, packet: Packet) -> None:
        self.link.receive(packet, self.now())
        self.react()

    def ended(self, code: int) -> None:
        if self.connected:
            self.connected = False
            self.link.cut(code, self.now())
            self.react()

    def tick(self) -> None:
        due = self.link.deadline()
        if due is not None and due <= self.now():
            self.link.tick(self.now())
            self.react()

    # -- the diary ----------------------------------------------------------------------------

    def react(self) -> None:
        for kind, args in self.link.effects():
            getattr(self, f"_{kind}", self._other)(*args)

    def _snapshot(self, root: dict[str, Any]) -> None:
        self.snapshots += 1
        self.order.append(("snapshot", None))
        self.mirror.snapshot(root)
        self.on_state(self.mirror.root)

    def _patch(self, patch: dict[str, Any]) -> None:
        self.patches += 1
        self.order.append(("patch", patch))
        self.mirror.patch(patch)
        self.on_state(self.mirror.root)

    def _answer(self, entry: Any, value: Any) -> None:
        self._settle(entry.tag, Outcome("", value))

    def _error(self, entry: Any, code: str, message: str, after: float | None) -> None:
        self._settle(entry.tag, Outcome(code, {"message": message, "retry_after": after}))

    def _settle(self, tag: str | None, outcome: Outcome) -> None:
        if tag is None:
            return  # the link's own
        self.order.append(("answer", tag))
        if tag in self.outcomes:
            self.again.append(tag)
        self.outcomes[tag] = outcome

    def _event(self, type: str, data: Any, label: str) -> None:
        self.order.append(("event", type))
        self.events.append((type, data))

    def _signal(self, name: str, data: Any) -> None:
        self.order.append(("signal", name))
        self.signals.append((name, data))

    def _gap(self) -> None:
        self.gaps += 1

    def _renewed(self) -> None:
        self.renewals += 1

    def _hang_up(self, code: int, reason: str) -> None:
        self.connected = False
        self.hang_up()

    def _retry(self, how: str, after: float | None, code: str, message: str) -> None:
        self.connected = False
        self.after = after
        self.closes.append((how, code))

    def _other(self, *args: Any) -> None:
        pass  # token, refusal: the link keeps what matters
