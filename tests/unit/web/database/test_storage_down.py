"""The database locked, read-only, damaged, replaced or missing: error pages in time, and readers work.

A full disk, and PostgreSQL: tests/integration/test_storage_down.py.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, make_url
from werkzeug.test import TestResponse

from sluice.web.database import timeouts
from sluice.web.database.tables import Database, SignedInBrowser
from sluice.web.people import sign_ins
from sluice.web.settings.config import WebConfig
from tests.felt import Stopwatch
from tests.unit.web.issuer import Issuer
from tests.unit.web.signin.test_attacks import forms, path_of
from tests.unit.web.signin.test_provider import due, sign_in_rows
from tests.unit.web.visitor import PUBLIC_URL, TOKEN, cookie, get, post, sign_in

# More than the promised two seconds, for a busy machine. Without a common bound it was three waits of five.
SECONDS = 4.0
WORDS = "cannot reach what it has stored"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less than a site does: many pages are asked for."""
    monkeypatch.setattr(timeouts, "REQUEST_SECONDS", 0.3)


Break = Callable[[Path, Database], None]


@pytest.fixture
def file(settings: WebConfig) -> Path:
    """SQLite's file; what PostgreSQL does is in tests/integration/test_storage_down.py."""
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite":
        pytest.skip("these faults are SQLite's")
    return Path(str(url.database))


def locked(file: Path, *, also_for_readers: bool) -> sqlite3.Connection:
    """Lock the file as another program does: a copy, a check, a shell that somebody left open."""
    connection = sqlite3.connect(file, isolation_level=None, timeout=SECONDS, check_same_thread=False)
    if also_for_readers:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    if also_for_readers:
        connection.execute("UPDATE user SET seen = seen")
    return connection


@contextmanager
def broken(how: str, file: Path, database: Database) -> Iterator[None]:
    """Break the database in one way; open connections of the app stay open if they really would."""
    if how.startswith("locked"):
        if how == "locked for all":
            # SQLite gives the lock only where no other connection has the file mapped.
            database._engine.dispose()
        connection = locked(file, also_for_readers=how == "locked for all")
        try:
            yield
        finally:
            connection.rollback()
            connection.close()
        return
    BREAKS[how](file, database)
    yield


def _gone(file: Path, _database: Database) -> None:
    shutil.rmtree(file.parent)


def _file_gone(file: Path, _database: Database) -> None:
    for each in file.parent.glob(f"{file.name}*"):
        each.unlink()


def _replaced_by_junk(file: Path, _database: Database) -> None:
    _file_gone(file, _database)
    file.write_bytes(b"no database" * 1000)


def _damaged(file: Path, database: Database) -> None:
    database._engine.dispose()
    for each in file.parent.glob(f"{file.name}-*"):
        each.unlink()
    with file.open("r+b") as stream:
        stream.write(b"\xa5" * 8192)


def _read_only(_file: Path, database: Database) -> None:
    _each_connection(database, "PRAGMA query_only=ON")


def _each_connection(database: Database, statement: str) -> None:
    database._engine.dispose()

    @event.listens_for(database._engine, "checkout")
    def on_checkout(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.execute(statement)


BREAKS: dict[str, Break] = {
    "folder gone": _gone,
    "file gone": _file_gone,
    "replaced": _replaced_by_junk,
    "damaged": _damaged,
    "read-only": _read_only,
}
# With these, pages that only read still work.
READABLE = ("locked for writers", "read-only")
# What this site has not written, and what only scripts ask for, to somebody who is not signed in.
OTHERWISE = {"/imprint": 404, "/privacy": 404, "/personas": 401}
ALL = ("locked for writers", "locked for all", *BREAKS)


def pages(app: Flask) -> list[str]:
    """Return the path of each page without parameters."""
    return sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or set())
        and not rule.arguments
        and not rule.rule.startswith(("/static", "/auth/log", "/auth/authorize", "/oidc_callback"))
    )


