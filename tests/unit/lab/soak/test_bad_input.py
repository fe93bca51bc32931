"""A bounded part of `make soak`: thousands of bad inputs, always the same."""

from __future__ import annotations

import pytest

from lab.soak.run import run
from lab.soak.targets import TARGETS
from tests.trials import scaled

CASES = {"relay": 300, "front": 1200}


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_crashes_hangs_or_leaks(name: str) -> None:
    cases = scaled(CASES.get(name.partition(":")[0], 4000))
    outcome = run(name, seed=0, cases=cases)
    assert outcome.problem == ""
    assert outcome.cases == cases
