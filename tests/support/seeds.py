"""Seeds: how many stories are told, and how one that failed is told again.

Every story is made of one number. ``GREENROOM_CUTS=10000`` says how many stories the cutting tests
tell (``make cuts``); ``GREENROOM_SEED=17`` tells only that one. A failure names its seed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable

DEFAULT = 300  # what `make test` can afford

CUTS = int(os.environ.get("GREENROOM_CUTS", "0")) or DEFAULT
ONLY = os.environ.get("GREENROOM_SEED")


def seeds(share: float = 1.0, *, at_least: int = 2) -> Iterable[int]:
    """The seeds of a test that costs ``1 / share`` times as much as a cut in memory."""
    if ONLY is not None:
        return (int(ONLY),)
    return range(max(at_least, int(CUTS * share)))


@contextlib.contextmanager
def replayable(seed: int) -> Generator[None]:
    """Add to whatever goes wrong how to see it again."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"seed {seed}; tell it again: GREENROOM_SEED={seed} python -m pytest -k ...")
        raise
