"""What holds for every test."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tests import attacks, trials

HERE = Path(__file__).parent
trials.load()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the attacks."""
    for item in items:
        if item.path.relative_to(HERE).with_suffix("").as_posix() in attacks.MODULES:
            item.add_marker(pytest.mark.attack)


def pytest_collection_finish() -> None:
    """Have the collector pass over what stays: thousands of tests, and what they import."""
    gc.freeze()
