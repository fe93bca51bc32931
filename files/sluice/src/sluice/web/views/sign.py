"""Signing out, and the page after it. Signing in is flask-oidc's pair of redirects under /auth."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, session
from werkzeug.wrappers import Response as AnyResponse

from sluice.web.shared import web
from sluice.web.sign_in import PREFIX

blueprint = Blueprint("sign", __name__, url_prefix=PREFIX)


@blueprint.post("/sign-out")
def out() -> AnyResponse:
    """End the session here and at the provider."""
    return web().sign_in.leave()


@blueprint.get("/signed-out")
def signed_out() -> Response:
    """Say that it is done; the provider sends the browser here."""
    if web().sign_in.person() is None:
        session.clear()
    return Response(render_template("signed_out.html"))
