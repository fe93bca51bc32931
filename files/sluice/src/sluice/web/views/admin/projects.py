"""The pages of projects: their groups, members and usage."""

from __future__ import annotations

import time

from flask import Blueprint, abort, render_template

from sluice.web.people import directory
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import charts, sums
from sluice.web.views.admin.common import PAGE, page
from sluice.web.views.shared import admin_required, web

blueprint = Blueprint("admin_projects", __name__, url_prefix="/admin/projects")

DAYS = 30
# More than the users or projects of a site.
MAX_ROWS = 100_000


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> str:
    """Show the list."""
    access = web().settings.access
    with web().database.read() as session:
        members = directory.members(directory.groups(session), access)
        month = sums.last_days(time.time(), DAYS)
        used = {row.group[0]: row for row in sums.by(session, "project", month, MAX_ROWS)}
    rows = [
        (name, of, len(members[name]), used.get(name, sums.zero(name)))
        for name, of in sorted(access.projects.items())
    ]
    return render_template("admin/projects.html", rows=rows, days=DAYS, none=used.get("", sums.zero("")))


@blueprint.get("/<project>")
@admin_required
def show(_person: SignedInUser, project: str) -> str:
    """Show one project."""
    access, shown = web().settings.access, page()
    if project not in access.projects:
        abort(404)
    theirs = sums.last_days(time.time(), DAYS, project=project)
    with web().database.read() as session:
        used = {row.group[0]: row for row in sums.by(session, "user", theirs, MAX_ROWS)}
        members = directory.members(directory.groups(session), access)[project]
        members.sort(key=lambda one: -used[one].tokens if one in used else 0)
        part = members[shown.offset : shown.offset + PAGE]
        daily = sums.daily(session, theirs)
        return render_template(
            "admin/project.html",
            project=project,
            groups=access.projects[project],
            number=len(members),
            members=[(one, used.get(one, sums.zero(one))) for one in part],
            names=directory.names(session, part),
            more=len(members) > shown.offset + PAGE,
            page=shown.number,
            daily=daily,
            chart=charts.of_tokens(daily),
            by_model=sums.by(session, "model", theirs, MAX_ROWS),
            days=DAYS,
        )
