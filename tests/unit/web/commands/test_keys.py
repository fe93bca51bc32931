"""`sluice keys` and `sluice users` on the gateway VM."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sluice.cli import main
from sluice.web.database.tables import AuditEntry, Database, PageBearer, SignedInBrowser, User
from sluice.web.keys import credentials, generation
from sluice.web.keys.principals import Principals
from sluice.web.people import accounts, sign_ins
from sluice.web.settings.config import Access, WebConfig
from tests.unit.web.settings.test_config import write


@pytest.fixture
def config(tmp_path: Path, settings: WebConfig) -> Path:
    """The configuration file of a site whose session folder exists."""
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
        found = Principals(settings).find(session, generation.credential(key), 1.0)
    database.close()
    assert found
    assert found.principal.groups == ("users",)


def test_scripts_get_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sluice_keys(config, "create", "--groups", "users,admins", "--name", "demo", "--json")
    made = json.loads(capsys.readouterr().out)
    assert generation.well_formed(made["key"])
    assert made.keys() == {"version", "key", "key_id", "user"}


def test_a_key_is_listed_and_revoked_by_its_id(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sluice_keys(config, "create", "--groups", "users", "--name", "nightly", "--json")
    key_id = json.loads(capsys.readouterr().out)["key_id"]
    sluice_keys(config, "list")
    assert f"{key_id}  sk-sluice-" in capsys.readouterr().out
    assert sluice_keys(config, "revoke", "--key-id", key_id) == 0
    sluice_keys(config, "list")
    assert "revoked" in capsys.readouterr().out


def test_a_key_of_another_account_is_not_found(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def made(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str, user: str = "demo") -> Any:
    """Create a key; return its JSON document."""
    defaults = ("--groups", "physics", "--name", "nightly", "--json")
    assert sluice_keys(config, "create", *defaults, *arguments, user=user) == 0
    return json.loads(capsys.readouterr().out)


def told(config: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Run a command with --json; return its document."""
    assert main([*arguments, "--json", "--config", str(config)]) == 0
    return json.loads(capsys.readouterr().out)


def person(settings: WebConfig, name: str = "alice") -> User:
    """Let a person sign in; return their row."""
    database = Database(settings.database)
    with database.write() as session:
        user = accounts.upsert_person(
            session, issuer="i", subject=name, name=name.capitalize(), email="", groups=["physics"], now=1.0
        )
        sign_ins.begin(session, tag=f"of-{name}", user_id=user.id, sid="", subject=name, now=1.0)
        wanted = credentials.KeySettings("laptop", 90)
        credentials.create_key(session, settings.key_secret, user, wanted, time.time())
        credentials.create_bearer(session, settings.key_secret, user.id, f"of-{name}", 600, time.time())
    database.close()
    return user


def logged(settings: WebConfig) -> list[tuple[str, str, str]]:
    """Return the audit log's entries: actor, action, object."""
    database = Database(settings.database)
    with database.read() as session:
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    database.close()
    return [(row.actor, row.action, row.object) for row in rows]


def test_a_key_is_created_with_all_settings(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(settings, access=Access(projects={"lattice": ("physics",)}))
    write(config, settings)
    new = made(
        *(config, capsys, "--days", "7", "--project", "lattice", "--models", "a,b"),
        *("--requests-per-minute", "10", "--concurrent", "2"),
    )
    shown = told(config, capsys, "keys", "show", "--key-id", new["key_id"])["key"]
    assert shown["expires"] - shown["created"] == 7 * 86_400
    assert (shown["project"], shown["models"], shown["state"]) == ("lattice", ["a", "b"], "live")
    assert (shown["requests_per_minute"], shown["tokens_per_day"], shown["concurrent"]) == (10, None, 2)
    assert new["key"] not in json.dumps(shown)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--days", "181"), "--days: Choose a whole number of days from 1 to 180."),
        (("--project", "lattice"), "--project: Choose one of your projects"),
        (("--models", "../x"), "--models: "),
        (("--tokens-per-day", "many"), "--tokens-per-day: "),
        (("--name", "a\x1b[31mb"), "--name: The text contains control characters"),
        (("--name", "a\udc80b"), "--name: The text contains broken characters"),
    ],
)
def test_invalid_settings_of_a_key_are_named_and_nothing_is_created(
    config: Path,
    settings: WebConfig,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    named: str,
) -> None:
    assert sluice_keys(config, "create", "--groups", "users", "--name", "x", *arguments) == 2
    assert named in capsys.readouterr().err
    assert logged(settings) == []


