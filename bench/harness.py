"""How everything here is measured: alternating rounds, medians, spread, and no ratio from a machine
that was not the same machine from one round to the next.

A *measure* is a callable, sync or async, that does some work, checks that the answer is right and
returns what one unit of it cost. A *row* compares two of them (``compare``) or records one number
(``value``). Rounds run A B, then B A, so that a drift of the machine falls on both.

Work on one thread is timed by that thread's CPU time (``clock``), which other processes blur less;
only what happens between threads or processes is timed by the wall clock, and says so.

Before and after every round a calibration loop is timed: the same few thousand steps of plain
Python. A round during which the machine was more than ``DRIFT`` slower than at its best is thrown
away and repeated. When too few rounds are left, the row is printed without a ratio.
"""

from __future__ import annotations

import inspect
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

__all__ = ["Bench", "Measure", "Row", "calibrate", "clock", "machine", "percentile", "versions"]

clock = time.thread_time

Measure = Callable[[], "float | Awaitable[float]"]

DRIFT: Final = 0.30  # a round may be this much slower than the machine at its best
REPEATS: Final = 3  # times as many rounds as asked for are tried before a row is given up
ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("Cython", "uvloop", "orjson", "msgspec", "uvicorn", "websockets", "starlette")


def calibrate(clock: Callable[[], float] = clock) -> float:
    """Nanoseconds of one step of a loop that never changes. The best of five, about 1 ms in all."""
    best = float("inf")
    for _ in range(5):
        start = clock()
        held: dict[str, int] = {}
        for number in range(4000):
            held["n"] = number
        best = min(best, clock() - start)
    return best / 4000 * 1e9


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@dataclass
class Row:
    """One line of the table, as it is written to JSON."""

    group: str
    name: str
    unit: str  # "x" for ratios
    bar: float | None  # what must be reached; None: for information
    better: str  # "less" or "more"
    value: float | None  # None: the machine drifted, or there is nothing to compare with
    low: float | None = None  # the middle half of the rounds lies between low and high
    high: float | None = None
    ours: float | None = None  # medians, in `of`
    base: float | None = None
    of: str = "ns"
    against: str = ""
    rounds: int = 0
    thrown_away: int = 0
    drift: float | None = None  # slowest calibration of the rounds that count over the fastest
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None when there is no bar or no value."""
        if self.bar is None or self.value is None:
            return None
        return self.value <= self.bar if self.better == "less" else self.value >= self.bar


SCALES: Final = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0, "B": 1.0}


@dataclass
class Bench:
    """Collects rows. ``rounds`` is how many pairs a comparison takes at ``quick`` 1."""

    rounds: int = 11
    effort: float = 1.0  # loops are multiplied by this
    rows: list[Row] = field(default_factory=list)
    group: str = ""
    only: str = ""  # rows whose name does not contain it are passed over
    quiet: bool = False

    def loops(self, count: int) -> int:
        """How many repetitions a measure should make."""
        return max(1, round(count * self.effort))

    def wanted(self, name: str) -> bool:
        """Whether a row was asked for; ask before expensive preparations."""
        return self.only in name

    async def compare(
        self,
        name: str,
        base: Measure,
        ours: Measure,
        *,
        bar: float | None,
        against: str,
        of: str = "ns",
        better: str = "less",
        invert: bool = False,
        rounds: int = 0,
        wall: bool = False,
        note: str = "",
    ) -> Row | None:
        """A row: the median over rounds of ours / base (``invert``: base / ours, for rates).

        Both measures return seconds per unit of work; ``wall``: not of this thread's CPU time.
        """
        if not self.wanted(name):
            return None
        rounds = rounds or self.rounds
        for measure in (base, ours):  # warm up; what is slow the first time is not measured
            await _call(measure)
        kept: list[tuple[float, float, float]] = []  # calibration, base, ours
        timer = time.perf_counter if wall else clock
        best = calibrate(timer)
        tried = 0
        while tried < rounds * REPEATS:
            before = calibrate(timer)
            if tried % 2:
                a = await _call(ours)
                b = await _call(base)
            else:
                b = await _call(base)
                a = await _call(ours)
            tried += 1
            after = calibrate(timer)
            best = min(best, before, after)
            kept.append((max(before, after), b, a))
            good = [k for k in kept if k[0] <= best * (1 + DRIFT)]
            if len(good) >= rounds:
                break
        good = [k for k in kept if k[0] <= best * (1 + DRIFT)]
        scale = SCALES[of]
        row = Row(
            group=self.group,
            name=name,
            unit="x",
            bar=bar,
            better=better,
            value=None,
            of=of,
            against=against,
            rounds=len(good),
            thrown_away=tried - len(good),
            note=note,
        )
        if len(good) >= max(3, rounds // 2):
            ratios = [(b / a if invert else a / b) for _, b, a in good]
            row.value = statistics.median(ratios)
            row.low, row.high = percentile(ratios, 0.25), percentile(ratios, 0.75)
            row.ours = statistics.median(a for _, _, a in good) * scale
            row.base = statistics.median(b for _, b, _ in good) * scale
            row.drift = max(k[0] for k in good) / best
        return self.add(row)

    async def value(
        self,
        name: str,
        measure: Measure,
        *,
        bar: float | None,
        unit: str,
        better: str = "less",
        rounds: int = 0,
        note: str = "",
    ) -> Row | None:
        """A row: the median over rounds of one number, in seconds or bytes as ``unit`` says."""
        if not self.wanted(name):
            return None
        await _call(measure)
        scale = SCALES[unit]
        values = [await _call(measure) * scale for _ in range(rounds or self.rounds)]
        return self.add(
            Row(
                group=self.group,
                name=name,
                unit=unit,
                bar=bar,
                better=better,
                value=statistics.median(values),
                low=percentile(values, 0.25),
                high=percentile(values, 0.75),
                rounds=len(values),
                note=note,
            )
        )

    def add(self, row: Row) -> Row:
        """Keep a row that was made elsewhere, and show it."""
        self.rows.append(row)
        if not self.quiet:
            print(line(row), flush=True)
        return row


async def _call(measure: Measure) -> float:
    result = measure()
    if inspect.isawaitable(result):
        result = await result
    return result


# -- showing --------------------------------------------------------------------------------------


def figure(value: float | None) -> str:
    """A number with three significant digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def verdict(row: Row) -> str:
    if row.value is None:
        return "no result: the machine drifted" if row.against else "no result"
    return {True: "met", False: "MISSED", None: ""}[row.met]


