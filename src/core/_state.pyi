# ruff: noqa: PYI021
"""The state tree: what handlers read and assign, and the record of what they assigned. Compiled.

Assigning is for the thread that opened the turn, reading for any thread.
"""

from collections.abc import (
    Awaitable,
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from typing import Any, ClassVar, TypeAlias, final

from ._patch import Patch, Segmented

_Path: TypeAlias = str | tuple[str, ...]

def set_subscriber_adapter(adapt: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Install what turns a subscriber into ``call(payload, context, state)``.

    A call whose ``is_async`` attribute is true runs after the handler, before the commit.
    """

def set_leaf_rule(rule: Callable[[Any, bool, str], bool]) -> None:
    """Install what says whether sessions need copies of a template's leaf (``core.state``)."""

@final
class Where:
    """A place in the tree. Shared by the template's node and all sessions' nodes there."""

    @property
    def keys(self) -> tuple[str, ...]: ...

@final
class Cell:
    """A mutable leaf of a template. Never handed out: sessions get copies of its value."""

@final
class Shared:
    """``gr.shared(value)``: the one object of this value is meant for all sessions."""

    def __init__(self, value: Any) -> None: ...
    @property
    def value(self) -> Any: ...

@final
class Grown:
    """Record of a list that grew by append: what it was is its first ``size`` items."""

@final
class Tree:
    """A private copy of a subtree, whose leaves still have to be encoded."""

@final
class Journal:
    """What a session's nodes share: who may assign, and which nodes have records."""

class State:
    """A mapping of string keys whose assignments are tracked. Nested dicts are States too.

    ``State({...})`` on its own may always be assigned and gives its changes by ``take_patch()``.
    A session's state may be assigned by the turn that was given it. A missing key reads as None.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, values: Mapping[str, Any] | State | StateView | None = None, /) -> None: ...
    def __getitem__(self, key: str) -> Any: ...
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __delitem__(self, key: str) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...
    def __delattr__(self, name: str) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __reversed__(self) -> Iterator[str]: ...
    def __eq__(self, other: object) -> bool: ...
    def __ne__(self, other: object) -> bool: ...
    def __dir__(self) -> list[str]: ...
    def keys(self) -> KeysView[str]:
        """The keys at this moment."""

    def values(self) -> ValuesView[Any]:
        """The values at this moment; nested ones are States."""

    def items(self) -> ItemsView[str, Any]:
        """The pairs at this moment; nested values are States."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or ``default``."""

    def to_raw_state(self) -> dict[str, Any]:
        """A plain copy, private keys included. Leaves are the objects themselves."""

    def to_dict(self) -> dict[str, Any]:
        """A copy that can be serialised: what a client has, without private keys."""

    def append(self, key: str, item: Any) -> None:
        """Append to the list at ``key``; clients get the item, not the list."""

    def extend(self, key: str, items: Iterable[Any]) -> None:
        """Append several items to the list at ``key``; clients get the items, not the list."""

    def update(
        self,
        values: Mapping[str, Any] | State | StateView | Iterable[tuple[str, Any]] = (),
        /,
        **more: Any,
    ) -> None:
        """Assign several keys."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a key; a missing one is assigned ``default`` first."""

    def pop(self, key: str, default: Any = None) -> Any:
        """Delete a key and return its value, or ``default``."""

    def popitem(self) -> tuple[str, Any]:
        """Delete the last key and return it with its value."""

    def clear(self) -> None:
        """Delete all keys."""

    def replace(self, values: Mapping[str, Any] | State | StateView, /) -> None:
        """Make this state equal to ``values``: the other keys are deleted."""

    def take_patch(self) -> Patch:
        """What was assigned since the last call, as a Patch. For a State on its own."""

    def subscribe_mutation(
        self, path: _Path | list[_Path], handler: Callable[..., Any], initial: bool = False
    ) -> Handle:
        """Call ``handler`` whenever a path is assigned or deleted, or lost or won with a parent.

        Paths are ``"a.b"`` (``\\.`` for a literal dot), tuples of keys, or a list of those. The
        handler gets ``payload`` {"previous_value", "new_value"} and ``context``
        {"event": "mutation", "mutation": path}, by name. Returns a handle with ``cancel()``.
        """

@final
class Watch:
    """One subscription of one path."""

@final
class Watches:
    """Subscriptions by path: those of this place, and those below."""

@final
class Handle:
    """A subscription. ``cancel`` ends it; calling it again does nothing."""

    def cancel(self) -> None: ...

@final
class Later:
    """A call of an async subscriber, made after the handler; returns an awaitable."""

    def __init__(self, call: Any, payload: Any, context: Any, root: Any) -> None: ...
    def __call__(self) -> Awaitable[Any]: ...

@final
class Writer:
    """How a subtree is written in one step: what to do with values that are not plain."""

@final
class Late:
    """A set whose value must be encoded after the seal."""

@final
class Shipment:
    """What one ship carries from its seal to its end."""

@final
class Ledger:
    """One session's state with its turns: opened by ``Template.open()``."""

    on_due: Callable[[], object] | None
    due: bool

    def __new__(cls, *args: Any, **kwargs: Any) -> Ledger: ...
    @property
    def root(self) -> State: ...
    @property
    def view(self) -> StateView:
        """The read-only face of the state."""

    @property
    def position(self) -> int:
        """Patches shipped so far."""

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
        """(path, type name) of what clients did not get, since ``take_unencodable``."""

    def open(self) -> None:
        """Begin a turn; the calling thread owns it."""

    def adopt(self) -> None:
        """The open turn goes on in the calling thread."""

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

    def take_async(self) -> list[Callable[[], Awaitable[Any]]]:
        """The calls of async subscribers of this turn; each returns an awaitable."""

    def take_unencodable(self) -> list[tuple[str, str]]:
        """(path, type name) of what clients did not get, since the last call."""

@final
class StateView:
    """A state that can be read only: ``session.state``. Nested values are views too.

    Lists and other leaves are the objects themselves: change them in a turn only.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __new__(cls, *args: Any, **kwargs: Any) -> StateView: ...
    def __getitem__(self, key: str) -> Any: ...
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __delitem__(self, key: str) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...
    def __delattr__(self, name: str) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __reversed__(self) -> Iterator[str]: ...
    def __eq__(self, other: object) -> bool: ...
    def __ne__(self, other: object) -> bool: ...
    def __dir__(self) -> list[str]: ...
    def keys(self) -> KeysView[str]:
        """The keys at this moment."""

    def values(self) -> ValuesView[Any]:
        """The values at this moment; nested ones are views."""

    def items(self) -> ItemsView[str, Any]:
        """The pairs at this moment; nested values are views."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or ``default``."""

    def to_raw_state(self) -> dict[str, Any]:
        """A plain copy, private keys included. Leaves are the objects themselves."""

    def to_dict(self) -> dict[str, Any]:
        """A copy that can be serialised: what a client has, without private keys."""

    def append(self, key: str, item: Any) -> None:
        """Refused: see StaleTurn."""

    def extend(self, key: str, items: Iterable[Any]) -> None:
        """Refused: see StaleTurn."""

@final
class Template:
    """The state sessions begin with. Never changes; sessions share it until they assign."""

    def __init__(self, values: Mapping[str, Any] | State | None = None, /) -> None: ...
    @property
    def root(self) -> State: ...
    def open(self) -> Ledger:
        """The ledger of a new session."""
