"""The check that users and our own tests call at quiet points."""

from __future__ import annotations

from typing import Any

import pytest

import greenroom as gr
from greenroom.core.stats import EQUATIONS, unbalanced
from greenroom.testing import assert_conserved


def test_a_balanced_app_passes_and_a_message_that_vanished_is_named(arun: Any) -> None:
    async def main() -> None:
        app = gr.App(None, [], gr.Settings(watchdog=0.0))
        assert_conserved(app)
        app.on("app:note", lambda: None)
        async with app:
            session = app.open_session()
            await session.ask("app:note")
            assert_conserved(app)
            told = app.stats()
            told["messages"]["run"] -= 1
            (line,) = unbalanced(told)
            assert "messages.accepted = messages.run + " in line
            assert ": 1 is not 0 + " in line
        assert_conserved(app)
        app.scheduler.count("cancelled")  # nothing was: one is missing among those pending
        with pytest.raises(AssertionError, match=r"messages\.pending: -1 are counted, 0 are there"):
            assert_conserved(app)

    arun(main)


def test_every_equation_would_notice() -> None:
    """Each counter of each equation counts: one more of it and the balance is lost."""
    app = gr.App()
    for equation in EQUATIONS:
        for path in (*equation.inflow, *equation.outflow):
            told = app.stats()
            *groups, name = path.split(".")
            where: Any = told
            for group in groups:
                where = where[group]
            if isinstance(where[name], dict):
                where[name]["some_code"] = 1
            else:
                where[name] += 1
            assert any(line.startswith(f"{equation}:") for line in unbalanced(told)), path
