"""Who gives a command: what sudo says, else whose session it is, else whose process."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from sluice import administrator

DAEMON = pwd.getpwnam("daemon")


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's file with the account that the session began with; sudo is not used."""
    monkeypatch.setattr(administrator, "_LOGIN", tmp_path / "loginuid")
    monkeypatch.delenv("SUDO_USER", raising=False)
    (tmp_path / "loginuid").write_text(str(DAEMON.pw_uid))
    return tmp_path / "loginuid"


def test_sudo_counts_more_than_the_session(login: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert administrator.name() == "daemon"
    monkeypatch.setenv("SUDO_USER", "alice@example.org")
    assert administrator.name() == "alice@example.org"


@pytest.mark.parametrize("text", ["4294967295", "4294967294", "99999999999999999999", "", "x", None])
def test_without_a_session_the_process_counts(login: Path, text: str | None) -> None:
    if text is None:
        login.unlink()
    else:
        login.write_text(text)
    assert administrator.name() == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("name", ["a\nb", "operator: x", "-rf", "a" * 65, "é"])
def test_a_name_that_no_account_has_is_not_told(
    login: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SUDO_USER", name)
    assert administrator.name() == ""
