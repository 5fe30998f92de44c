"""What a link keeps and tells: one frame of ours, and one thing for the driver to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.packet import dumps
from ..core.types import Packet

__all__ = ["Effect", "Entry"]


class Effect(NamedTuple):
    """Something for the driver to do. Kinds and their arguments:

    token(token, expires)   keep it, or drop it when None     snapshot(state), patch(operations)
    answer(entry, value)    error(entry, code, message, retry_after)
    event(type, data, label)   signal(name, data)   refusal(code, message)
    gap()                   what was sent in between is missing, the state is not
    renewed()               a new link took the place of an earlier one
    hang_up(code, reason)   close the transport
    retry(how, after, code, message)   how: resume, fresh or never; after: seconds, or None
    """

    kind: str
    args: tuple[Any, ...] = ()


@dataclass(slots=True, eq=False)
class Entry:
    """One frame of ours, from ``submit`` to its answer. ``tag`` is the driver's own."""

    type: str
    body: bytes  # what stands behind the id in the frame
    buffers: tuple[bytes, ...]
    tag: Any
    name: str | None = None  # of the signal, in gr:subscribe
    id: int = 0  # 0: never handed to a transport
    done: bool = False

    @property
    def size(self) -> int:
        return len(self.type) + len(self.body) + sum(map(len, self.buffers)) + 32

    @property
    def counts(self) -> bool:
        """Whether it counts towards ``inflight``: frames of the protocol do not."""
        return not self.type.startswith("gr:")

    @property
    def urgent(self) -> bool:
        """Whether it may pass others: those the server does at once, to help what is stuck."""
        return self.type in ("gr:cancel", "gr:answer", "gr:refresh")

    def packet(self) -> Packet:
        head = b'{"type":' + dumps(self.type) + b',"id":%d' % self.id
        return Packet(head + self.body + b"}", self.buffers)
