"""What the numbers are called, and that Prometheus can read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.core.visitor import Visitor

import greenroom as gr
from greenroom.core.metrics import METRICS, exposition
from greenroom.core.stats import BALANCE, EQUATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


def paths(stats: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in stats.items():
        if isinstance(value, dict) and prefix + key not in METRICS:
            yield from paths(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_every_key_is_described_and_nothing_else() -> None:
    assert set(paths(gr.App().stats())) == set(METRICS)
    assert all(metric.help for metric in METRICS.values())


def test_the_page_lists_every_key_and_every_equation() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|$", PAGE, re.MULTILINE))
    described = {
        metric.path: ("**now** " if metric.kind == "gauge" else "") + metric.help
        for metric in METRICS.values()
    }
    assert rows == described
    assert BALANCE.strip() in PAGE


def test_equations_name_what_there_is() -> None:
    for equation in EQUATIONS:
        assert {*equation.inflow, *equation.outflow} <= set(METRICS)


def test_prometheus_reads_the_same_numbers(arun: Any) -> None:
    async def main() -> None:
        app = gr.App({"n": 0}, [], gr.Settings(watchdog=0.0))
        app.on("app:fail", lambda: 1 / 0)
        async with app:
            visitor = await Visitor(app).open()
            await visitor.call("app:fail")
            await visitor.call("nobody")
            visitor.line.cut()
            stats = app.stats()
            families = list(text_string_to_metric_families(exposition(stats).decode()))
            read = {family.name: family for family in families}
            assert len(read) == len(families) == len(METRICS)
            for path, metric in METRICS.items():
                family = read[metric.name.removesuffix("_total")]
                assert (family.type, family.documentation) == (metric.kind, metric.help)
                told: Any = stats
                for key in path.split("."):
                    told = told[key]
                samples = {s.labels.get("code"): (s.name, s.value) for s in family.samples}
                wanted = told if isinstance(told, dict) else {None: told}
                assert samples == {code: (metric.name, n) for code, n in wanted.items()}
            codes = {s.labels["code"]: s.value for s in read["greenroom_answers_errors"].samples}
            assert codes == {"handler_error": 1, "not_found": 1}
            assert read["greenroom_closes"].samples[0].labels == {"code": "eof"}

    arun(main)


def test_labels_are_escaped_and_what_is_not_described_is_told_all_the_same() -> None:
    stats = {"closes": {'a"b\\c\nd': 1}, "files": {"open": 2}}
    families = {f.name: f for f in text_string_to_metric_families(exposition(stats).decode())}
    assert families["greenroom_closes"].samples[0].labels == {"code": 'a"b\\c\nd'}
    assert families["greenroom_files_open"].samples[0].value == 2
