"""Run the measurements: ``python -m bench [group ...]``. What the rows mean: bench/README.md."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
import time
from pathlib import Path

from . import harness

GROUPS = {
    "state": "bench.core.state",
    "patch": "bench.core.patch",
    "open": "bench.core.opening",
    "turns": "bench.core.turns",
    "links": "bench.core.links",
    "workers": "bench.core.workers",
    "tokens": "bench.core.tokens",
    "asgi": "bench.load.asgi",
    "websocket": "bench.load.websocket",
    "isolation": "bench.load.isolation",
    "files": "bench.load.files",
    "stalled": "bench.load.stalled",
}
README = Path(__file__).parent / "README.md"
RESULTS = Path(__file__).parent / "results"
MARKS = ("<!-- results: written by `python -m bench --readme` -->", "<!-- end of results -->")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all of them if none")
    parser.add_argument("--rounds", type=int, default=11, help="pairs of A and B (%(default)s)")
    parser.add_argument("--effort", type=float, default=1.0, help="factor for all loop lengths")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", type=Path, help="write the report there")
    parser.add_argument("--save", action="store_true", help="write it to bench/results/")
    parser.add_argument("--asyncio", action="store_true", help="asyncio's own loop, not uvloop")
    parser.add_argument("--readme", action="store_true", help="only write README's table anew")
    options = parser.parse_args()
    if options.readme:
        return write_readme()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    started = harness.machine()
    print(f"{started['cpu']}, {started['cores']} cores, Python {started['python']}, load "
          f"{started['load']}, calibration {started['calibration_ns']} ns")  # fmt: skip
    bench = harness.Bench(rounds=options.rounds, effort=options.effort, only=options.only)
    for group in options.groups or GROUPS:
        module = importlib.import_module(GROUPS[group])
        bench.group = group
        with asyncio.Runner(loop_factory=None if options.asyncio else loop_factory()) as runner:
            runner.run(module.run(bench))
    content = harness.report(bench, started)
    path = options.json
    if options.save:
        name = f"{time.strftime('%Y-%m-%d')}-{content['commit']}.json"
        path = RESULTS / name
    if path is not None:
        harness.write(path, content)
        print(f"written to {path}")
    missed = [row for row in bench.rows if row.met is False]
    print(f"{len(bench.rows)} rows, {len(missed)} bars missed")
    return 0


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def write_readme() -> int:
    """Put the newest report of bench/results into README.md."""
    reports = sorted(RESULTS.glob("*.json"), key=lambda path: json.loads(path.read_text())["date"])
    if not reports:
        print("there is no report in bench/results: python -m bench --save", file=sys.stderr)
        return 1
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    table = harness.markdown(json.loads(reports[-1].read_text()))
    README.write_text(f"{before}{MARKS[0]}\n\n{table}\n{MARKS[1]}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
