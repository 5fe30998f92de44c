"""Shipping: from records to patches and snapshots. Compiled; for the turn's owner and the loop."""

from typing import Any, final

from ._patch import Patch
from ._state import State

__pyx_capi__: dict[str, Any]

def take_patch(root: State) -> Patch:
    """The patch of a State on its own; may be empty."""

def to_dict(node: State) -> Any:
    """What a client has of a subtree."""

@final
class Tree:
    """A private copy of a subtree, whose leaves still have to be encoded."""

@final
class Writer:
    """How a subtree is written in one step: what to do with values that are not plain."""

@final
class Late:
    """A set whose value must be encoded after the seal."""

@final
class Shipment:
    """What one ship carries from its seal to its end."""
