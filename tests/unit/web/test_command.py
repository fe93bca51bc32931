"""`sluice keys` on the gateway VM."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sluice.cli import main
from sluice.web import keys
from sluice.web.config import WebConfig
from sluice.web.database import Database
from sluice.web.principals import Principals
from tests.unit.web.test_config import write


@pytest.fixture
def config(tmp_path: Path, settings: WebConfig) -> Path:
    """The settings in a file; the session folder is there, as the service leaves it."""
    Path(settings.session_dir).mkdir()
    return write(tmp_path / "web.json", settings)


def sluice_keys(config: Path, *arguments: str, user: str = "demo") -> int:
    return main(["keys", *arguments, "--user", user, "--config", str(config)])


def test_a_key_is_printed_alone_and_works(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sluice_keys(config, "create", "--groups", "users", "--name", "demo") == 0
    key = capsys.readouterr().out.strip()
    database = Database(settings.database)
    with database.read() as session:
        found = Principals(settings).find(session, keys.credential(key), 1.0)
    database.close()
    assert found
    assert found.principal.groups == ("users",)


def test_scripts_get_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sluice_keys(config, "create", "--groups", "users,admins", "--name", "demo", "--json")
    made = json.loads(capsys.readouterr().out)
    assert keys.well_formed(made["key"])
    assert made.keys() == {"key", "key_id", "user"}


def test_a_key_is_listed_and_revoked_by_its_id(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sluice_keys(config, "create", "--groups", "users", "--name", "nightly", "--json")
    key_id = json.loads(capsys.readouterr().out)["key_id"]
    sluice_keys(config, "list")
    assert f"{key_id}  sk-sluice-" in capsys.readouterr().out
    assert sluice_keys(config, "revoke", "--key-id", key_id) == 0
    sluice_keys(config, "list")
    assert "ended" in capsys.readouterr().out


def test_a_key_of_another_account_is_not_there_to_revoke(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sluice_keys(config, "create", "--groups", "users", "--name", "a", "--json")
    key_id = json.loads(capsys.readouterr().out)["key_id"]
    assert sluice_keys(config, "revoke", "--key-id", key_id, user="other") == 1
    assert "sluice keys list" in capsys.readouterr().err


@pytest.mark.parametrize(("user", "groups"), [("Demo", "users"), ("demo", "users,Bad Group"), ("demo", "")])
def test_a_wrong_name_is_named(
    config: Path, capsys: pytest.CaptureFixture[str], user: str, groups: str
) -> None:
    assert sluice_keys(config, "create", "--groups", groups, "--name", "x", user=user) == 2
    assert "must consist of" in capsys.readouterr().err


def test_root_goes_on_as_the_account_that_owns_the_state(
    config: Path, settings: WebConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    become: list[tuple[str, object]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: become.append((name, value)))
    assert sluice_keys(config, "create", "--groups", "users", "--name", "x") == 0
    owner = Path(settings.session_dir).stat()
    assert become == [("setgroups", []), ("setgid", owner.st_gid), ("setuid", owner.st_uid)]