def timed(request: Callable[[], TestResponse]) -> TestResponse:
    """Return an answer that came in time."""
    with Stopwatch() as felt:
        answer = request()
    assert felt.seconds < SECONDS
    return answer


def says_so(answer: TestResponse) -> bool:
    """Tell whether an answer is our 503 page, not a bare one of a server."""
    if answer.status_code != 503 or int(answer.headers["Retry-After"]) < 1:
        return False
    return WORDS in answer.text


@pytest.mark.parametrize("how", ALL)
def test_every_page_of_a_signed_in_user_arrives_in_time_or_explains_why_not(
    app: Flask, client: FlaskClient, database: Database, file: Path, how: str
) -> None:
    sign_in(client, database, groups=["users"])
    long_unseen(database)
    with broken(how, file, database):
        for path in pages(app):
            if path == "/health":
                continue
            answer = timed(lambda path=path: get(client, path))  # type: ignore[misc]
            usable = answer.status_code in (200, 302, 403) if how in READABLE else False
            known = usable or answer.status_code == OTHERWISE.get(path)
            assert known or says_so(answer) or needs_nothing(answer), (path, answer.status_code)
            assert "Internal Server Error" not in answer.text


def needs_nothing(answer: TestResponse) -> bool:
    """Tell whether a page is for signed-out visitors: the sessions' files went with the folder."""
    return answer.status_code in (200, 302) and 'title="Alice"' not in answer.text


def long_unseen(database: Database) -> None:
    """Make each sign-in due for recording its use, which is a write."""
    with database.write() as session:
        for row in session.query(SignedInBrowser):
            row.seen -= 2 * sign_ins.SEEN_SECONDS


