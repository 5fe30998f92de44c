# ruff: noqa: PYI021
"""Patches and the text of values. Compiled; everything here may be called from any thread."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, final

class TooDeep(ValueError):
    """A value is nested deeper than MAX_DEPTH, or contains itself."""

def set_default(encoder: Callable[[Any], Any]) -> None:
    """Install what turns values of unknown types into known ones (``greenroom.core.encode``)."""

def encode_value(value: object, default: Callable[[Any], Any] | None = None) -> bytes | Segmented:
    """The JSON text of a value: bytes, or a Segmented when it holds bytes-values."""

def is_plain(value: object) -> bool:
    """True when encoding the value runs no Python code: scalars, lists, tuples, dicts of such."""

def render(encoded: bytes | Segmented, binary: bool, buffers: list[bytes]) -> bytes:
    """Final JSON text. With ``binary``, appends the value's buffers to ``buffers``."""

def decode_value(value: Any, buffers: Sequence[bytes] = ()) -> Any:
    """Turn a parsed wire value into what handlers see: ``$bytes`` into Bytes, ``$dict`` unwrapped.

    Raises ValueError when it is nested deeper than MAX_DEPTH or a special form is malformed.
    """

@final
class Segmented:
    """JSON text that holds bytes-values: ``pieces`` of text and the ``buffers`` between them."""

    @property
    def pieces(self) -> tuple[bytes, ...]: ...
    @property
    def buffers(self) -> tuple[bytes, ...]: ...
    @property
    def nbytes(self) -> int:
        """Size of the text form."""

    def __init__(self, pieces: tuple[bytes, ...], buffers: tuple[bytes, ...]) -> None: ...
    def __len__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Patch:
    """The net operations (set, delete, append) that bring a copy of the state up to date."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Patch: ...
    @property
    def position(self) -> int:
        """The ledger's count of patches, this one included."""

    @property
    def nbytes(self) -> int:
        """Size of the text form."""

    @property
    def has_buffers(self) -> bool:
        """True when a value holds bytes, which binary links send beside the text."""

    @property
    def set(self) -> dict[str, Any]:
        """Decoded: path -> value."""

    @property
    def delete(self) -> list[str]:
        """Paths that go."""

    @property
    def append(self) -> dict[str, Any]:
        """Decoded: path -> tail of the string, or items of the list."""

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def encode(self) -> bytes:
        """The text form, ready to be the ``data`` of a ``gr:state`` frame."""

    def render(self, binary: bool, buffers: list[bytes]) -> bytes:
        """Like ``encode``; with ``binary``, appends the buffers to ``buffers`` and names them."""

    def created(self) -> Collection[str]:
        """The set of paths this patch makes, which clients did not have before."""

    def to_json_patch(self, before: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The same as an RFC 6902 document.

        It has no string append: the whole string is set. Patches of ``take_patch()`` know it; for
        others pass ``before``, the state the patch applies to.
        """

    @staticmethod
    def merge(first: Patch, second: Patch) -> Patch | None:
        """One patch that does what both do in turn; None when their paths get in each other's way."""

    @classmethod
    def from_ops(
        cls,
        set: Mapping[str, Any] | None = None,
        delete: Iterable[str] = (),
        append: Mapping[str, Any] | None = None,
        *,
        created: Collection[str] = (),
        position: int = 0,
    ) -> Patch:
        """A patch made by hand. ``created`` names the set paths that clients do not have."""
