"""Several tabs of one browser at the same time do not undo each other's changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from sluice.web.database.tables import Database
from sluice.web.signin.provider import MAX_STATES
from tests.unit.web.issuer import Issuer
from tests.unit.web.signin.test_provider import due, sign_in_rows
from tests.unit.web.visitor import PUBLIC_URL, cookie, get, post

SECONDS = 30


def tab(app: Flask, client: FlaskClient) -> FlaskClient:
    """Return another tab of the browser: the same cookie as it is now."""
    found = app.test_client()
    found.set_cookie("__Host-sluice", str(cookie(client)), domain="sluice.example.org")
    return found


@contextmanager
def during(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, path: str, request: Callable[[], Any]
) -> Iterator[threading.Event]:
    """Run `request` in another thread; within the block, it waits for the provider's answer at `path`."""
    reached, go_on = threading.Event(), threading.Event()

    def send(_adapter: HTTPAdapter, asked: PreparedRequest, **_options: Any) -> Response:
        if urlsplit(asked.url or "").path == path and not reached.is_set():
            reached.set()
            assert go_on.wait(SECONDS)
        return issuer.send(asked)

    monkeypatch.setattr(HTTPAdapter, "send", send)
    thread = threading.Thread(target=request)
    thread.start()
    assert reached.wait(SECONDS)
    try:
        yield go_on
    finally:
        go_on.set()
        thread.join(SECONDS)
        assert not thread.is_alive()


def kept(client: FlaskClient) -> dict[str, Any]:
    """Return what the store has of this browser's session."""
    store = client.application.config["SESSION_CACHELIB"]
    found: dict[str, Any] = store.get(f"session:{cookie(client)}") or {}
    return json.loads(json.dumps(found))


