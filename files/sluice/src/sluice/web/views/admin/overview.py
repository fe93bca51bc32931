"""The overview page: usage, users, models."""

from __future__ import annotations

import time

from flask import Blueprint, render_template

from sluice.web.admin import announcements, stopped_models
from sluice.web.people import directory
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import charts, sums
from sluice.web.views.shared import admin_required, web

blueprint = Blueprint("admin", __name__, url_prefix="/admin")

DAYS = 30
MAX_ROWS = 10


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> str:
    """Show the page."""
    now = time.time()
    with web().database.read() as session:
        month, today = sums.last_days(now, DAYS), sums.last_days(now, 1)
        daily = sums.daily(session, month)
        busiest = sums.by(session, "user", today, MAX_ROWS)
        return render_template(
            "admin/overview.html",
            days=DAYS,
            today=daily[-1],
            total=sums.total(session, month),
            users_today=sums.users(session, today),
            users=sums.users(session, month),
            daily=daily,
            chart=charts.of_tokens(daily),
            by_model=sums.by(session, "model", month, MAX_ROWS),
            busiest=busiest,
            names=directory.names(session, [row.group[0] for row in busiest]),
            stopped=stopped_models.stopped(session),
            announced=announcements.shown(session, now),
        )
