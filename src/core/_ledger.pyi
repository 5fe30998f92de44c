"""Templates and ledgers: the state sessions begin with, and one session's state with its turns."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, final

from ._patch import Patch
from ._state import State, StateView
from ._text import Segmented

def set_leaf_rule(rule: Callable[[Any, bool, str], bool]) -> None:
    """Install what says whether sessions need copies of a template's leaf (``core.state``)."""

@final
class Ledger:
    """One session's state with its turns: opened by ``Template.open()``."""

    on_due: Callable[[], object] | None
    due: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    @property
    def root(self) -> State:
        """The root; it wakes what is at rest."""

    @property
    def resting(self) -> bool:
        """Whether nothing is kept but what differs from the template."""

    def rest(self) -> bool:
        """Keep only what differs from the template; False when that cannot be now.

        It cannot during a turn, while anybody has or waits for something of it (clients,
        subscriptions, a ``view`` or a nested state that somebody holds), with calculated
        properties, or when keys have another order than the template's. What is asked of it
        afterwards wakes it.
        """

    @property
    def view(self) -> StateView:
        """The read-only face of the state."""

    @property
    def position(self) -> int:
        """Patches shipped so far."""

    @property
    def run_async(self) -> bool:
        """Whether async subscribers wait for the end of the handler (``take_async``)."""

    @property
    def in_turn(self) -> bool:
        """True while a turn is open."""

    @property
    def owned(self) -> bool:
        """True when the open turn belongs to the calling thread."""

    @property
    def dirty(self) -> bool:
        """True when something was assigned that has not been shipped."""

    @property
    def shipping(self) -> bool:
        """True from the start of a ship until ``shipped()``."""

    @property
    def unencodable(self) -> list[tuple[str, str]]:
        """(path, type name and reason) of what clients did not get, since ``take_unencodable``."""

    def open(self) -> None:
        """Begin a turn; the calling thread owns it."""

    def adopt(self) -> None:
        """The open turn goes on in the calling thread."""

    def settle(self) -> None:
        """Calculate the properties that are stale. Raises the first error; then none is stale."""

    def commit(self, keep: bool) -> None:
        """End the turn. Without ``keep`` nobody needs to hear of it."""

    def mark(self) -> None:
        """Move the moment ``undo`` and ``rollback`` go back to, to now."""

    def undo(self) -> None:
        """Give everything assigned in this turn its value at the start; the turn goes on."""

    def rollback(self, keep: bool) -> None:
        """Undo, then end the turn."""

    def ship(self, foreign: bool = False) -> Patch | None:
        """Seal and encode what was not shipped: a Patch, or None when there is nothing.

        ``foreign``: from beside the turn; takes plain values only, the others wait. Otherwise
        ``shipping`` is true until ``shipped()`` is called, when there is a patch.
        """

    def shipped(self) -> None:
        """The last patch is in the inbox of the loop."""

    def snapshot(self, foreign: bool = False) -> tuple[bytes | Segmented, int]:
        """(encoded state, position). Call ``ship()`` first.

        ``foreign``: values that are not plain, or not shipped, are left out and come with the next
        patch.
        """

    def forget(self) -> None:
        """The last link went: nobody has anything."""

    def end(self) -> None:
        """The session is over: nothing that was subscribed or assigned holds anything any more.

        During a turn, or while a patch is encoded, the records stay; call it again afterwards.
        """

    def take_async(self) -> list[Callable[[], Awaitable[Any]]]:
        """The calls of async subscribers of this turn; each returns an awaitable."""

    def take_unencodable(self) -> list[tuple[str, str]]:
        """(path, type name) of what clients did not get, since the last call."""

@final
class Template:
    """The state sessions begin with. Never changes; sessions share it until they assign.

    ``schema``: the State class that the values are poured into.
    """

    def __init__(
        self,
        values: Mapping[str, Any] | State | None = None,
        schema: type[State] | None = None,
        /,
    ) -> None: ...
    @property
    def root(self) -> State: ...
    def open(self) -> Ledger:
        """The ledger of a new session."""

    def outline(self) -> tuple[type[State], dict[str, Any]]:
        """What lies where: (class of the state, {key: the outline of a nested state, or None})."""

    def watched(self) -> list[tuple[str, ...]]:
        """The paths that are subscribed to."""
