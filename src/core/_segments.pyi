"""The two segments of one log: commit, undo and rollback. Compiled; nothing for Python."""

from typing import Any

__pyx_capi__: dict[str, Any]
