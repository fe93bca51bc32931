"""What is left of a person's limits, for the pages of usage and of the account."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from sluice.web.database.tables import ApiKey, User
from sluice.web.keys import credentials
from sluice.web.keys.principals import page_project
from sluice.web.limits import limit_usage
from sluice.web.settings.rules import Holder, RuleIndex, TooManyLimits
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage.reports import PAGE_KEY
from sluice.web.views.shared import web


def of_person(session: Session, person: SignedInUser, now: float) -> dict[str, Any]:
    """Return what templates/limits_left.html shows: limits with their use, and the names of keys."""
    keys = credentials.list_keys(session, person.id)
    return {
        "left": _left(session, person, [key for key in keys if credentials.is_live(key, now)], now),
        "key_names": {PAGE_KEY: web().texts.get("usage.page")} | {key.id: key.name for key in keys},
    }


def _left(
    session: Session, person: SignedInUser, keys: list[ApiKey], now: float
) -> list[limit_usage.LimitUsage] | None:
    """Return the user's limits with their use; None if there are more than the proxy supports."""
    chosen = session.get_one(User, person.id).page_project
    holder = Holder(person.pseudonym, person.groups, page_project(chosen, person.projects), "")
    book = RuleIndex(web().settings.limits)
    try:
        return limit_usage.of_user(session, book, holder, person.projects, keys, now)
    except TooManyLimits:
        return None
