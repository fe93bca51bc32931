"""The account page, and sign-out: here, everywhere, or by the provider. flask-oidc handles sign-in."""

from __future__ import annotations

import logging
import time

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from requests.exceptions import RequestException
from werkzeug.wrappers import Response as AnyResponse

from sluice.web.http.page_error import PageError
from sluice.web.people import sign_ins
from sluice.web.settings import access
from sluice.web.signin import back_channel as logout_tokens
from sluice.web.signin.sign_in import PREFIX, SignedInUser, empty_session
from sluice.web.usage import sums
from sluice.web.views import limits_left
from sluice.web.views.shared import signed_in, web

logger = logging.getLogger(__name__)

blueprint = Blueprint("sign", __name__, url_prefix=PREFIX)


@blueprint.post("/sign-out")
def out() -> AnyResponse:
    """End the sign-in here and at the provider."""
    return web().sign_in.sign_out()


@blueprint.post("/sign-out-everywhere")
def out_everywhere() -> AnyResponse:
    """End all sign-ins of this user here, and this browser's session at the provider."""
    return web().sign_in.sign_out(everywhere=True)


@blueprint.post("/end-sign-in")
@signed_in
def end_another(person: SignedInUser) -> AnyResponse:
    """End one of the user's sign-ins in another browser; one that has ended already is no error."""
    tag = access.identifier(request.form.get("sign_in", ""))
    if tag == person.tag:
        return web().sign_in.sign_out()
    with web().database.write() as transaction:
        sign_ins.end_of_user(transaction, person.id, tag)
    return redirect(url_for("sign.account"), code=303)


@blueprint.get("/signed-out")
def signed_out() -> Response:
    """Show that the user is signed out; the provider redirects the browser here."""
    if web().sign_in.person() is None:
        empty_session()
    return Response(render_template("signed_out.html"))


@blueprint.get("/account")
@signed_in
def account(person: SignedInUser) -> str:
    """Show what this service knows about the user: today's usage, what is left of their limits, sign-ins."""
    now = time.time()
    with web().database.read() as transaction:
        rows = sign_ins.of_user(transaction, person.id, web().sign_in.lifetime, now)
        return render_template(
            "account.html",
            rows=rows,
            today=sums.total(transaction, sums.last_days(now, 1, user=person.pseudonym)),
            **limits_left.of_person(transaction, person, now),
        )


@blueprint.post("/backchannel-logout")
def back_channel() -> tuple[Response, int]:
    """Accept a logout token of the provider. Its signature counts; cookies are ignored."""
    now, sign_in, settings = time.time(), web().sign_in, web().settings
    try:
        logout = logout_tokens.read(request.form.get("logout_token", ""), sign_in.client, settings.oidc, now)
        logout_tokens.carry_out(web().database, logout, settings.oidc.leeway, now)
    except logout_tokens.InvalidLogoutToken as error:
        logger.warning("a logout token was refused", extra={"why": str(error)})
        sign_in.count("logout_refused")
        return jsonify({"error": "invalid_request", "error_description": str(error)}), 400
    except (PageError, RequestException) as error:
        logger.warning("the provider's keys are not available", extra={"fault": type(error).__name__})
        problem = {
            "error": "temporarily_unavailable",
            "error_description": "the signature cannot be checked at the moment",
        }
        return jsonify(problem), 503
    sign_in.count("logged_out")
    return jsonify({}), 200
