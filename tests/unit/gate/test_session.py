"""The checks of a session that apply to every request."""

from __future__ import annotations

from sluice.gate.session import demand


def test_what_waits_counts_for_models_that_exist_and_is_clamped() -> None:
    assert demand({"m": 500, "n": 1, "o": 3}, {"m", "o"}, 10) == {"m": 10, "o": 3}
