"""The list of the modules that are attacks is true."""

from __future__ import annotations

from tests import attacks
from tests.policy.tree import ROOT


def test_every_module_of_the_attacks_is_there() -> None:
    assert [name for name in sorted(attacks.MODULES) if not (ROOT / f"tests/{name}.py").is_file()] == []


def test_every_module_on_the_bed_that_is_named_as_one_is_among_the_attacks() -> None:
    names = {f"system/{path.stem}" for path in (ROOT / "tests/system").glob("test_8_*.py")}
    assert names <= attacks.MODULES
