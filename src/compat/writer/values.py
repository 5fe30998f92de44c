"""Values of the state under their old names."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from ...core import file
from ...core.types import Bytes

__all__ = ["BytesWrapper", "pack_bytes", "pack_file"]

BytesWrapper = Bytes


def pack_file(file_or_path: str | Path | IO[bytes], mime_type: str | None = None) -> Bytes:
    """``gr.pack_file``: the file is read here and now, once."""
    return file.pack_file(file_or_path, mime_type)


def pack_bytes(raw_data: Any, mime_type: str | None = None) -> Bytes:
    """``gr.pack_bytes``."""
    return file.pack_bytes(raw_data, mime_type or file.PLAIN_MIME)
