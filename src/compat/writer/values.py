"""Values of the state under their old names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ...core import file, mutable
from ...core.table import EditableTable
from ...core.types import Bytes

__all__ = [
    "BytesWrapper",
    "EditableDataFrame",
    "EditableDataframe",
    "MutableValue",
    "pack_bytes",
    "pack_file",
]

BytesWrapper = Bytes


def pack_file(file_or_path: str | Path | IO[bytes], mime_type: str | None = None) -> Bytes:
    """``gr.pack_file``: the file is read here and now, once."""
    return file.pack_file(file_or_path, mime_type)


def pack_bytes(raw_data: Any, mime_type: str | None = None) -> Bytes:
    """``gr.pack_bytes``."""
    return file.pack_bytes(raw_data, mime_type or file.PLAIN_MIME)


class MutableValue(mutable.MutableValue):
    """``gr.MutableValue``, which also remembers that it was changed."""

    _mutated = False

    def mutate(self) -> None:
        """Send it to the clients of its session."""
        super().mutate()
        self._mutated = True

    def mutated(self) -> bool:
        """Whether ``mutate`` was called since ``reset_mutation``. Being sent changes nothing."""
        return self._mutated

    def reset_mutation(self) -> None:
        """Forget that it was changed. What was to be sent is sent."""
        self._mutated = False


class EditableDataFrame(EditableTable):
    """``gr.EditableTable``, edited by the payloads of Writer's table editor."""

    @property
    def df(self) -> Any:
        """The frame, or the list of records; assigning another is a change."""
        return self.data

    @df.setter
    def df(self, value: Any) -> None:
        self.data = value

    def record_add(self, payload: Mapping[str, Any]) -> None:
        """``add`` of ``payload["record"]``."""
        self.add(payload["record"])

    def record_update(self, payload: Mapping[str, Any]) -> None:
        """``update`` of the record at ``payload["record_index"]`` by ``payload["record"]``."""
        self.update(payload["record_index"], payload["record"])

    def record_remove(self, payload: Mapping[str, Any]) -> None:
        """``remove`` of the record at ``payload["record_index"]``."""
        self.remove(payload["record_index"])


EditableDataframe = EditableDataFrame
