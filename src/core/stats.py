"""What an app counts, and the equations that must hold between the counters (guarantee G23).

Every place where a message or a frame can end has one counter, and nothing is counted twice. So at
any quiet point, when no turn runs and no callback of the loop is on its way, what went in is what
came out, plus what is still there::

    messages    accepted = run + failed + cancelled + expired + dropped + pending

:data:`EQUATIONS` holds the same as data, for :func:`unbalanced`.

Owner: the app's loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["EQUATIONS", "Equation", "unbalanced"]


class Equation(NamedTuple):
    """The sum of some counters is the sum of others. Names are paths: ``messages.accepted``."""

    inflow: tuple[str, ...]
    outflow: tuple[str, ...]

    def __str__(self) -> str:
        return f"{' + '.join(self.inflow)} = {' + '.join(self.outflow)}"


def _equation(text: str) -> Equation:
    """``group: a + b = c + d``."""
    group, _, sums = text.partition(": ")
    inflow, outflow = (
        tuple(f"{group}.{name.strip()}" for name in side.split("+")) for side in sums.split("=")
    )
    return Equation(inflow, outflow)


EQUATIONS: Final = tuple(
    map(
        _equation,
        ("messages: accepted = run + failed + cancelled + expired + dropped + pending",),
    )
)


def unbalanced(stats: Mapping[str, Any]) -> list[str]:
    """The equations that do not hold in what :meth:`App.stats` told, with their numbers."""
    return [
        f"{equation}: {_told(stats, equation.inflow)} is not {_told(stats, equation.outflow)}"
        for equation in EQUATIONS
        if _sum(stats, equation.inflow) != _sum(stats, equation.outflow)
    ]


def _value(stats: Mapping[str, Any], path: str) -> int:
    found: Any = stats
    for name in path.split("."):
        found = found[name]
    return int(found)


def _sum(stats: Mapping[str, Any], paths: tuple[str, ...]) -> int:
    return sum(_value(stats, path) for path in paths)


def _told(stats: Mapping[str, Any], paths: tuple[str, ...]) -> str:
    return " + ".join(str(_value(stats, path)) for path in paths)