def test_a_service_account_cannot_look_like_a_person(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = "u-0123456789abcdef"
    assert sluice_keys(config, "create", "--groups", "users", "--name", "x", user=user) == 2
    assert "form of a person's pseudonym" in capsys.readouterr().err


def test_a_rotated_key_is_printed_and_the_old_one_ends(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    old = made(config, capsys, "--days", "30", "--models", "m")
    new = told(config, capsys, "keys", "rotate", "--key-id", old["key_id"], "--grace", "2")
    assert generation.well_formed(new["key"])
    before, after = (
        told(config, capsys, "keys", "show", "--key-id", key["key_id"])["key"] for key in (old, new)
    )
    assert before["expires"] == pytest.approx(time.time() + 2 * 86_400, abs=60)
    assert after["models"] == ["m"]
    assert sluice_keys(config, "rotate", "--key-id", new["key_id"]) == 0
    assert generation.well_formed(capsys.readouterr().out.strip())
    assert told(config, capsys, "keys", "show", "--key-id", new["key_id"])["key"]["state"] == "revoked"
    assert [action for _actor, action, _object in logged(settings)][-2:] == ["key.rotate", "key.rotate"]


def test_nobody_gets_a_key_of_a_person_by_rotating_it(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    user = person(settings)
    (key,) = told(config, capsys, "keys", "list", "--user", user.pseudonym)["keys"]
    assert main(["keys", "rotate", "--key-id", key["key_id"], "--config", str(config)]) == 2
    assert "Only a person can create" in capsys.readouterr().err
    assert told(config, capsys, "keys", "revoke", "--key-id", key["key_id"])["revoked"] == [key["key_id"]]


def test_revoking_all_of_a_user_ends_keys_sign_ins_and_page_bearers_of_nobody_else(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = person(settings), person(settings, "bob")
    assert told(config, capsys, "keys", "revoke-all", "--user", alice.pseudonym)["revoked"] == 1
    database = Database(settings.database)
    with database.read() as session:
        assert [row.user_id for row in session.scalars(select(SignedInBrowser))] == [bob.id]
        assert [row.user_id for row in session.scalars(select(PageBearer))] == [bob.id]
    database.close()
    assert [key["user_name"] for key in told(config, capsys, "keys", "list")["keys"]] == ["Bob"]
    assert logged(settings) == [("operator:ada", "user.revoke_keys", alice.pseudonym)]


def test_every_change_is_logged_without_the_key(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    new = made(config, capsys)
    sluice_keys(config, "revoke", "--key-id", new["key_id"])
    sluice_keys(config, "revoke", "--key-id", new["key_id"])
    main(["users", "block", "demo", "--config", str(config)])
    assert logged(settings) == [
        ("operator:ada", "user.create", new["user"]),
        ("operator:ada", "key.create", new["key_id"]),
        ("operator:ada", "key.revoke", new["key_id"]),
        ("operator:ada", "user.block", new["user"]),
    ]
    database = Database(settings.database)
    with database.read() as session:
        text = repr([(row.before, row.after) for row in session.scalars(select(AuditEntry))])
    database.close()
    assert new["key"][-20:] not in text
    assert "nightly" in text


def test_a_blocked_user_s_keys_are_unknown_until_unblocked(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    new = made(config, capsys)

    def works() -> bool:
        database = Database(settings.database)
        with database.read() as session:
            found = Principals(settings).find(session, generation.credential(new["key"]), time.time())
        database.close()
        return found is not None

    assert works()
    assert told(config, capsys, "users", "block", "demo")["blocked"]
    assert not works()
    assert told(config, capsys, "keys", "show", "--key-id", new["key_id"])["key"]["state"] == "blocked"
    assert sluice_keys(config, "create", "--groups", "physics", "--name", "x") == 2
    assert "demo is blocked" in capsys.readouterr().err
    assert told(config, capsys, "users", "unblock", new["user"])["blocked"] is None
    assert works()


def test_users_are_listed_and_shown(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    made(config, capsys)
    alice = person(settings)
    everybody = told(config, capsys, "users", "list")["users"]
    assert [(user["kind"], user["name"]) for user in everybody] == [("person", "Alice"), ("service", "demo")]
    for filtered in (("--kind", "person"), ("--search", "ALI")):
        assert [user["name"] for user in told(config, capsys, "users", "list", *filtered)["users"]] == [
            "Alice"
        ]
    assert told(config, capsys, "users", "list", "--blocked")["users"] == []
    shown = told(config, capsys, "users", "show", alice.pseudonym)["user"]
    assert (shown["groups"], shown["live_keys"], shown["sign_ins"]) == (["physics"], 1, 1)


def test_no_name_of_a_person_or_key_reaches_the_terminal_with_control_characters(
    config: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "Eve\x1b[2J\u202egnp\nroot"
    database = Database(settings.database)
    with database.write() as session:
        user = accounts.upsert_service_account(session, name="demo", groups=[], now=time.time())
        user.name = evil
        wanted = credentials.KeySettings(name=evil, days=1)
        credentials.create_key(session, settings.key_secret, user, wanted, time.time())
    database.close()
    for command in (("users", "list"), ("users", "show", "demo"), ("keys", "list"), ("audit", "list")):
        main([*command, "--config", str(config)])
        shown = capsys.readouterr().out
        assert not set("\x1b\u202e") & set(shown), command
        assert "root" not in shown.splitlines(), command


@pytest.mark.parametrize("command", [("users", "list"), ("users", "show", "demo"), ("keys", "list")])
def test_people_get_tables(
    config: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    made(config, capsys)
    assert main([*command, "--config", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[A-Z]+(?: +[A-Z]+)+", lines[0])
    assert "physics" in "\n".join(lines) or "nightly" in lines[1]


@pytest.mark.parametrize(
    "command",
    [
        ("users", "show", "nobody"),
        ("users", "block", "nobody"),
        ("users", "unblock", "nobody"),
        ("keys", "list", "--user", "nobody"),
        ("keys", "revoke-all", "--user", "nobody"),
        ("keys", "show", "--key-id", "key-0"),
        ("keys", "rotate", "--key-id", "key-0"),
        ("keys", "revoke", "--key-id", "key-0"),
    ],
)
def test_unknown_users_and_keys_are_named_with_the_command_to_list_them(
    config: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert main([*command, "--config", str(config)]) == 1
    assert re.search(r"no (user nobody|key key-0); see: sluice (users|keys) list", capsys.readouterr().err)


def test_root_becomes_the_account_that_owns_the_state(
    config: Path, settings: WebConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    become: list[tuple[str, object]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: become.append((name, value)))
    assert sluice_keys(config, "create", "--groups", "users", "--name", "x") == 0
    owner = Path(settings.session_dir).stat()
    assert become == [("setgroups", []), ("setgid", owner.st_gid), ("setuid", owner.st_uid)]
