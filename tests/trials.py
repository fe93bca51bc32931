"""How much is tried by chance: one scale for all properties and for all bad input, set in one place.

`make check` tries a tenth of what a test names, `make soak` ten times as much: it sets SLUICE_TRIALS=soak.
`tests/conftest.py` loads the profile.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

SOAK = os.environ.get("SLUICE_TRIALS", "") == "soak"
# Of a property that names no number of its own.
USUAL = 100
# Fewer try nothing.
FEWEST = 3


def scaled(named: int) -> int:
    """Return how many trials are made where a test names so many."""
    return 10 * named if SOAK else max(FEWEST, named // 10)


def load() -> None:
    """Make the profile of this run the one that Hypothesis uses.

    No bound of it is one of time: a busy machine fails no property.
    """
    quiet = [HealthCheck.too_slow]
    settings.register_profile(
        "sluice", max_examples=scaled(USUAL), deadline=None, suppress_health_check=quiet
    )
    settings.load_profile("sluice")


def examples(named: int, **more: Any) -> settings:
    """Return a property's settings: so many examples by name; `more` as Hypothesis has it."""
    return settings(max_examples=scaled(named), **more)
