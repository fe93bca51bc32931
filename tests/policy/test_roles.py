"""Each role's inputs are described once, and all that repeats them agrees."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.policy.tree import ROLES, ROOT, defaults, options, read_yaml, roles

# Words that belong to a site or to the demo and never into a role.
SITE_WORDS = re.compile(r"\b(?:demo|smollm\w*|10\.(?:77|78)\.\d+)\b")
# The values of these defaults are expressions, which argument_specs show as what they come to.
EXPRESSION = re.compile(r"\{\{.*\}\}")


def readme_script() -> ModuleType:
    """Import roles/readme.py."""
    spec = importlib.util.spec_from_file_location("readme", ROLES / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("role", roles())
def test_the_readme_shows_the_inputs(role: str) -> None:
    """`python roles/readme.py` writes the table."""
    assert (ROLES / role / "README.md").read_text() == readme_script().rendered(ROLES / role)


@pytest.mark.parametrize("role", roles())
def test_defaults_are_those_that_the_specification_shows(role: str) -> None:
    specified = {name: spec["default"] for name, spec in options(role).items() if "default" in spec}
    set_here = defaults(role)
    assert sorted(set_here) == sorted(specified)
    plain = {name for name, value in set_here.items() if not EXPRESSION.search(str(value))}
    assert {name: set_here[name] for name in plain} == {name: specified[name] for name in plain}


@pytest.mark.parametrize("role", roles())
def test_inputs_carry_the_roles_name(role: str) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", roles())
def test_no_role_knows_a_site(role: str) -> None:
    texts = [path for path in (ROLES / role).rglob("*") if path.suffix in (".yml", ".j2", ".md", ".sh")]
    found = {str(path.relative_to(ROOT)): SITE_WORDS.findall(path.read_text()) for path in texts}
    assert {path: words for path, words in found.items() if words} == {}


def test_templates_of_secrets_show_no_diff() -> None:
    """Where a task says `no_log` its diff must be off too: --diff would print the file."""
    for path in ROLES.glob("*/tasks/*.yml"):
        for task in read_yaml(path):
            if task.get("no_log") and "ansible.builtin.template" in task:
                assert task.get("diff") is False, f"{path.relative_to(ROOT)}: {task['name']}"


def task_files() -> list[Path]:
    """Return the task files of all roles."""
    return sorted(ROLES.glob("*/tasks/*.yml"))


@pytest.mark.parametrize("path", task_files(), ids=lambda path: str(path.relative_to(ROLES)))
def test_files_of_root_name_owner_and_mode(path: Path) -> None:
    """A file whose owner is left out belongs to whoever ran the playbook, with that account's umask."""
    for task in _all(read_yaml(path)):
        for action in ("ansible.builtin.template", "ansible.builtin.copy"):
            if action in task:
                missing = {"owner", "group", "mode"} - set(task[action])
                assert not missing, f"{task['name']}: {sorted(missing)}"


def _all(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for task in tasks:
        found.append(task)
        for part in ("block", "rescue", "always"):
            inner = task.get(part)
            if isinstance(inner, list):
                found += _all(inner)
    return found
