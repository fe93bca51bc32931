"""The page of limits: those of the inventory, those set here, and users close to a limit."""

from __future__ import annotations

import time

from flask import Blueprint, Response, abort, make_response, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from sluice.contracts.authority import LIMITED
from sluice.web.limits import admin_limits, limit_usage
from sluice.web.people import directory
from sluice.web.settings.config import LimitRule
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import sums
from sluice.web.views.admin.common import argument, done, error_text, field, number
from sluice.web.views.shared import admin_required, web
from sluice.web.words.validation import ValidationError

blueprint = Blueprint("admin_limits", __name__, url_prefix="/admin/limits")

MAX_NEAR = 20


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> Response:
    """Show the list and the form; the query string may name a limit for the form."""
    return _render({name: argument(name) for name in ("scope", "model")})


@blueprint.post("")
@admin_required
def put(person: SignedInUser) -> AnyResponse:
    """Set a limit."""
    try:
        rule = LimitRule(field("scope"), field("model"), **{name: number(name) for name in LIMITED})
        with web().database.write() as session:
            admin_limits.put(session, web().settings, person.pseudonym, rule, time.time())
    except ValidationError as error:
        given = {name: field(name) for name in ("scope", "model", *LIMITED)}
        return _render(given, problem=error_text(error), status=400)
    name = admin_limits.name_of(rule.scope, rule.model)
    return done(web().texts.get("admin.done_limit_set", name=name), url_for("admin_limits.index"))


@blueprint.post("/remove")
@admin_required
def remove(person: SignedInUser) -> AnyResponse:
    """Remove a limit that was set here."""
    scope, model = field("scope"), field("model")
    with web().database.write() as session:
        if not admin_limits.remove(session, person.pseudonym, scope, model, time.time()):
            abort(404)
    name = admin_limits.name_of(scope, model)
    return done(web().texts.get("admin.done_limit_removed", name=name), url_for("admin_limits.index"))


def _render(given: dict[str, str], *, problem: str = "", status: int = 200) -> Response:
    now, settings = time.time(), web().settings
    with web().database.read() as session:
        own = admin_limits.listed(session)
        edited = admin_limits.find(session, given["scope"], given["model"])
        groups = directory.groups(session)
        taken = sums.tokens_used(session, sums.last_days(now, 1), groups)
        near = limit_usage.nearest_limits((*settings.limits, *own), taken, MAX_NEAR)
        scopes = (
            [one.scope for one in near]
            + [rule.scope for rule in settings.limits]
            + [row.scope for row in own]
        )
        holders = [scope.partition(":")[2] for scope in scopes if scope.startswith("user:")]
        names = directory.names(session, holders)
    if edited is not None and not problem:
        for name in LIMITED:
            value = getattr(edited, name)
            given[name] = "" if value is None else str(value)
    text = render_template(
        "admin/limits.html",
        inventory=settings.limits,
        own=own,
        near=near,
        names=names,
        given=given,
        edited=edited is not None,
        limited=LIMITED,
        problem=problem,
    )
    return make_response(text, status)
