"""Exports of single usage records, for a site's own programs."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from sluice.web.database.tables import Usage, User, settled
from sluice.web.usage.reports import UsageQuery, filtered, start_of_day

# The columns of a record, in the order of the table, with their names in docs/contracts.md.
RECORD = tuple(column.name for column in inspect(Usage).columns)
# The columns that a pseudonymised export leaves out.
PERSONAL_COLUMNS = ("name", "email")

# How many rows are in memory at once.
_AT_ONCE = 1_000

Pseudonymiser = Callable[[str], str]


def records(
    session: Session, wanted: UsageQuery, pseudonymise: Pseudonymiser | None = None
) -> Iterator[dict[str, Any]]:
    """Return the records that match `wanted`, oldest first, with few rows in memory at once.

    With `pseudonymise`, the columns `id`, `user` and `key_id` are passed through it, and name and mail
    address are left out. Without it, they are looked up.
    """
    columns = [*inspect(Usage).columns]
    query = select(*columns, User.name, User.email).outerjoin(User, User.pseudonym == Usage.user)
    query = _chosen(query, wanted).order_by(settled(), Usage.id)
    rows = session.execute(query, execution_options={"yield_per": _AT_ONCE})
    for row in rows:
        record = dict(zip(RECORD, row[: len(RECORD)], strict=True))
        if pseudonymise is None:
            yield {**record, **dict(zip(PERSONAL_COLUMNS, row[len(RECORD) :], strict=True))}
        else:
            yield {**record, **{name: pseudonymise(record[name]) for name in ("id", "user", "key_id")}}


def header(*, pseudonymised: bool) -> tuple[str, ...]:
    """Return the names of the fields of `records`."""
    return RECORD if pseudonymised else (*RECORD, *PERSONAL_COLUMNS)


def random_pseudonyms() -> Pseudonymiser:
    """Return a function that makes pseudonyms for one export: two exports cannot be combined by them."""
    secret = secrets.token_bytes(32)

    def pseudonymise(text: str) -> str:
        return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()[:20] if text else ""

    return pseudonymise


def stable_pseudonyms(text: str) -> str:
    """Return `text` unchanged: pseudonyms are the same in every export."""
    return text


def _chosen(query: Any, wanted: UsageQuery) -> Any:
    if wanted.since is not None:
        query = query.where(settled() >= start_of_day(wanted.since))
    if wanted.until is not None:
        query = query.where(settled() < start_of_day(wanted.until))
    return filtered(query, Usage, wanted)
