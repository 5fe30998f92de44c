"""Middlewares: functions that run around every turn. What shape one has, and how it is called.

========================  ==================================  ==========
kind                      runs                                sync parts
========================  ==================================  ==========
``generator``             before and after its one ``yield``  on workers
``async_generator``       before and after its one ``yield``  none
``plain``                 before the handler                  on workers
``async``                 before the handler, awaited         none
========================  ==================================  ==========

The running itself is the turn's business (``turn.py``).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, Literal

from ._turn import CallPlan
from .errors import BadHandler
from .payloads import converter
from .plans import INJECTABLE, describe, fill_by_name, is_async, layers, location, name_of
from .types import Place, Slot

__all__ = ["Kind", "Middleware"]

Kind = Literal["generator", "async_generator", "plain", "async"]


class Middleware:
    """One middleware, injected like a handler."""

    __slots__ = ("fn", "is_async", "kind", "name", "place", "plan", "where")

    fn: Callable[..., Any]
    plan: CallPlan
    kind: Kind
    place: Place  # of its sync parts; LOOP for async ones
    is_async: bool
    name: str
    where: str  # file:line

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.kind = _kind(fn)
        filling = fill_by_name(fn, INJECTABLE, "middleware", payload=Slot.PAYLOAD)
        convert = converter(fn, filling.payloads, "middleware")
        self.fn = fn
        self.plan = CallPlan(fn, filling.positional, filling.keywords, convert)
        self.is_async = self.kind in ("async", "async_generator")
        self.place = Place.LOOP if self.is_async else Place.WORKER
        self.name = name_of(fn)
        self.where = location(fn)

    def __repr__(self) -> str:
        return f"<Middleware {self.name} ({self.kind}) {self.where}>"


def _kind(fn: Any) -> Kind:
    """The shape of what calling ``fn`` gives. A plain wrapper gives what it wraps gives."""
    for layer in layers(fn):
        if inspect.isasyncgenfunction(layer):
            return "async_generator"
        if inspect.isgeneratorfunction(layer):
            return "generator"
        if is_async(layer):
            return "async"
        file = getattr(getattr(layer, "__code__", None), "co_filename", None)
        if file == contextlib.__file__:
            raise BadHandler(
                f"middleware {describe(fn)} is a context manager: drop @contextmanager or "
                f"@asynccontextmanager, a middleware is the generator itself"
            )
    return "plain"
