"""Conservation (G23): nothing that went into an app has vanished without being counted.

::

    async with app:
        ...                      # clients, cuts, floods
        assert_conserved(app)    # at a quiet point, and again after the app has stopped

On the app's loop only.
"""

from __future__ import annotations

from ..core.app import App
from ..core.stats import unbalanced

__all__ = ["assert_conserved"]


def assert_conserved(app: App) -> None:
    """Raise AssertionError that names the equations of ``app.stats()`` which do not hold.

    Call it at a quiet point: no turn runs, and what transports were handed has been carried. The
    equations are in ``docs/operations.md``.
    """
    broken = unbalanced(app.stats())
    if broken:
        raise AssertionError("not conserved:\n  " + "\n  ".join(broken))
