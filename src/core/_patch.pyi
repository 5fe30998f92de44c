"""Patches: made in one go by a ledger, merged and shown as operations. Compiled; for any thread."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, final

from ._text import Segmented as Segmented
from ._text import decode_value as decode_value
from ._text import encode_value as encode_value
from ._text import is_plain as is_plain
from ._text import render as render
from ._text import set_default as set_default

__all__ = [
    "Patch",
    "Segmented",
    "decode_value",
    "encode_value",
    "is_plain",
    "render",
    "set_default",
]

@final
class Patch:
    """The net operations (set, delete, append) that bring a copy of the state up to date."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
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
        """One patch that does what both do in turn; None when their paths meet unequally."""

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
