"""What the API does with each field of each path, found out by asking the code: a table for docs/api.md.

`python -m tests.policy.conformance` writes it there. Every cell is the outcome of bodies that were checked as
the proxy checks them: nothing is described that was not tried.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sluice.bodies.costs import Bounds
from sluice.bodies.positions import FIELDS
from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError
from sluice.proxy.bodies.body import summary_of

PAGE = Path(__file__).resolve().parents[2] / "docs/api.md"
# The tables stand between this line and the next heading; what explains them is written by hand.
FIRST = "| on every path | taken | and |\n"
PLACE = re.compile(re.escape(FIRST) + r".*?(?=^## )", re.DOTALL | re.MULTILINE)

_TURNS = [{"role": "user", "content": "Hello?"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": _TURNS},
    "completions": {"prompt": "Hello?"},
    "responses": {"input": "Hello?"},
    "embeddings": {"input": "Hello?"},
    "rerank": {"query": "greeting", "documents": ["Hello?"]},
    "messages": {"messages": _TURNS, "max_tokens": 5},
    "count_tokens": {"messages": _TURNS},
    "input_tokens": {"input": "Hello?"},
    "tokenize": {"prompt": "Hello?"},
}
# By each word, values of that kind; a kind is taken if one of them is.
_ITEMS = [*_TURNS]
KINDS: dict[str, tuple[Any, ...]] = {
    "text": ("x",),
    "whole number": (1,),
    "number": (1.5,),
    "true": (True,),
    "false": (False,),
    "list": (["x"], _ITEMS),
    "empty list": ([],),
    "object": ({"a": 1},),
}
_ADDRESS = {"image_url": {"url": "http://192.0.2.1/"}}
_WITH_ADDRESS = (_ADDRESS, [_ADDRESS], [{"role": "user", "content": [_ADDRESS]}])
_LONG = {"enum": ["x" * (Bounds().bytes + 1)]}
_COSTLY = (
    _LONG["enum"][0],
    _LONG["enum"],
    _LONG,
    {"type": "json_schema", "json_schema": {"name": "x", "schema": _LONG}},
    [{"type": "function", "function": {"name": "x", "parameters": _LONG}}],
    [{"name": "x", "input_schema": _LONG}],
)
ANY = "any other name"
REFUSED = "nothing: refused"


@functools.cache
def tables() -> str:
    """Return the page's tables. Raises AssertionError if BODIES has a body that is refused."""
    refused = {capability: _code(capability, "model", "m") for capability in BODIES}
    assert not any(refused.values()), f"bodies that are refused, with the code: {refused}"
    found = {name: {capability: cell(capability, name) for capability in BODIES} for name in _names()}
    alike = {name: cells["chat"] for name, cells in found.items() if len(set(cells.values())) == 1}
    lines = [FIRST.rstrip("\n"), "| --- | --- | --- |"]
    lines += [f"| {_named(names)} | {taken} | {more} |" for (taken, more), names in _grouped(alike)]
    lines += ["", "| path | field | taken | and |", "| --- | --- | --- | --- |"]
    for path, capability in PATHS.items():
        own = {name: cells[capability] for name, cells in found.items() if name not in alike}
        lines += [
            f"| `{path}` | {_named(names)} | {taken} | {more} |" for (taken, more), names in _grouped(own)
        ]
    return "\n".join([*lines, "", ""])


def cell(capability: str, name: str) -> tuple[str, str]:
    """Return what a path takes for a field, and what else it does with it."""
    taken = [word for word, values in KINDS.items() if any(_passes(capability, name, one) for one in values)]
    more = [
        word
        for word, holds in (
            ("needed", name in BODIES[capability] and not _passes(capability, name, None)),
            ("media", _any_refused(capability, name, _WITH_ADDRESS, "media_url_refused")),
            ("bounded", _is_bounded(capability, name)),
        )
        if holds
    ]
    return _kinds(taken), ", ".join(more) if taken else ""


def _names() -> list[str]:
    return [*sorted({name for fields in FIELDS.values() for name in fields} - {"model", "schema"}), ANY]


def _kinds(taken: list[str]) -> str:
    if len(taken) == len(KINDS):
        return "anything"
    if "whole number" in taken and "number" in taken:
        taken.remove("whole number")
    if "list" in taken and "empty list" in taken:
        taken.remove("empty list")
    if "true" in taken and "false" in taken:
        taken[taken.index("true")] = "true or false"
        taken.remove("false")
    return ", ".join(taken) or REFUSED


def _passes(capability: str, name: str, value: Any) -> bool:
    return _code(capability, name, value) == ""


def _any_refused(capability: str, name: str, values: Iterable[Any], code: str) -> bool:
    return any(_code(capability, name, value) == code for value in values)


def _is_bounded(capability: str, name: str) -> bool:
    """Whether something of a kind that is taken is refused for its size alone."""
    for value in _COSTLY:
        small = json.loads(json.dumps(value).replace("x" * (Bounds().bytes + 1), "x"))
        if _passes(capability, name, small) and not _passes(capability, name, value):
            return True
    return False


def _code(capability: str, name: str, value: Any) -> str:
    body = {"model": "m", **BODIES[capability], name: value}
    try:
        summary_of(json.dumps(body).encode(), capability, Bounds())
    except SluiceError as error:
        return error.code
    return ""


def _grouped(cells: dict[str, tuple[str, str]]) -> list[tuple[tuple[str, str], list[str]]]:
    """Return the fields that are taken alike, together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, one in cells.items():
        groups.setdefault(one, []).append(name)
    return list(groups.items())


def _named(names: list[str]) -> str:
    return ", ".join(name if name == ANY else f"`{name}`" for name in names)


def rendered(page: str) -> str:
    """Return the page with the tables as the code has it."""
    return PLACE.sub(lambda _: tables(), page)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
