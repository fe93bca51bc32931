"""Every rule of the gate has a golden refusal, which a real relay session must give."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice import bodies, gate
from sluice.bodies.costs import WORDS, Excess
from sluice.contracts.heads import RequestHead
from sluice.errors import SluiceError
from sluice.front.identity import Identity
from tests.unit.gate import play
from tests.unit.gate.play import ENTRIES, refusal

FOLDERS = tuple(Path(inspect.getfile(package)).parent for package in (gate, bodies))
# A line that calls one of these is a rule.
MAKERS = frozenset(("SluiceError", "Excess", "malformed", "_invalid", "_long_key"))

# What a `raise` passes on: made where it was found, told with the field's path.
PASSED_ON = frozenset(("error",))

Place = tuple[str, int]


@pytest.fixture
def refusing() -> Iterator[set[Place]]:
    """Return the lines of code that have refused something so far, and the lines that called them."""
    seen: set[Place] = set()

    def noting(original: Any) -> Any:
        def init(self: Any, *args: Any, **options: Any) -> None:
            frame = inspect.currentframe()
            while frame is not None:
                seen.add((frame.f_code.co_filename, frame.f_lineno))
                frame = frame.f_back
            original(self, *args, **options)

        return init

    with pytest.MonkeyPatch.context() as patch:
        for kind in (SluiceError, Excess):
            patch.setattr(kind, "__init__", noting(kind.__init__))
        yield seen


async def test_each_rule_refuses_as_the_page_says_and_no_line_refuses_more(
    tmp_path: Path, identity: Identity, other_identity: Identity, refusing: set[Place]
) -> None:
    """This is one test, because only all entries together show a line that none of them reaches.

    If you add a refusal, add its rule to tests/golden/gate/refusals.json.
    """
    for number, entry in enumerate(ENTRIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert (entry["rule"], await refusal(entry, folder, identity, other_identity)) == (
            entry["rule"],
            entry["refusal"],
        )
    unplayed = [
        f"{path.parent.name}/{path.name}:{node.lineno} {ast.unparse(node)[:60]}"
        for folder in FOLDERS
        for path in sorted(folder.glob("*.py"))
        for node in _refusals(path)
        if not any((str(path), line) in refusing for line in range(node.lineno, _end(node) + 1))
    ]
    assert unplayed == []


def _refusals(path: Path) -> Iterator[ast.Call | ast.Raise]:
    """Yield what makes a refusal, and every `raise` but those that pass on one that was caught."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in MAKERS:
                yield node
        elif isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc) not in PASSED_ON:
            yield node


def _end(node: ast.Call | ast.Raise) -> int:
    return node.end_lineno or node.lineno


def test_every_field_of_a_head_has_a_rule_of_its_form() -> None:
    shown = {entry["refusal"]["message"].split(":")[0] for entry in ENTRIES}
    assert {name.rstrip("_") for name in RequestHead._fields} <= shown


def test_every_bound_of_what_engines_compile_has_a_rule() -> None:
    said = " ".join(entry["refusal"]["message"] for entry in ENTRIES)
    assert [word for word in WORDS.values() if word not in said] == []


def test_each_entry_says_only_what_is_played() -> None:
    known = {"rule", "head", "head_text", "body", "relay", "schemas", "model", "instance", "when", "refusal"}
    assert [entry["rule"] for entry in ENTRIES if not entry.keys() <= known] == []
    assert {entry.get("when", "") for entry in ENTRIES} == set(play.SITUATIONS)
    assert len({entry["rule"] for entry in ENTRIES}) == len(ENTRIES)
