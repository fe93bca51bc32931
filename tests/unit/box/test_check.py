"""If a node cannot create a box, the message says what helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.box import check


def test_a_node_without_bubblewrap_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "program", lambda: "")
    assert "install the package bubblewrap" in check.problem()


@pytest.mark.parametrize(("name", "bad", "remedy"), check.LOCKS)
def test_a_setting_of_the_kernel_is_named_with_what_helps(
    name: str, bad: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(f"{bad}\n")
    refuses = tmp_path / "bwrap"
    refuses.write_text("#!/bin/sh\necho bwrap: No permissions to create new namespace >&2\nexit 1\n")
    refuses.chmod(0o755)
    monkeypatch.setattr(check, "SYSCTLS", tmp_path)
    monkeypatch.setattr(check, "program", lambda: str(refuses))
    said = check.problem()
    assert said.startswith("bwrap: No permissions") and name.replace("/", ".") in said and remedy[:40] in said


def test_a_node_that_can_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = tmp_path / "bwrap"
    works.write_text("#!/bin/sh\nexit 0\n")
    works.chmod(0o755)
    monkeypatch.setattr(check, "program", lambda: str(works))
    assert check.problem() == ""
