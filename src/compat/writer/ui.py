"""``writer.ui`` is not here: whatever is asked of it says what to use instead."""

from __future__ import annotations

from .absent import refuse_all

__all__: list[str] = []

__getattr__ = refuse_all("ui")
