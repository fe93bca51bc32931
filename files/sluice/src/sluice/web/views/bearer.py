"""The page bearer: what the chat page shows at /v1 in place of its cookie, which is worth nothing there.

The other way round it is worth nothing here: no page reads an Authorization header.
"""

from __future__ import annotations

import time

from flask import Blueprint, Response, jsonify, make_response

from sluice.web.keys import credentials
from sluice.web.views.errors import page
from sluice.web.views.shared import web

blueprint = Blueprint("bearer", __name__)


@blueprint.post("/page-bearer")
def make() -> Response:
    """Make a bearer for who is signed in: `{"bearer": …, "expires_in": seconds}`."""
    person = web().sign_in.person()
    if person is None:
        return page(401, "signed_out")
    settings = web().settings
    with web().database.write() as session:
        bearer = credentials.create_bearer(
            session, settings.key_secret, person.id, person.tag, settings.page_bearer_seconds, time.time()
        )
    web().bearers.inc()
    return make_response(jsonify({"bearer": bearer, "expires_in": settings.page_bearer_seconds}))
