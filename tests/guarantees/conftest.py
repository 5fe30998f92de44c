"""What the guarantees' tests share. Handlers here fail on purpose, so the log is kept quiet."""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    logger = logging.getLogger("greenroom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)
