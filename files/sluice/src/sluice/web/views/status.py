"""The status page: which models there are and how long they are waited for, and what is announced.

Only the proxy knows the models, so a script on the page asks it with a page bearer.
"""

from __future__ import annotations

import time

from flask import Blueprint, render_template

from sluice.web.admin import announcements
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.views.shared import signed_in, web

blueprint = Blueprint("status", __name__, url_prefix="/status")


@blueprint.get("")
@signed_in
def index(_person: SignedInUser) -> str:
    """Show the page."""
    now = time.time()
    with web().database.read() as session:
        return render_template(
            "status.html",
            shown=announcements.shown(session, now),
            planned=announcements.planned(session, now),
        )