@pytest.mark.parametrize("path", ["/token", "/me"])
def test_a_sign_in_begun_while_another_tab_asks_the_provider_is_not_lost(
    app: Flask,
    client: FlaskClient,
    database: Database,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    due(client, database)
    second = tab(app, client)
    with during(issuer, monkeypatch, path, lambda: get(client, "/auth/account")):
        asked = issuer.begin(second, "/usage")
    assert issuer.come_back(second, asked).location == "/usage"


@pytest.mark.parametrize("path", ["/token", "/me"])
def test_a_new_refresh_token_is_not_undone_by_another_tab(
    app: Flask,
    client: FlaskClient,
    database: Database,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    due(client, database)
    issuer.one_time = True
    second, third = tab(app, client), tab(app, client)
    # The third read the session before the first wrote the new token, and writes after it.
    with during(issuer, monkeypatch, "/.well-known/openid-configuration", lambda: get(third, "/auth/login")):
        issuer_answers_others(issuer, monkeypatch)
        assert get(client, "/auth/account").status_code == 200
        assert kept(client)["person"]["refresh_token"] == "refresh-1"
    assert kept(client)["person"]["refresh_token"] == "refresh-1"
    assert any(name.startswith("_state_") for name in kept(client))
    assert get(second, "/auth/account").status_code == 200


def issuer_answers_others(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new requests reach the provider; one that waits keeps waiting."""
    monkeypatch.setattr(HTTPAdapter, "send", lambda _adapter, request, **_options: issuer.send(request))


def test_only_one_of_many_simultaneous_requests_asks_the_provider(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(client, database)
    issuer.one_time = True
    tabs = [tab(app, client) for _ in range(6)]
    with during(issuer, monkeypatch, "/token", lambda: get(client, "/auth/account")):
        for each in tabs:
            assert get(each, "/auth/account").status_code == 200
    assert issuer.asked.count("/token") == 1
    assert kept(client)["person"]["refresh_token"] == "refresh-1"
    assert len(sign_in_rows(database)) == 1


def test_the_new_refresh_token_is_written_before_the_request_continues(
    client: FlaskClient, database: Database, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed while it waits for the provider must not have lost it."""
    due(client, database)
    with during(issuer, monkeypatch, "/me", lambda: get(client, "/auth/account")):
        assert kept(client)["person"]["refresh_token"] == "refresh-1"


def test_a_slow_request_does_not_bring_back_a_session_that_another_tab_ended(
    app: Flask, client: FlaskClient, database: Database, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(client, database)
    before = cookie(client)
    answers: list[Any] = []
    with during(issuer, monkeypatch, "/me", lambda: answers.append(get(tab(app, client), "/auth/account"))):
        issuer_answers_others(issuer, monkeypatch)
        post(client, "/auth/sign-out")
    store = app.config["SESSION_CACHELIB"]
    assert store.get(f"session:{before}") is None
    assert "Set-Cookie" not in answers[0].headers
    assert get(client, "/auth/account").status_code == 302


def test_two_tabs_that_sign_in_both_reach_their_page(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    first, second = issuer.begin(client, "/keys"), issuer.begin(client, "/usage")
    assert issuer.come_back(client, first).location == "/keys"
    token = kept(client)["csrf"]
    assert issuer.come_back(client, second).location == "/usage"
    # The first tab's forms still work, and the browser is signed in once.
    assert kept(client)["csrf"] == token
    assert post(client, "/page-bearer", token).status_code == 200
    assert len(sign_in_rows(database)) == 1


@pytest.mark.parametrize("end", ["/auth/sign-out", "/auth/sign-out-everywhere"])
def test_a_sign_in_begun_in_one_tab_outlives_the_end_of_the_one_before(
    client: FlaskClient, issuer: Issuer, end: str
) -> None:
    issuer.sign_in(client)
    asked = issuer.begin(client, "/usage")
    post(client, end, kept(client)["csrf"])
    # The page to which the provider redirects after sign-out.
    get(client, "/auth/signed-out")
    assert issuer.come_back(client, asked).location == "/usage"


def test_another_user_in_the_second_tab_gets_their_own_csrf_token(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    first, second = issuer.begin(client), issuer.begin(client)
    issuer.come_back(client, first)
    token = kept(client)["csrf"]
    issuer.claims = {"sub": "bob", "name": "Bob", "groups": ["users"]}
    issuer.come_back(client, second)
    assert kept(client)["csrf"] != token
    assert [row.subject for row in sign_in_rows(database)] == ["bob"]


def test_each_tab_has_its_own_state_and_nonce_up_to_a_bound(client: FlaskClient, issuer: Issuer) -> None:
    asked = [issuer.begin(client) for _ in range(MAX_STATES + 3)]
    assert (
        len({each["state"][0] for each in asked}) == len({each["nonce"][0] for each in asked}) == len(asked)
    )
    states = [name for name in kept(client) if name.startswith("_state_")]
    assert len(states) == MAX_STATES
    answers = [issuer.come_back(client, each).status_code for each in asked]
    assert answers == [401] * 3 + [302] * MAX_STATES


def test_a_tab_whose_sign_in_was_forgotten_gets_the_page_once_another_is_signed_in(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    asked = [issuer.begin(client, "/usage") for _ in range(MAX_STATES + 3)]
    for each in reversed(asked):
        assert issuer.come_back(client, each).status_code == 302
    before, session = sign_in_rows(database), kept(client)
    answer = issuer.come_back(client, asked[0])
    assert (answer.status_code, answer.location) == (302, "/")
    assert get(client, "/auth/account").status_code == 200
    assert [row.tag for row in sign_in_rows(database)] == [row.tag for row in before]
    assert kept(client) == session


def test_a_tab_whose_sign_in_was_forgotten_is_told_so_and_offered_another(
    client: FlaskClient, database: Database, issuer: Issuer
) -> None:
    asked = [issuer.begin(client) for _ in range(MAX_STATES + 1)]
    answer = issuer.come_back(client, asked[0])
    assert answer.status_code == 401
    assert "This sign-in is not known here" in answer.text
    assert "/auth/login?next=/" in answer.text
    assert not sign_in_rows(database)
    # The other tabs' sign-ins still work.
    assert all(issuer.come_back(client, each).status_code == 302 for each in asked[1:])


def test_an_answer_that_arrives_twice_leads_to_the_page(client: FlaskClient, issuer: Issuer) -> None:
    asked = issuer.begin(client, "/usage")
    assert issuer.come_back(client, asked).location == "/usage"
    assert issuer.come_back(client, asked).location == "/"


@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"state": ""},
        {"state": "x" * 5000},
        {"code": "", "error": "access_denied"},
        {"iss": "https://evil.example.org"},
        {"next": "https://evil.example.org"},
    ],
)
def test_trying_to_sign_somebody_in_as_another_by_an_answer_they_never_asked_for(
    app: Flask,
    client: FlaskClient,
    database: Database,
    issuer: Issuer,
    changes: dict[str, str],
    signed_in: bool,
) -> None:
    """Login CSRF: the code in the address is another person's, and is never redeemed."""
    if signed_in:
        issuer.sign_in(client)
    before, asked_before = [row.tag for row in sign_in_rows(database)], list(issuer.asked)
    theirs = issuer.begin(app.test_client())
    issuer.claims = {"sub": "mallory", "name": "Mallory", "groups": ["users"]}
    answer = issuer.come_back(client, theirs, **changes)
    assert (answer.status_code, answer.location) == ((302, "/") if signed_in else (401, None))
    assert "/token" not in issuer.asked[len(asked_before) :]
    assert [row.tag for row in sign_in_rows(database)] == before
    assert get(client, "/auth/account").status_code == (200 if signed_in else 302)


def test_a_browser_whose_sign_in_has_ended_is_not_signed_in(client: FlaskClient, issuer: Issuer) -> None:
    issuer.sign_in(client)
    forgotten = issuer.begin(client)
    for _ in range(MAX_STATES):
        issuer.begin(client)
    post(client, "/auth/sign-out-everywhere", kept(client)["csrf"])
    assert issuer.come_back(client, forgotten).status_code == 401


def test_nobody_is_sent_to_the_provider_while_sessions_cannot_be_written(
    app: Flask, client: FlaskClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = issuer.begin(client)
    store = app.config["SESSION_CACHELIB"]
    monkeypatch.setattr(type(store).__mro__[1], "set", lambda *_arguments, **_options: False)
    for answer in (issuer.come_back(client, asked), get(app.test_client(), "/auth/login")):
        assert answer.status_code == 503
        assert "cannot reach what it has stored" in answer.text
        assert parse_qs(urlsplit(answer.location or "").query) == {}


def test_use_does_not_extend_the_longest_lifetime_of_a_session(client: FlaskClient, issuer: Issuer) -> None:
    issuer.sign_in(client)
    answer = client.get("/auth/login", base_url=PUBLIC_URL)
    assert "Set-Cookie" not in answer.headers
