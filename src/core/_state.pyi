"""The state tree: what handlers read and assign, and the record of what they assigned. Compiled.

Assigning is for the thread that opened the turn, reading for any thread.
"""

from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from typing import Any, ClassVar, TypeAlias, final

from typing_extensions import disjoint_base

from ._calculated import Calculated
from ._patch import Patch
from ._watch import Handle

__pyx_capi__: dict[str, Any]

_Path: TypeAlias = str | tuple[str, ...]

def set_subscribing(function: Callable[..., Any]) -> None:
    """Install what ``subscribe_mutation`` does (``_watch``)."""

def set_shipping(take_patch: Callable[[State], Patch], to_dict: Callable[[State], Any]) -> None:
    """Install what makes patches and plain copies; the floor above does (``_ship``)."""

def set_schema(
    declare_fields: Callable[[type[State]], None],
    resolve_fields: Callable[[type[State]], dict[str, Field]],
) -> None:
    """Install what reads the annotations of State classes (``core.schema``)."""

def set_mutable(
    kind: type[Any],
    note_place: Callable[[Journal | None, tuple[str, ...], list[Any]], None],
    after_undo: Callable[[Journal, list[tuple[Any, Callable[[], None] | None]]], None],
) -> None:
    """Install ``MutableValue``, and who notes where such values lie and hears of an undo."""

@final
class Journal:
    """What a session's nodes share: who may assign, and which nodes have records."""

    @property
    def alone(self) -> bool:
        """True for that of a State on its own."""

    @property
    def assignable(self) -> bool:
        """Whether the calling thread may assign now."""

    @property
    def unassigned(self) -> bool:
        """True when nothing was assigned that a rollback could take back."""

    def lies_at(self, keys: tuple[str, ...], value: object) -> bool:
        """Whether the leaf at ``keys`` is ``value``, or holds it in lists, tuples and dicts."""

    def mark(self, keys: tuple[str, ...], value: object, tell: bool = True) -> None:
        """Assign the leaf at ``keys`` to itself where ``value`` still lies there.

        Without ``tell`` it only makes stale what is calculated from it.
        """

    def keep(self, value: object, undo: Callable[[], None] | None) -> None:
        """Keep, for the undo of the turn, how to undo ``value``. The first of a turn counts."""

def journal_of(node: State) -> Journal | None:
    """The journal of a state; None in a template."""

def is_calculated(node: State, key: str) -> bool:
    """Whether a key of a state is a calculated property, or in the value of one."""

@final
class Field:
    """An annotated attribute of a State class: reads and assigns the key of its name."""

    def __init__(
        self, key: str, kind: type[State] | None, opaque: bool, needed: bool, *default: Any
    ) -> None: ...
    @property
    def key(self) -> str: ...
    @property
    def kind(self) -> type[State] | None: ...
    @property
    def opaque(self) -> bool: ...
    @property
    def needed(self) -> bool: ...
    @property
    def default(self) -> Any: ...
    def __get__(self, node: State | None, owner: type | None = None, /) -> Any: ...
    def __set__(self, node: State, value: Any, /) -> None: ...

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
class Plan:
    """The calculated properties of a State class, in the order in which they can be calculated."""

    def __init__(self, properties: dict[str, Calculated[Any]], needs: Needs) -> None: ...
    @property
    def properties(self) -> dict[str, Calculated[Any]]: ...
    @property
    def needs(self) -> Needs: ...

@final
class Needs:
    """A place properties are calculated from: those of just this place, and of all below it.

    ``here`` and ``all`` are tuples of names, ``below`` a dict of Needs by key.
    """

    def __init__(
        self, here: tuple[str, ...], all: tuple[str, ...], below: dict[str, Needs] | None
    ) -> None: ...
    @property
    def here(self) -> tuple[str, ...]: ...
    @property
    def all(self) -> tuple[str, ...]: ...
    @property
    def below(self) -> dict[str, Needs] | None: ...

def declare_subclass(cls: type[State], **arguments: Any) -> None:
    """``State.__init_subclass__``."""

@disjoint_base
class State:
    """A mapping of string keys whose assignments are tracked. Nested dicts are States too.

    ``State({...})`` on its own may always be assigned and gives its changes by ``take_patch()``.
    A session's state may be assigned by the turn that was given it. A missing key reads as None.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, values: Mapping[str, Any] | State | StateView | None = None, /) -> None: ...
    def __getitem__(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, value: Any, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __reversed__(self) -> Iterator[str]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
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
        """Append to the list at ``key``; clients get the item, not the list.

        A list that anything else holds, another key say, stays as it is: a copy of it grows.
        """

    def extend(self, key: str, items: Iterable[Any]) -> None:
        """Append several items to the list at ``key``; clients get the items, not the list.

        A list that anything else holds, another key say, stays as it is: a copy of it grows.
        """

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
        """Delete all keys; the fields of a schema begin with their defaults again."""

    def replace(self, values: Mapping[str, Any] | State | StateView, /) -> None:
        """Make this state equal to ``values``: the other keys are deleted.

        The fields of a schema that ``values`` does not name begin with their defaults again.
        """

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
class StateView:
    """A state that can be read only: ``session.state``. Nested values are views too.

    Lists and other leaves are the objects themselves: change them in a turn only.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __getitem__(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, value: Any, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __reversed__(self) -> Iterator[str]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
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
