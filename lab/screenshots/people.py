"""Who uses the pictured site, and a month of their use: written into its database, the same each time."""

from __future__ import annotations

import datetime
import json
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from sluice.web.admin import announcements, audit, stopped_models
from sluice.web.database.tables import ApiKey, Database, LimitRow, UsageDay, User
from sluice.web.keys import credentials
from sluice.web.keys.credentials import KeySettings
from sluice.web.settings.config import KeySecret
from tests.browser.loopback import Site

DAY = 86_400.0
DAYS = 30
SATURDAY = 5
PEOPLE = (
    ("Mara Lindqvist", "climate"), ("Jonas Weber", "climate"), ("Aiko Tanaka", "genomics"),
    ("Émile Laurent", "fusion"), ("Priya Nair", "genomics"), ("Tomasz Żak", "fusion"),
    ("Lucía Romero", "climate"), ("Henrik Dahl", "materials"), ("Yuki Sato", "materials"),
    ("Fatima Benali", "genomics"), ("Oskar Baumann", "climate"), ("Chiara Conti", "fusion"),
)  # fmt: skip
PROJECTS = {name: [name] for name in ("climate", "genomics", "fusion", "materials")}
# The requests of a working day, by model.
BUSY = {"qwen3-32b": 34, "llama-3.3-70b": 16, "gemma-3-27b": 9, "qwen3-coder-30b": 12, "qwen3-embedding": 7}
KEYS = (("notebook", "climate", 61), ("paper search", "", 24), ("CI of the group", "climate", 9))
NEW_KEY = "thesis"
LIMITS = (
    ("project:climate", "", {"tokens_per_day": 40_000_000}),
    ("group:genomics", "llama-3.3-70b", {"tokens_per_day": 5_000_000, "concurrent": 8}),
    ("site", "llama-3.3-70b", {"concurrent": 64}),
)
STOPPED = "mixtral-8x7b"
# Text, level, and days from now: when it was written, when it begins; for so many hours.
ANNOUNCED = (
    ("New model: gemma-3-27b reads images.", "info", -20, -20, 72),
    ("Maintenance of the cluster: models pause from 8 to 12.", "warning", -10, 3, 4),
)


def settle(site: Site) -> dict[str, str]:
    """Fill the database of a site at which alice and bob have signed in; return the parts of addresses."""
    settings = json.loads(site.web_config.read_text())
    database = Database(settings["database"])
    # A picture of today is the picture of tomorrow with other days.
    dice = random.Random(7)
    now = time.time()
    try:
        with database.write() as session:
            alice, bob = (_known(session, name) for name in ("Alice", "Bob"))
            users = _add_people(session, site.issuer, now)
            keys = _add_keys(session, KeySecret(**settings["key_secret"]), alice, now)
            session.execute(insert(UsageDay), list(_use(dice, [alice, bob, *users], keys, now)))
            _administer(session, bob, users, now)
            return {"user": users[0].pseudonym, "project": "climate", "key_id": keys[0].id}
    finally:
        database.close()


def tidy(site: Site) -> None:
    """Take away the key that a scene has made: the next language begins without it."""
    database = Database(json.loads(site.web_config.read_text())["database"])
    try:
        with database.write() as session:
            session.execute(delete(ApiKey).where(ApiKey.name == NEW_KEY))
    finally:
        database.close()


def _known(session: Session, name: str) -> User:
    return session.scalars(select(User).where(User.name == name)).one()


def _add_people(session: Session, issuer: str, now: float) -> list[User]:
    users = [
        User(
            pseudonym=f"u-{0x51_0C_E5_7A_11_07 * (number + 3):016x}",
            kind="person",
            issuer=issuer,
            subject=name.split()[0].lower(),
            name=name,
            email=f"user{number + 11}@example.org",
            groups=["users", group],
            created=now - DAY * (40 + 23 * number),
            seen=now - 3_600.0 * (1 + number * number),
            blocked=now - 2 * DAY if name == "Oskar Baumann" else None,
        )
        for number, (name, group) in enumerate(PEOPLE)
    ]
    session.add_all(users)
    session.flush()
    return users


def _add_keys(session: Session, secret: KeySecret, alice: User, now: float) -> list[ApiKey]:
    made = []
    for name, project, age in KEYS:
        wanted = KeySettings(name=name, days=180, project=project)
        row = credentials.create_key(session, secret, alice, wanted, now - age * DAY).row
        row.last_used = now - age * 400.0
        made.append(row)
    session.flush()
    return made


def _use(dice: random.Random, users: list[User], keys: list[ApiKey], now: float) -> Iterator[dict[str, Any]]:
    """Make the rows of a month: more from Monday to Friday, more each week, some by key."""
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    for back in range(DAYS):
        day = today - datetime.timedelta(days=back)
        share = (0.25 if day.weekday() >= SATURDAY else 1.0) * (1.4 - back / DAYS)
        for number, user in enumerate(users):
            for model, most in BUSY.items():
                requests = int(most * share * dice.uniform(0.1, 1.0) * (1.3 if number == 0 else 0.8))
                if requests:
                    by_key = number == 0 and model in ("qwen3-coder-30b", "qwen3-embedding")
                    key = keys[len(model) % 2].id if by_key else ""
                    yield _row(dice, day, user, model, requests, key)


def _row(
    dice: random.Random, day: datetime.date, user: User, model: str, requests: int, key: str
) -> dict[str, Any]:
    tokens = {"input_tokens": requests * dice.randint(900, 2_600)}
    return {
        "day": day,
        "user": user.pseudonym,
        "project": next((name for name in user.groups if name in PROJECTS), "climate"),
        "key_id": key,
        "model": model,
        "class_": "api" if key else "interactive",
        "requests": requests,
        "failed": int(requests * dice.uniform(0, 0.05)),
        "estimated": 0,
        **tokens,
        "output_tokens": requests * dice.randint(180, 620),
        "cached_tokens": tokens["input_tokens"] // 3,
        "seconds": requests * 6.5,
    }


def _administer(session: Session, bob: User, users: list[User], now: float) -> None:
    """Leave what administrators have done, oldest first: the log is read by its numbers."""
    for text, level, created, starts, hours in ANNOUNCED:
        begin = now + starts * DAY
        announcements.add(
            session, bob.pseudonym, text, level, begin, begin + hours * 3_600, now + created * DAY
        )
    for scope, model, numbers in LIMITS:
        row: Mapping[str, Any] = {"scope": scope, "model": model, **numbers}
        session.add(LimitRow(**row, changed=now - 9 * DAY))
        name = f"{scope} {model}".strip()
        audit.add(session, bob.pseudonym, "limit.set", name, None, dict(numbers), now - 9 * DAY)
    blocked = next(user for user in users if user.blocked is not None)
    before, after = {"blocked": False}, {"blocked": True}
    audit.add(session, bob.pseudonym, "user.block", blocked.pseudonym, before, after, now - 2 * DAY)
    stopped_models.stop(session, bob.pseudonym, STOPPED, "Please use qwen3-32b instead.", now - DAY)
