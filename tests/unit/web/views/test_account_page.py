"""The account page: usage, limits and sign-ins."""

from __future__ import annotations

import dataclasses

import pytest
from flask import Flask
from flask.testing import FlaskClient

from sluice.web.database.tables import Database
from sluice.web.settings.config import LimitRule, WebConfig
from tests.unit.web.visitor import get, post, sign_in


@pytest.fixture
def settings(settings: WebConfig) -> WebConfig:
    """A site with a limit for each user."""
    return dataclasses.replace(settings, limits=(LimitRule("user:*", "", None, None, 1_000),))


def test_the_page_tells_what_is_left_of_each_limit(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    page = get(client, "/auth/account").text
    assert "1,000 left of 1,000" in page
    assert 'href="/usage"' in page


def test_a_sign_in_in_another_browser_is_ended_alone(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    other, third = app.test_client(), app.test_client()
    for browser, tag in ((other, "tag-2"), (third, "tag-3")):
        sign_in(browser, database, tag=tag)
    page = get(client, "/auth/account").text
    assert page.count('action="/auth/end-sign-in"') == 2
    answer = post(client, "/auth/end-sign-in", sign_in="tag-2")
    assert (answer.status_code, answer.location) == (303, "/auth/account")
    assert get(other, "/keys").status_code == 302
    for browser in (client, third):
        assert get(browser, "/keys").status_code == 200
    # Its page may still have the button, in another tab.
    assert post(client, "/auth/end-sign-in", sign_in="tag-2").status_code == 303


def test_trying_to_end_anothers_sign_in_or_an_odd_one(
    app: Flask, client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    mallory = app.test_client()
    sign_in(mallory, database, name="mallory")
    for tag in ("tag-of-alice", "", "\x00", "x" * 5_000):
        assert post(mallory, "/auth/end-sign-in", sign_in=tag).status_code == 303
    assert get(client, "/keys").status_code == 200
    assert post(mallory, "/auth/end-sign-in", "wrong", sign_in="tag-of-alice").status_code == 403
