"""The usage page: what the user has used, and what is left of their limits."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, render_template
from sqlalchemy.orm import Session

from sluice.web.database.tables import ApiKey, User
from sluice.web.keys import credentials
from sluice.web.keys.principals import page_project
from sluice.web.limits import limit_usage
from sluice.web.settings.rules import Holder, RuleIndex, TooManyLimits
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import charts, sums
from sluice.web.usage.reports import PAGE_KEY
from sluice.web.views.shared import signed_in, web

blueprint = Blueprint("usage", __name__, url_prefix="/usage")

DAYS = 30
# The most rows of a table.
MAX_ROWS = 100


@blueprint.get("")
@signed_in
def index(person: SignedInUser) -> str:
    """Show the page."""
    now = time.time()
    with web().database.read() as session:
        keys = credentials.list_keys(session, person.id)
        return render_template(
            "usage.html",
            **_used(session, person, now),
            left=_left(session, person, [key for key in keys if credentials.is_live(key, now)], now),
            key_names={PAGE_KEY: web().texts.get("usage.page")} | {key.id: key.name for key in keys},
            days=DAYS,
        )


def _used(session: Session, person: SignedInUser, now: float) -> dict[str, Any]:
    mine = sums.last_days(now, DAYS, user=person.pseudonym)
    daily = sums.daily(session, mine)
    return {
        "total": sums.total(session, mine),
        "today": daily[-1],
        "daily": daily,
        "chart": charts.of_tokens(daily),
        "by_model": sums.by(session, "model", mine, MAX_ROWS),
        "by_key": sums.by(session, "key", mine, MAX_ROWS),
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