@pytest.mark.parametrize("how", READABLE)
def test_pages_that_only_read_work_although_their_use_cannot_be_recorded(
    client: FlaskClient, database: Database, file: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    sign_in(client, database)
    long_unseen(database)
    with broken(how, file, database):
        for path in ("/", "/keys", "/usage", "/auth/account"):
            answer = timed(lambda path=path: get(client, path))  # type: ignore[misc]
            assert answer.status_code == 200, path
            assert 'title="Alice"' in answer.text
    assert "the use of a sign-in was not recorded" in caplog.text


@pytest.mark.parametrize("how", ["locked for writers", "locked for all", "read-only", "file gone"])
def test_every_form_explains_that_nothing_was_stored(
    app: Flask, client: FlaskClient, database: Database, file: Path, how: str
) -> None:
    sign_in(client, database, groups=["users"])
    with broken(how, file, database):
        for rule, _method in forms(app):
            if rule.rule.startswith(("/auth/", "/admin")):
                continue
            answer = timed(lambda rule=rule: post(client, path_of(rule), TOKEN, name="a", days="30"))  # type: ignore[misc]
            assert says_so(answer) or answer.status_code in (400, 404), (rule.rule, answer.status_code)


@pytest.mark.parametrize("how", ["locked for writers", "locked for all", "read-only", "file gone"])
def test_nobody_signs_in_while_nothing_can_be_written_and_the_page_says_so(
    client: FlaskClient, database: Database, issuer: Issuer, file: Path, how: str
) -> None:
    asked = issuer.begin(client)
    with broken(how, file, database):
        answer = timed(lambda: issuer.come_back(client, asked))
    assert says_so(answer)
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        assert "oidc_auth_token" not in session
        assert "person" not in session


@pytest.mark.parametrize("how", READABLE)
def test_signing_out_works_where_nothing_can_be_written(
    client: FlaskClient, database: Database, file: Path, how: str
) -> None:
    sign_in(client, database)
    before = cookie(client)
    with broken(how, file, database):
        assert timed(lambda: post(client, "/auth/sign-out")).status_code == 302
        client.set_cookie("__Host-sluice", str(before), domain="sluice.example.org")
        assert get(client, "/auth/account").status_code == 302


@pytest.mark.parametrize("how", READABLE)
def test_claims_that_cannot_be_stored_end_no_sign_in_and_lose_no_refresh_token(
    client: FlaskClient, database: Database, issuer: Issuer, file: Path, how: str
) -> None:
    due(client, database)
    issuer.one_time = True
    with broken(how, file, database):
        assert timed(lambda: get(client, "/auth/account")).status_code == 200
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        assert session["person"]["refresh_token"] == "refresh-1"
        assert session["person"]["checked"] < time.time() - 9_000
    assert len(sign_in_rows(database)) == 1


@pytest.mark.parametrize("how", ALL)
def test_the_authority_answers_the_proxy_in_time(
    authority: FlaskClient, settings: WebConfig, file: Path, how: str
) -> None:
    database: Database = authority.application.extensions["sluice"].database
    ask = {"version": 1, "credential": "a" * 64}
    with broken(how, file, database):
        answer = timed(lambda: authority.post("/v1/principal", json=ask))
        assert answer.status_code == (404 if how in READABLE else 503)
        for path in ("/health", "/v1/gateway"):
            assert timed(lambda path=path: authority.get(path)).status_code in (  # type: ignore[misc]
                (200,) if how in READABLE else (503,)
            )
        if answer.status_code == 503:
            assert answer.get_json()["error"]["message"] == "the database does not answer"


def test_nothing_is_written_to_a_file_that_was_replaced(
    client: FlaskClient, database: Database, file: Path
) -> None:
    """An open connection would write to the old file, which has no name any more."""
    sign_in(client, database)
    other = file.with_name("other.db")
    with sqlite3.connect(file) as source, sqlite3.connect(other) as target:
        source.backup(target)
    target.close()
    source.close()
    _file_gone(file, database)
    other.rename(file)
    assert post(client, "/keys", TOKEN, name="kept").status_code == 303
    with sqlite3.connect(file) as found:
        assert found.execute("SELECT name FROM api_key").fetchall() == [("kept",)]
    found.close()


def test_no_empty_database_is_created_if_the_file_is_missing(
    client: FlaskClient, database: Database, file: Path
) -> None:
    sign_in(client, database)
    _file_gone(file, database)
    assert says_so(get(client, "/keys"))
    assert not file.exists()


def test_a_database_that_is_back_is_used_at_once(client: FlaskClient, database: Database, file: Path) -> None:
    sign_in(client, database)
    with broken("locked for all", file, database):
        assert says_so(get(client, "/keys"))
    assert get(client, "/keys").status_code == 200
    aside = file.with_name("aside.db")
    file.rename(aside)
    assert says_so(get(client, "/keys"))
    aside.rename(file)
    assert get(client, "/keys").status_code == 200


def test_all_waits_of_one_request_together_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    waited = 0.0
    with timeouts.at_most(timeouts.REQUEST_SECONDS) as bound:
        for _ in range(5):
            with timeouts.current().waiting() as seconds:
                step = min(seconds, 0.7)
                now[0] += step
                waited += step
            with timeouts.at_most(timeouts.OPTIONAL_SECONDS), timeouts.current().waiting() as seconds:
                assert seconds <= timeouts.OPTIONAL_SECONDS
                now[0] += seconds
                waited += seconds
        assert bound.left == pytest.approx(0.0)
    assert waited == pytest.approx(timeouts.REQUEST_SECONDS)
    assert not timeouts.in_request()


def test_after_a_failure_a_request_does_not_wait_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with timeouts.at_most(timeouts.REQUEST_SECONDS) as bound:
        with timeouts.at_most(timeouts.OPTIONAL_SECONDS) as moment:
            moment.give_up()
        assert bound.left == pytest.approx(timeouts.REQUEST_SECONDS - timeouts.OPTIONAL_SECONDS)
        timeouts.current().give_up()
        with timeouts.current().waiting() as seconds:
            assert seconds == 0.0
