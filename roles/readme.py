#!/usr/bin/env python3
"""Write the table of inputs into each role's README.md from its meta/argument_specs.yml.

The table is below the heading "## Inputs"; the rest of a README is written by hand. With `--check` nothing is
written, and the exit status is 1 if a README differs: `python roles/readme.py [--check]`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent
HEADING = "## Inputs\n\n"
TABLE = re.compile(re.escape(HEADING) + r"(?:\|[^\n]*\n)*")


def table(options: dict[str, Any]) -> str:
    """Return the Markdown table of a role's options, nested ones below their parent."""
    lines = ["| variable | type | meaning | default |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + _rows(options, "")) + "\n"


def _rows(options: dict[str, Any], parent: str) -> list[str]:
    rows = []
    for name, option in options.items():
        path = f"{parent}.{name}" if parent else name
        rows.append(f"| `{path}` | {_type(option)} | {_meaning(option)} | {_default(option)} |")
        rows += _rows(option.get("options", {}), path)
    return rows


def _type(option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def _meaning(option: dict[str, Any]) -> str:
    description = option["description"]
    text = description if isinstance(description, str) else " ".join(description)
    text = re.sub(r"C\(([^)]*)\)", r"`\1`", text)
    if "choices" in option:
        text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
    return text.replace("|", "\\|")


def _default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "**required**"
    if "default" not in option:
        return ""
    default = option["default"]
    return f"`{default if isinstance(default, str) and default else json.dumps(default)}`"


def rendered(role: Path) -> str:
    """Return what the role's README should be. Raises ValueError without the heading."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    text = (role / "README.md").read_text()
    if not TABLE.search(text):
        raise ValueError(f'{role.name}/README.md has no heading "## Inputs" with an empty line below it')
    made = HEADING + table(specs["argument_specs"]["main"].get("options", {}))
    return TABLE.sub(lambda _: made, text, count=1)


def roles() -> list[Path]:
    """Return the folders of all roles, sorted."""
    return sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml"))


def main() -> int:
    """Write or check; 0 when all READMEs are as they should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, tell what differs")
    arguments = parser.parse_args()
    stale = [role for role in roles() if rendered(role) != (role / "README.md").read_text()]
    for role in stale:
        print(f"{role.name}/README.md {'differs' if arguments.check else 'written'}")
        if not arguments.check:
            (role / "README.md").write_text(rendered(role))
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
