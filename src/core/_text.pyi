"""The text of values: buffers, JSON, the special forms, and back. Compiled; for any thread."""

from collections.abc import Callable, Sequence
from typing import Any, final

__pyx_capi__: dict[str, Any]

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
    """Turn a parsed wire value into what handlers see: ``$bytes`` into Bytes, ``$file`` into
    FileRef, ``$dict`` unwrapped.

    Raises ValueError when it is nested deeper than MAX_DEPTH or a special form is malformed.
    """

def holds_file(value: Any) -> bool:
    """Whether a decoded value names a file that travels beside the stream."""

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
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
