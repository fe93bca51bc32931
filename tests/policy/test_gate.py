"""What a security officer reads about the gate is what the code does, and it stays short."""

from __future__ import annotations

from pathlib import Path

from tests.policy.gate import PAGE, written
from tests.policy.tree import ROOT

CODE = ROOT / "files/sluice/src/sluice/gate"
# A person reads this in one sitting. It may shrink; who needs more takes something out first.
MOST_LINES = 400


def lines(folder: Path) -> int:
    """Return how many lines the modules of a folder have."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.py"))


def test_the_page_lists_every_golden_refusal() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == written(text), "run: python -m tests.policy.gate"


def test_the_gate_is_read_in_one_sitting() -> None:
    assert 100 < lines(CODE) <= MOST_LINES


def test_the_page_names_every_module_of_the_gate() -> None:
    text = PAGE.read_text(encoding="utf-8")
    modules = [path.name for path in CODE.glob("*.py") if path.name != "__init__.py"]
    assert modules
    assert [name for name in modules if f"gate/{name}`" not in text] == []
