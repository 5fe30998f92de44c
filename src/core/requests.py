"""What the client's ``gr:`` frames must say, one reader each.

A reader takes the frame's ``data`` and returns the request's kind and its data in one shape:
every field present, of the type it is said to have. It raises ``Malformed`` for ``bad_payload``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .packet import Malformed, object_in

__all__ = ["READERS", "Reader"]

Reader = Callable[[Any], tuple[str, Any]]


def _fields(data: Any, *names: str) -> list[Any]:
    fields = object_in(data)
    if fields is None:
        raise Malformed("data is an object")
    return [fields.get(name) for name in names]


def _name(data: Any) -> str:
    (name,) = _fields(data, "name")
    if not isinstance(name, str) or not name:
        raise Malformed("data needs a name")
    return name


def _query(data: Any) -> tuple[str, Any]:
    name = _name(data)
    value, timeout = _fields(data, "data", "timeout")
    if timeout is not None and (type(timeout) not in (int, float) or timeout <= 0):
        raise Malformed("timeout is in seconds")
    return "query", {"name": name, "data": value, "timeout": timeout}


def _subscribe(data: Any) -> tuple[str, Any]:
    return "subscribe", {"name": _name(data)}


def _unsubscribe(data: Any) -> tuple[str, Any]:
    return "unsubscribe", {"name": _name(data)}


def _trigger(data: Any) -> tuple[str, Any]:
    name = _name(data)
    return "trigger", {"name": name, "data": data.get("data")}


def _cancel(data: Any) -> tuple[str, Any]:
    (number,) = _fields(data, "id")
    if type(number) is not int or number < 1:
        raise Malformed("data needs the id to cancel")
    return "cancel", {"id": number}


def _answer(data: Any) -> tuple[str, Any]:
    call, value = _fields(data, "call", "value")
    if type(call) is not int:
        raise Malformed("data needs the number of the call it answers")
    return "answer", {"call": call, "value": value}


def _upload(data: Any) -> tuple[str, Any]:
    name = _name(data)
    size, mime, whole = _fields(data, "size", "mime", "bytes")
    if type(size) is not int or size < 0:
        raise Malformed("size is in bytes")
    if mime is not None and not isinstance(mime, str):
        raise Malformed("mime is a string")
    about = {"name": name, "size": size, "mime": mime or ""}
    return "upload", about | ({"in_memory": True} if whole is True else {})


def _file(data: Any) -> str:
    (file,) = _fields(data, "file")
    if not isinstance(file, str):
        raise Malformed("data needs the id of the file")
    return file


def _fetch(data: Any) -> tuple[str, Any]:
    return "fetch", {"file": _file(data)}


def _piece(data: Any) -> tuple[str, Any]:
    file = _file(data)
    at, raw, last, drop = (data.get(name) for name in ("at", "data", "last", "drop"))
    if drop is not True and (type(at) is not int or at < 0):
        raise Malformed("at is how many bytes of the file come before the piece")
    if raw is not None and not isinstance(raw, bytes):
        raise Malformed("data is bytes")
    told = {"file": file, "at": at, "data": raw, "last": last is True, "drop": drop is True}
    return "piece", told


def _refresh(data: Any) -> tuple[str, Any]:
    return "refresh", None


READERS: Final[dict[str, Reader]] = {
    "gr:query": _query,
    "gr:subscribe": _subscribe,
    "gr:unsubscribe": _unsubscribe,
    "gr:trigger": _trigger,
    "gr:cancel": _cancel,
    "gr:answer": _answer,
    "gr:upload": _upload,
    "gr:fetch": _fetch,
    "gr:piece": _piece,
    "gr:refresh": _refresh,
}
