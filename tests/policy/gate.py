"""The tables of docs/gate.md, from the golden refusals: `python -m tests.policy.gate` writes them there.

tests/unit/gate/test_refusals.py plays each of them against a real relay session.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.policy.tree import ROOT

PAGE = ROOT / "docs/gate.md"
GOLDEN = ROOT / "tests/golden/gate/refusals.json"
# The tables stand between these lines; what explains them is written by hand.
FIRST, LAST = "<!-- rules: begin -->\n", "<!-- rules: end -->\n"
PLACE = re.compile(re.escape(FIRST) + ".*?" + re.escape(LAST), re.DOTALL)


def tables() -> str:
    """Return the page's tables, one for each section."""
    sections = json.loads(GOLDEN.read_text(encoding="utf-8"))["sections"]
    return FIRST + "\n" + "\n".join(_section(section) for section in sections) + LAST


def _section(section: dict[str, Any]) -> str:
    rows = [f"| {one['rule']} | {_refusal(one['refusal'])} |" for one in section["rules"]]
    where = ", ".join(f"`{path}`" for path in section["where"].split(", "))
    lines = [f"## {section['title']}", "", f"{section['text']} Code: {where}.", ""]
    return "\n".join([*lines, "| rule | refusal |", "| --- | --- |", *rows, ""])


def _refusal(refusal: dict[str, Any]) -> str:
    after = refusal.get("retry_after")
    wait = "" if after is None else f" (ask again after {after:g} s)"
    text = refusal["message"].replace("|", "\\|")
    # Messages have backticks of their own.
    return f"`{refusal['code']}`: {text}{wait}"


def written(page: str) -> str:
    """Return the page's text with today's tables."""
    return PLACE.sub(lambda _: tables(), page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
