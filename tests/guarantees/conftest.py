"""What the guarantees' tests share. Handlers here fail on purpose, so the log is kept quiet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import LOOPS, run_clean

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    logger = logging.getLogger("greenroom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.fixture
def serve() -> Callable[..., Any]:
    """``arun`` for real servers, on the loop that ``greenroom run`` uses where there is one."""
    factory = LOOPS.get("uvloop", LOOPS["asyncio"])
    return lambda story, timeout=60: run_clean(factory, story, timeout)
