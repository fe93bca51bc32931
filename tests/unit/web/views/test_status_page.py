"""The status page, as far as the server writes it."""

from __future__ import annotations

import time

from flask.testing import FlaskClient

from sluice.web.admin import announcements
from sluice.web.database.tables import Database
from tests.unit.web.visitor import get, sign_in

HOUR = 3_600.0


def announce(database: Database, text: str, starts: float, ends: float | None) -> None:
    with database.write() as session:
        announcements.add(session, "operator", text, "info", starts, ends, time.time())


def test_only_who_is_signed_in_sees_the_page(client: FlaskClient) -> None:
    assert get(client, "/status").location == "/auth/login?next=/status"


def test_each_page_links_the_status(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    for path in ("/", "/keys", "/usage", "/auth/account"):
        assert 'href="/status"' in get(client, path).text, path
    assert 'href="/status" aria-current="page"' in get(client, "/status").text


def test_what_is_announced_and_what_is_planned_is_listed_once_with_its_times(
    client: FlaskClient, database: Database
) -> None:
    now = time.time()
    announce(database, "The filter is off.", now - HOUR, None)
    announce(database, "Maintenance <tonight>", now + 2 * HOUR, now + 3 * HOUR)
    announce(database, "Later still", now + 20 * HOUR, None)
    sign_in(client, database)
    page = get(client, "/status").text
    assert page.count("The filter is off.") == 1
    assert page.index("The filter is off.") < page.index("Maintenance &lt;tonight&gt;")
    assert page.index("Maintenance") < page.index("Later still")
    assert page.count(">planned</span>") == 2
    assert page.count("<time ") == 4


def test_without_announcements_the_page_says_so(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    assert "Nothing is announced." in get(client, "/status").text
