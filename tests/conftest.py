"""What holds for every test."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tests import attacks, trials

HERE = Path(__file__).parent
# The longest modules of the unit tests, which begin first: at the end no process is left with one alone.
LONGEST = (
    "test_attempts",
    "test_zipapp",
    "test_deaths",
    "test_instance_connections",
    "test_build_engine",
    "test_slurm_as_it_is",
    "test_session",
    "test_engine_templates",
    "test_halves",
    "test_bad_input",
    "test_storage_down",
    "test_wheel",
    "test_listener",
    "test_one_request",
    "test_waiting",
)
trials.load()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest modules begin, and mark the attacks; a module's tests stay as they stand in it."""
    ranks = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
    for item in items:
        if item.path.relative_to(HERE).with_suffix("").as_posix() in attacks.MODULES:
            item.add_marker(pytest.mark.attack)


def pytest_collection_finish() -> None:
    """Have the collector pass over what stays: thousands of tests, and what they import."""
    gc.freeze()
