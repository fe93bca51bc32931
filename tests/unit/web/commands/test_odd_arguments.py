"""Invalid numbers, days and texts: a message and exit status 2, never a traceback."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sluice.cli import main
from sluice.web.settings.config import WebConfig
from tests.unit.web.settings.test_config import write

NUMBERS = [
    "99999999999999999999",
    "-1",
    "-99999999999999999999",
    "0",
    "1.5",
    "1e9",
    "",
    " ",
    "٣",
    "9" * 5_000,
    "x",
]
DAYS = [
    *("9999-12-31", "0001-01-01", "10000-01-01", "2026-02-30", "2026-13-01", "-0001-01-01", "0000-00-00"),
    *("tomorrow", "", "1e99", "2026-11-01T00:00", "9999-12-31T23:59:59.999999", "0001-01-01T00:00+14:00"),
    *("9999-12-31T23:59:59-14:00", "2026-W53-7"),
]
TEXTS = ["\udcff", "\x00", "\u202e", "x" * 100_000, "'; DROP TABLE user; --", "%", "\U0001f600"]

# Each argument that takes a number, a day or a text; `{}` is replaced by the odd value.
WITH_NUMBERS = [
    ["usage", "report", "--limit={}"],
    ["audit", "list", "--most={}"],
    ["announcements", "list", "--most={}"],
    ["announcements", "remove", "--", "{}"],
    ["limits", "set", "user:*", "--requests-per-minute={}"],
    ["limits", "set", "user:*", "--tokens-per-minute={}"],
    ["limits", "set", "user:*", "--tokens-per-day={}"],
    ["limits", "set", "user:*", "--concurrent={}"],
    ["keys", "create", "--user=robot", "--groups=users", "--name=a", "--days={}"],
    ["keys", "create", "--user=robot", "--groups=users", "--name=a", "--tokens-per-day={}"],
    ["keys", "create", "--user=robot", "--groups=users", "--name=a", "--concurrent={}"],
    ["keys", "rotate", "--key-id=k", "--grace={}"],
]
WITH_DAYS = [
    ["usage", "report", "--to={}"],
    ["usage", "report", "--from={}"],
    ["usage", "export", "--to={}"],
    ["usage", "export", "--from={}"],
    ["audit", "list", "--since={}"],
    ["audit", "list", "--until={}"],
    ["announcements", "add", "a", "--starts={}"],
    ["announcements", "add", "a", "--ends={}"],
]
WITH_TEXTS = [
    ["usage", "report", "--user={}"],
    ["usage", "export", "--project={}"],
    ["users", "list", "--search={}"],
    ["users", "show", "{}"],
    ["users", "block", "{}"],
    ["keys", "list", "--user={}"],
    ["keys", "revoke", "--key-id={}"],
    ["keys", "create", "--user={}", "--groups=users", "--name=a"],
    ["keys", "create", "--user=robot", "--groups={}", "--name={}"],
    ["audit", "list", "--actor={}", "--what={}", "--object={}"],
    ["announcements", "add", "{}"],
    ["limits", "set", "{}", "--concurrent=1"],
    ["limits", "remove", "user:*", "--model={}"],
    ["admission", "stop", "{}", "--message={}"],
    ["admission", "resume", "{}"],
]


class Site:
    """The command line of one site."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = str(config)
        self._capsys = capsys

    def run(self, command: list[str], value: str) -> tuple[int, str]:
        """Run a command with a value; return its exit status and standard error."""
        filled = [part.replace("{}", value) for part in command]
        at = filled.index("--") if "--" in filled else len(filled)
        argv = [*filled[:at], "--config", self._config, *filled[at:]]
        try:
            status = main(argv)
        except SystemExit as ended:
            # argparse exits by itself.
            status = int(str(ended.code))
        return status, self._capsys.readouterr().err


@pytest.fixture
def site(tmp_path: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]) -> Site:
    """A site with an empty database."""
    Path(settings.session_dir).mkdir(exist_ok=True)
    return Site(write(tmp_path / "web.json", settings), capsys)


def named(command: list[str]) -> str:
    """Return a command's name for a test."""
    return " ".join(command)


@pytest.mark.parametrize("command", WITH_NUMBERS, ids=named)
def test_a_number_out_of_range_is_refused(site: Site, command: list[str]) -> None:
    for value in NUMBERS:
        status, said = site.run(command, value)
        assert status in (0, 1, 2), value
        # The command looks up the key before it checks the days.
        assert (status == 0) == (said == ""), (value, said)
        assert len(said) < 2_000


@pytest.mark.parametrize("command", WITH_DAYS, ids=named)
def test_a_day_out_of_range_is_refused(site: Site, command: list[str]) -> None:
    for value in DAYS:
        status, said = site.run(command, value)
        assert status in (0, 2), value
        assert (status == 0) == (said == ""), (value, said)


@pytest.mark.parametrize("command", WITH_TEXTS, ids=named)
def test_an_invalid_name_is_refused(site: Site, command: list[str]) -> None:
    for value in TEXTS:
        status, said = site.run(command, value)
        assert status in (0, 1, 2), value
        assert (status == 0) == (said == ""), (value, said)
    assert site.run(command, "\udcff")[0] == 2


def test_the_last_day_is_accepted_and_a_number_out_of_range_is_not(site: Site) -> None:
    assert site.run(["usage", "report", "--to={}"], "9999-12-31") == (0, "")
    status, said = site.run(["usage", "report", "--limit={}"], "99999999999999999999")
    assert status == 2
    assert "99999999999999999999 is not from 1 to 1000000" in said


def test_a_command_that_the_database_refuses_says_so(
    site: Site, settings: WebConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not settings.database.startswith("sqlite"):
        pytest.skip("the lock is SQLite's")
    monkeypatch.setattr("sluice.web.database.timeouts.COMMAND_SECONDS", 0.1)
    other = sqlite3.connect(settings.database.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        for command in (
            ["announcements", "add", "{}"],
            ["admission", "stop", "{}"],
            ["users", "block", "{}"],
        ):
            status, said = site.run(command, "a")
            assert status == 2
            assert "the database refused the command (OperationalError)" in said
    finally:
        other.close()
