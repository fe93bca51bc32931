"""The playbooks, roles and inventories of the tree, as the policy tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "roles"
COMMON = ROOT / "inventories" / "common"
SHARED_ROLES = frozenset({"packages", "service", "gateway_base", "login_base"})
"""Roles that others need; no group switches them on."""
PLACES = frozenset({"gateway", "login_node"})
"""Groups that are places, for a site's convenience, and no roles."""


def read_yaml(path: Path) -> Any:
    """Return a YAML file's content."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def playbooks() -> list[Path]:
    """Return every playbook, the demo's own too."""
    return sorted([*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "demo").glob("*.yml")])


def roles() -> list[str]:
    """Return the names of all roles."""
    return sorted(path.name for path in ROLES.iterdir() if (path / "tasks").is_dir())


def options(role: str) -> dict[str, Any]:
    """Return the inputs of a role's main entry point, as its argument_specs describe them."""
    specs = read_yaml(ROLES / role / "meta" / "argument_specs.yml")
    found: dict[str, Any] = specs["argument_specs"]["main"].get("options", {})
    return found


def defaults(role: str) -> dict[str, Any]:
    """Return a role's defaults; empty where it has none."""
    path = ROLES / role / "defaults" / "main.yml"
    found: dict[str, Any] = read_yaml(path) if path.exists() else {}
    return found
