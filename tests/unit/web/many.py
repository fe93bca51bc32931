"""A database of many users, and how long the administrators' pages take: `python -m tests.unit.web.many`."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from sluice.web import app as web_app
from sluice.web.database.tables import AuditEntry, Database, LimitRow, UsageDay, User
from sluice.web.settings.config import Access, LimitRule
from sluice.web.views.shared import Web
from tests.unit.web.visitor import ISSUER, get, settings_of_a_site, sign_in

FIRST = ("Anna", "Björn", "Çelik", "Dörte", "Émile", "Fatima", "Günther", "花子", "İpek", "Jörg")
LAST = ("Müller", "Schmidt", "Ñandú", "O'Brien", "Żak", "Łukasz", "田中", "Weiß", "Ångström", "Ölmez")
MODELS = tuple(f"model-{number:02}" for number in range(12))
PROJECTS: dict[str, tuple[str, ...]] = {
    f"project-{number:02}": (f"group-{number:03}",) for number in range(40)
}
RIGHTS = Access(admins=("ops",), projects=PROJECTS)
RULES = (LimitRule("user:*", "", None, None, 1_000_000), LimitRule("project:*", "", None, None, 50_000_000))
DAYS = 30
# One of so many users is active on a day.
ACTIVE = 5
_AT_ONCE = 5_000

PAGES = (
    "/admin",
    "/admin/users",
    "/admin/users?search=m%C3%9CLLER&sort=-seen",
    "/admin/users?group=group-007&sort=email",
    "/admin/users?project=project-03&page=2",
    "/admin/users?format=csv",
    "/admin/users/u-0000000000000007",
    "/admin/projects",
    "/admin/projects/project-03",
    "/admin/limits",
    "/admin/limits?search=group&sort=-tokens_per_day&page=2",
    "/admin/limits?format=csv",
    "/admin/models",
    "/admin/announcements",
    "/admin/audit",
)


def pseudonym(number: int) -> str:
    """Return the pseudonym of the user with this number."""
    return f"u-{number:016x}"


def users(count: int, now: float) -> Iterator[dict[str, Any]]:
    """Return users with names of several languages, each in twelve of 200 groups."""
    for number in range(count):
        yield {
            "pseudonym": pseudonym(number),
            "kind": "person",
            "issuer": ISSUER,
            "subject": f"s{number}",
            "name": f"{FIRST[number % 10]} {LAST[number // 10 % 10]} {number}",
            "email": f"user{number}@example.org",
            "groups": ["users", *(f"group-{(number * 7 + step * 17) % 200:03}" for step in range(12))],
            "created": now - 86_400.0 * (number % 900),
            "seen": now - 60.0 * (number % 40_000),
            "blocked": now if number % 97 == 0 else None,
            "page_project": "",
        }


def usage(count: int, today: datetime.date) -> Iterator[dict[str, Any]]:
    """Return the usage of DAYS days: each day, one of ACTIVE users has used one or two models."""
    for back, number in itertools.product(range(DAYS), range(0, count, ACTIVE)):
        for step in range(1 + number % 2):
            yield {
                "day": today - datetime.timedelta(days=back),
                "user": pseudonym((number + back) % count),
                "project": f"project-{number % 40:02}",
                "key_id": "" if step == 0 else f"key-{number:012x}",
                "model": MODELS[(number + back + step) % len(MODELS)],
                "class_": "interactive" if step == 0 else "api",
                **dict.fromkeys(("requests", "failed", "estimated"), 3 + number % 11),
                **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens"), 1000 + number),
                "seconds": 12.5,
            }


def limits(count: int, now: float) -> Iterator[dict[str, Any]]:
    """Return limits of users, groups, members and projects, some of them for one model."""
    kinds = ("user:u-{:016x}", "group:group-{:03}", "member:group-{:03}")
    for number in range(count):
        yield {
            "scope": kinds[number % 3].format(number // 3),
            "model": MODELS[number % len(MODELS)] if number % 2 else "",
            "tokens_per_day": 10_000 * (number + 1),
            "changed": now,
        }


def entries(count: int, now: float) -> Iterator[dict[str, Any]]:
    """Return entries of the audit log."""
    for number in range(count):
        yield {
            "time": now - count + number,
            "actor": pseudonym(number % 5),
            "action": "user.block",
            "object": pseudonym(number),
            "before": {"blocked": False},
            "after": {"blocked": True},
        }


def fill(database: Database, people: int, bounds: int) -> None:
    """Put `people` users with their usage and audit entries, and `bounds` limits, into an empty database."""
    now = time.time()
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    tables = (
        (User, users(people, now)),
        (UsageDay, usage(people, today)),
        (LimitRow, limits(bounds, now)),
        (AuditEntry, entries(people, now)),
    )
    with database.write() as session:
        for table, rows in tables:
            while part := list(itertools.islice(rows, _AT_ONCE)):
                session.execute(insert(table), part)


def main() -> None:
    """Print the processor time of each page, in milliseconds: the median and the longest of nine loads."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/many.db"
        database = Database(url)
        database.create()
        fill(database, 10_000, 300)
        settings = settings_of_a_site(Path(folder), url)
        app = web_app.create_app(dataclasses.replace(settings, access=RIGHTS, limits=RULES))
        logging.getLogger().setLevel(logging.ERROR)
        client = app.test_client()
        sign_in(client, database, name="ada", groups=("ops",))
        for path in PAGES:
            taken = []
            for _ in range(10):
                begun = time.process_time()
                answer = get(client, path)
                taken.append((time.process_time() - begun) * 1_000)
                assert answer.status_code == 200, path
            # The first load compiles the template.
            print(f"{statistics.median(taken[1:]):7.0f} {max(taken[1:]):7.0f}  {path}")
        web: Web = app.extensions["sluice"]
        web.database.close()
        database.close()


if __name__ == "__main__":
    main()
