"""Page bearers: the chat page sends them to /v1, which ignores cookies.

The pages, in turn, ignore the Authorization header.
"""

from __future__ import annotations

import time

from flask import Blueprint, Response, jsonify, make_response

from sluice.web.admin import announcements
from sluice.web.keys import credentials
from sluice.web.views.errors import page
from sluice.web.views.shared import web

blueprint = Blueprint("bearer", __name__)


@blueprint.post("/page-bearer")
def make() -> Response:
    """Create a bearer for the signed-in user: `{"bearer": …, "expires_in": seconds, "announcements": […]}`.

    A page that stays open asks for one every few minutes, and so hears what is announced meanwhile.
    """
    person = web().sign_in.person()
    if person is None:
        return page(401, "signed_out")
    settings, now = web().settings, time.time()
    with web().database.write() as session:
        bearer = credentials.create_bearer(
            session, settings.key_secret, person.id, person.tag, settings.page_bearer_seconds, now
        )
        announced = announcements.for_pages(session, now)
    web().bearers.inc()
    lifetime = settings.page_bearer_seconds
    return make_response(jsonify({"bearer": bearer, "expires_in": lifetime, "announcements": announced}))
