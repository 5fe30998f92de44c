"""Groups: names for some of the sessions.

The table belongs to the app's loop: ``join`` and ``leave`` are called there. A Group is only a
name; whom it reaches is looked up when it is used, from any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import Busy, Closed

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Group", "Groups"]


class Groups:
    """The groups of one app, and who is in them."""

    def __init__(self) -> None:
        self._members: dict[str, dict[str, Session]] = {}

    def join(self, name: str, session: Session) -> None:
        """``session`` joins the group ``name``, unless it has ended meanwhile."""
        if not session.ended:
            self._members.setdefault(name, {})[session.id] = session

    def leave(self, name: str, session: Session) -> None:
        """``session`` leaves the group ``name``; an empty group is forgotten."""
        members = self._members.get(name, {})
        members.pop(session.id, None)
        if not members:
            self._members.pop(name, None)

    def members(self, name: str) -> tuple[Session, ...]:
        """The sessions of a group. Any thread."""
        return tuple(self._members.get(name, {}).values())


class Group:
    """A named set of sessions. Made by :meth:`App.group`."""

    __slots__ = ("_groups", "name")

    def __init__(self, groups: Groups, name: str) -> None:
        self._groups = groups
        self.name = name

    def __len__(self) -> int:
        return len(self._groups.members(self.name))

    def emit(self, event: str, data: Any = None, *, label: str | None = None) -> None:
        """Send an event to the clients of every member."""
        for session in self._groups.members(self.name):
            session.emit(event, data, label=label)

    def tell(self, event: str, payload: Any = None) -> tuple[int, int]:
        """Put a message into every member's mailbox; (accepted, refused)."""
        accepted = refused = 0
        for session in self._groups.members(self.name):
            try:
                session.tell(event, payload)
                accepted += 1
            except (Busy, Closed):
                refused += 1
        return accepted, refused
