"""The usage page: what the user has used, and what is left of their limits."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, render_template
from sqlalchemy.orm import Session

from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import charts, sums
from sluice.web.views import limits_left
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
        return render_template(
            "usage.html",
            **_used(session, person, now),
            **limits_left.of_person(session, person, now),
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
