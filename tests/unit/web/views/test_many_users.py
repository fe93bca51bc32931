"""The administrators' list of users, as somebody with thousands of them needs it."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import re
import time
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, event
from sqlalchemy.engine import Engine

from sluice.web.database.tables import AuditEntry, Database, LimitRow, UsageDay, User
from sluice.web.people import accounts
from sluice.web.settings.config import WebConfig
from sluice.web.words import folding, tables
from tests.unit.web import many
from tests.unit.web.visitor import ISSUER, get, sign_in


@pytest.fixture
def settings(settings: WebConfig) -> WebConfig:
    """A site with administrators, projects and limits for everybody."""
    return dataclasses.replace(settings, access=many.RIGHTS, limits=many.RULES)


@pytest.fixture
def admin(client: FlaskClient, database: Database) -> FlaskClient:
    """A browser in which an administrator has signed in."""
    sign_in(client, database, name="ada", groups=("ops",))
    return client


def people(database: Database, *names: str, groups: tuple[str, ...] = ("users",)) -> None:
    with database.write() as session:
        for number, name in enumerate(names):
            accounts.upsert_person(
                session,
                issuer=ISSUER,
                subject=f"{name}-{number}",
                name=name,
                email=f"{number}@example.org",
                groups=list(groups),
                now=time.time() - number,
            )


def listed(client: FlaskClient, query: str) -> list[str]:
    """Return the names in the list, in its order."""
    page = get(client, f"/admin/users?{query}").text
    return [name for name in re.findall(r'<th scope="row"><a [^>]+>([^<]+)</a>', page) if name != "Ada"]


@pytest.mark.parametrize("search", ["Müller", "MÜLLER", "muller", "mu%CC%88ller"])
def test_a_search_finds_umlauts_and_capitals_in_any_form(
    admin: FlaskClient, database: Database, search: str
) -> None:
    people(database, "Jörg MÜLLER", "Zoë Müller", "Möller")
    assert listed(admin, f"search={search}") == ["Jörg MÜLLER", "Zoë Müller"]


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("Straße", "STRASSE", True),
        ("Łukasz", "łukasz", True),
        ("İpek", "ipek", True),
        ("ガ", "カ", False),
        ("\uff21lice", "alice", True),
        ("Müller", "Möller", False),
    ],
)
def test_texts_are_compared_as_their_readers_do(text: str, other: str, same: bool) -> None:
    assert (folding.folded(text) == folding.folded(other)) is same


def test_the_list_is_sorted_by_name_as_readers_sort(admin: FlaskClient, database: Database) -> None:
    people(database, "zoe", "Özil", "Adam", "Otto", "ärmel")
    assert listed(admin, "") == ["Adam", "ärmel", "Otto", "Özil", "zoe"]
    assert listed(admin, "sort=-name")[0] == "zoe"
    assert listed(admin, "sort=-seen") == ["zoe", "Özil", "Adam", "Otto", "ärmel"]
    page = get(admin, "/admin/users?sort=seen&search=o").text
    assert 'aria-sort="ascending"><a href="/admin/users?sort=-seen&amp;search=o"' in page
    assert get(admin, "/admin/users?sort=groups;drop").status_code == 200


def test_the_list_is_filtered_by_group_and_project(admin: FlaskClient, database: Database) -> None:
    people(database, "Anna", groups=("group-001", "x"))
    people(database, "Bert", groups=("group-002",))
    assert listed(admin, "group=x") == ["Anna"]
    assert listed(admin, "project=project-02") == ["Bert"]
    assert listed(admin, "project=project-01&group=x") == []
    assert listed(admin, "project=no-such") == []
    assert "2 users" not in get(admin, "/admin/users").text
    assert "3 users" in get(admin, "/admin/users").text


def test_the_list_as_csv_has_everybody_and_no_formula(admin: FlaskClient, database: Database) -> None:
    people(database, "=HYPERLINK(1)", "Ärmel, Zoë", *(f"robot {number}" for number in range(60)))
    answer = get(admin, "/admin/users?format=csv&search=")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="users.csv"'
    assert answer.content_type == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert len(rows) == 63
    names = [row["name"] for row in rows]
    assert "'=HYPERLINK(1)" in names
    assert "Ärmel, Zoë" in names
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows[0]["seen"])


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\t=1", " =1", "\uff1d1"])
def test_no_cell_becomes_a_formula(cell: str) -> None:
    (row,) = csv.reader(
        io.StringIO(tables.as_csv(("a",), [(cell,)]).removeprefix("\ufeff").partition("\n")[2])
    )
    assert row == [f"'{cell}"]


def test_numbers_and_empty_cells_stay_what_they_are() -> None:
    assert tables.as_csv(("a", "b"), [(-5, None)]).endswith("-5,\r\n")


def test_hundreds_of_limits_are_searched_sorted_and_saved(admin: FlaskClient, database: Database) -> None:
    many.fill(database, 60, 300)
    page = get(admin, "/admin/limits?sort=-tokens_per_day").text
    own = page[page.index('id="own"') :]
    assert "300 limits" in page
    assert "page 1 of 6" in page
    assert own.index("3,000,000") < own.index("2,990,000")
    found = get(admin, "/admin/limits?search=GROUP-00&format=csv").text
    rows = list(csv.DictReader(io.StringIO(found.removeprefix("\ufeff"))))
    assert len(rows) == 20
    assert {row["scope"].partition(":")[0] for row in rows} == {"group", "member"}
    by_name = get(admin, "/admin/limits?search=bjorn&format=csv").text
    assert by_name.count("Björn") == by_name.count("user:") == 6


def statements(database: Database, action: Callable[[], object]) -> int:
    """Return how many statements an action sends to the database."""
    found = []

    def note(*_arguments: object) -> None:
        found.append(1)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        action()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return len(found)


def test_no_page_asks_the_database_more_often_when_there_are_more_users_and_limits(
    admin: FlaskClient, database: Database
) -> None:
    many.fill(database, 60, 30)
    few = {path: statements(database, lambda path=path: get(admin, path)) for path in many.PAGES}  # type: ignore[misc]
    with database.write() as session:
        for table in (UsageDay, LimitRow, AuditEntry):
            session.execute(delete(table))
        session.execute(delete(User).where(User.name != "Ada"))
    many.fill(database, 600, 300)
    for path, before in few.items():
        assert statements(database, lambda path=path: get(admin, path)) <= before, path  # type: ignore[misc]
        assert before <= 20, path


def test_the_file_of_thousands_of_users_is_one_list(admin: FlaskClient, database: Database) -> None:
    path = "/admin/users?format=csv"
    few = statements(database, lambda: get(admin, path))
    many.fill(database, 2_500, 1)
    assert statements(database, lambda: get(admin, path)) == few
    rows = list(csv.DictReader(io.StringIO(get(admin, path).text.removeprefix("\ufeff"))))
    assert len(rows) == 2_501
    row = next(row for row in rows if row["pseudonym"] == many.pseudonym(7))
    groups = next(itertools.islice(many.users(8, 0.0), 7, None))["groups"]
    assert row["groups"] == ";".join(groups)
    assert row["projects"] == ";".join(
        sorted(name for name, its in many.PROJECTS.items() if set(its) & set(groups))
    )
    assert {row["pseudonym"] for row in rows if row["blocked"]} == {
        many.pseudonym(number) for number in range(0, 2_500, 97)
    }
