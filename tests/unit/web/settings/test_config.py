"""Invalid settings stop the start; the message names file, key and remedy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import ConfigError
from sluice.web.settings.config import WebConfig, load


def write(path: Path, settings: WebConfig, **changes: Any) -> Path:
    document = dataclasses.asdict(settings)
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(json.dumps({"version": 1, **document}))
    return path


def test_what_the_playbook_writes_is_read(tmp_path: Path, settings: WebConfig) -> None:
    assert load(write(tmp_path / "web.json", settings)) == settings


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"public_url": "http://sluice.example.org"}, "public_url"),
        ({"public_url": "https://sluice.example.org/a b"}, "public_url"),
        ({"public_url": "https://sluice.example.org/../chat"}, "public_url"),
        ({"public_url": "https://sluice.example.org//chat"}, "public_url"),
        ({"public_url": 'https://sluice.example.org/"'}, "public_url"),
        ({"oidc__issuer": "http://idp.example.org"}, "oidc.issuer"),
        ({"secret_key": "short"}, "secret_key"),
        ({"key_secret__value": "short"}, "key_secret.value"),
        ({"oidc__scopes": "profile"}, "oidc.scopes"),
        ({"oidc__token_auth": "none"}, "oidc.token_auth"),
        ({"authority_socket_mode": "660"}, "authority_socket_mode"),
        ({"log_level": "loud"}, "log_level"),
        ({"key_days": 0}, "key_days"),
        ({"page_bearer_seconds": 1}, "page_bearer_seconds"),
        ({"max_body": 1_023}, "max_body"),
        ({"surprise": 1}, "surprise"),
        ({"access__admins": ["Admins"]}, "access.admins: 'Admins'"),
        ({"access__users": ["/staff"]}, "access.users: '/staff'"),
        ({"access__names": {"urn:x": "a b"}}, "access.names: 'a b'"),
        ({"access__projects": {"p": []}}, "access.projects.p: needs at least one group"),
        ({"access__projects": {"p": ["a", "B"]}}, "access.projects.p: 'B'"),
        ({"access__projects": {"P": ["a"]}}, "access.projects: 'P'"),
        ({"database": "mysql://sluice:hunter2@db/sluice"}, "database: must be sqlite"),
        ({"database": "sqlite://"}, "database: must be sqlite"),
        ({"usage_days": 1}, "usage_days must be at least 2"),
        ({"audit_days": 0}, "audit_days at least 1"),
        ({"personas": [{"name": "A"}]}, "personas[0].system: give system"),
        ({"personas": [{"name": " A", "seed": 1}]}, "personas[0].name: must be one line"),
        ({"personas": [{"name": "A\u202eB", "seed": 1}]}, "(direction)"),
        ({"personas": [{"name": "A", "system": "x\x07"}]}, "personas[0].system: must have"),
        ({"personas": [{"name": "A", "system": "x" * 20_001}]}, "(too_long)"),
        ({"personas": [{"name": "A", "seed": 1}] * 2}, "personas[1].name: 'A' is the name of another"),
        ({"personas": [{"name": "A", "temperature": 2.1}]}, "personas[0].temperature: must be from 0 to 2"),
        ({"personas": [{"name": "A", "top_p": float("nan")}]}, "personas[0].top_p"),
        ({"personas": [{"name": "A", "model": "../x"}]}, "personas[0].model: '../x'"),
        ({"personas": [{"name": "A", "colour": "red"}]}, "personas[0].colour: is not a known key"),
        ({"personas": [{"name": f"A{n}", "seed": n} for n in range(201)]}, "personas: at most 200"),
        ({"session_idle": 59}, "session_idle"),
        ({"session_idle": 50_000}, "session_idle"),
        ({"session_max": 700_000}, "session_max"),
        ({"oidc__leeway": 301}, "oidc.leeway"),
        ({"old_key_secrets": [{"id": "0", "value": "short"}]}, "old_key_secrets[0].value"),
        ({"old_key_secrets": [{"id": "1", "value": "o" * 43}]}, "old_key_secrets[0].id"),
        ({"limits": [{"scope": "user:*", "concurrent": 1}, {"scope": "each"}]}, "limits[1].scope"),
        ({"limits": [{"scope": "project:x", "concurrent": 1}]}, "limits[0].scope: there is no project x"),
        ({"limits": [{"scope": "site", "tokens_per_day": -1}]}, "limits[0].tokens_per_day"),
        ({"limits": [{"scope": "site"}]}, "limits[0].requests_per_minute"),
        ({"limits": [{"scope": "site", "model": "a b", "concurrent": 1}]}, "limits[0].model"),
    ],
)
def test_an_invalid_value_is_named(
    tmp_path: Path, settings: WebConfig, changes: dict[str, Any], named: str
) -> None:
    path = write(tmp_path / "web.json", settings, **changes)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert named in caught.value.message
    assert str(path) in caught.value.message
    assert "hunter2" not in caught.value.message