def bar_of(row: Row) -> str:
    if row.bar is None:
        return ""
    return f"{'<=' if row.better == 'less' else '>='} {figure(row.bar)} {row.unit}"


def line(row: Row) -> str:
    """One row for a terminal."""
    text = f"{row.group:10} {row.name:58} {figure(row.value):>6} {row.unit:2} {bar_of(row):>11}"
    if row.low is not None:
        text += f"  ({figure(row.low)} to {figure(row.high)})"
    if row.ours is not None:
        text += f"  {figure(row.ours)} / {figure(row.base)} {row.of}"
    return f"{text}  {verdict(row)}".rstrip()


def markdown(report: dict[str, Any]) -> str:
    """The table of a JSON report, for README.md."""
    head = report["machine"]
    out = [
        f"{report['date']}, commit {report['commit']}, {head['cpu']}, {head['cores']} cores, "
        f"{head['system']}, Python {head['python']}, "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
        + ".",
        "",
        "| | what | reached | middle half | bar | ours / base | |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in report["rows"]:
        row = Row(**item)
        between = "" if row.low is None else f"{figure(row.low)} to {figure(row.high)}"
        pair = "" if row.ours is None else f"{figure(row.ours)} / {figure(row.base)} {row.of}"
        out.append(
            f"| {row.group} | {row.name} | {figure(row.value)} {row.unit} | {between} "
            f"| {bar_of(row)} | {pair} | {verdict(row)} |"
        )
    return "\n".join(out) + "\n"


# -- where it was measured ------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "load": [round(value, 2) for value in os.getloadavg()] if sys.platform != "win32" else [],
        "calibration_ns": round(calibrate(), 2),
    }


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [part.partition(":")[2] for part in text.splitlines() if part.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def versions() -> dict[str, str]:
    """The packages that the figures depend on."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def commit() -> str:
    """The commit that is measured; ``+`` when the tree has changes."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", *args], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "setup.py")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def report(bench: Bench, started: dict[str, Any]) -> dict[str, Any]:
    """Everything about a run, for JSON."""
    ended = machine()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "machine": started | {"load_after": ended["load"]},
        "calibration_ns": [started["calibration_ns"], ended["calibration_ns"]],
        "versions": versions(),
        "rounds": bench.rounds,
        "effort": bench.effort,
        "rows": [asdict(row) for row in bench.rows],
    }


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
