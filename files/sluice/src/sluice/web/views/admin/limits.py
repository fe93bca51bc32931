"""The page of limits: those of the inventory, those set here, and users close to a limit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, abort, make_response, render_template, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from sluice.contracts.authority import LIMITED
from sluice.web.admin import stopped_models
from sluice.web.database.tables import LimitRow, User
from sluice.web.limits import admin_limits, limit_usage
from sluice.web.people import directory
from sluice.web.settings import access
from sluice.web.settings.config import LimitRule
from sluice.web.settings.rules import numbers_of
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import sums
from sluice.web.views.admin import whom
from sluice.web.views.admin.common import (
    PAGE,
    argument,
    check_model,
    csv_file,
    done,
    error_text,
    field,
    number,
    page,
    sort,
    wants_csv,
)
from sluice.web.views.admin.whom import SeveralUsers, Whom
from sluice.web.views.shared import admin_required, web
from sluice.web.words.folding import folded, nearest
from sluice.web.words.validation import ValidationError

blueprint = Blueprint("admin_limits", __name__, url_prefix="/admin/limits")

MAX_NEAR = 20
# How many groups the form offers: a page must not grow with a site.
MAX_OFFERED = 300


# What the list can be sorted by.
SORTS = ("scope", "model", *LIMITED)


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> Response:
    """Show the list and the form, which the query string may fill; as a file with `format=csv`."""
    if wants_csv():
        return _csv()
    shown = whom.of_scope(argument("scope"))
    given = {"scope": argument("scope"), "model": argument("model"), "whom": shown.choice, "who": shown.name}
    return _render(given)


@blueprint.post("")
@admin_required
def put(person: SignedInUser) -> AnyResponse:
    """Set a limit."""
    try:
        with web().database.read() as session:
            scope = whom.scope_of(session, Whom(field("whom"), field("who")), field("user"))
        rule = LimitRule(scope, field("model"), **{name: number(name) for name in LIMITED})
        check_model(rule.model)
        _check_group(rule.scope)
        with web().database.write() as session:
            admin_limits.put(session, web().settings, person.pseudonym, rule, time.time())
    except ValidationError as error:
        given = {"scope": "", **{name: field(name) for name in ("whom", "who", "model", *LIMITED)}}
        offered = error.offered if isinstance(error, SeveralUsers) else ()
        return _render(given, problem=error_text(error), status=400, offered=offered)
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


def _check_group(scope: str) -> None:
    """Raise ValidationError for a group that neither a user nor the inventory has."""
    kind, _, name = scope.partition(":")
    if kind not in ("group", "member") or name == "*":
        return
    settings = web().settings
    known = set(access.configured_groups(settings.access, settings.limits).wanted)
    with web().database.read() as session:
        known.update(*directory.groups(session).values())
    if name not in known:
        raise ValidationError("no_such_group", group=name, near=nearest(name, known) or "-")


def _csv() -> Response:
    with web().database.read() as session:
        own = admin_limits.listed(session)
        names = _names(session, [row.scope for row in own])
    rows = (
        (row.scope, names.get(row.scope.partition(":")[2], ""), row.model, *numbers_of(row).values())
        for row in _chosen(own, names)
    )
    return csv_file("limits", ("scope", "name", "model", *LIMITED), rows)


def _names(session: Session, scopes: Iterable[str]) -> dict[str, str]:
    """Return the names of the users in the scopes of limits, by pseudonym."""
    return directory.names(session, [scope[5:] for scope in scopes if scope.startswith("user:")])


def _chosen(own: Sequence[LimitRow], names: Mapping[str, str]) -> list[LimitRow]:
    """Return the limits that the query string searches for, in its order."""
    part, order = folded(argument("search")), sort(SORTS)

    def key(row: LimitRow) -> tuple[Any, ...]:
        value = getattr(row, order.column)
        # No limit is above all limits.
        return (value is None, value or 0, row.scope) if order.column in LIMITED else (value, row.scope)

    def text(row: LimitRow) -> str:
        return folded(f"{row.scope}\n{names.get(row.scope.partition(':')[2], '')}\n{row.model}")

    return sorted((row for row in own if part in text(row)), key=key, reverse=order.descending)


def _render(
    given: dict[str, str], *, problem: str = "", status: int = 200, offered: Sequence[User] = ()
) -> Response:
    now, settings = time.time(), web().settings
    with web().database.read() as session:
        own = admin_limits.listed(session)
        edited = admin_limits.find(session, given["scope"], given["model"])
        groups = directory.groups(session)
        models = stopped_models.known_models(session)
        taken = sums.tokens_used(session, sums.last_days(now, 1), groups)
        near = limit_usage.nearest_limits((*settings.limits, *own), taken, MAX_NEAR)
        scopes = (
            [one.scope for one in near]
            + [rule.scope for rule in settings.limits]
            + [row.scope for row in own]
        )
        scopes.append(given["scope"])
        holders = [scope.partition(":")[2] for scope in scopes if scope.startswith("user:")]
        names = directory.names(session, holders)
    chosen, shown = _chosen(own, names), page()
    if edited is not None and not problem:
        for name in LIMITED:
            value = getattr(edited, name)
            given[name] = "" if value is None else str(value)
    text = render_template(
        "admin/limits.html",
        inventory=settings.limits,
        own=chosen[shown.offset : shown.offset + PAGE],
        number=len(chosen),
        pages=max(1, math.ceil(len(chosen) / PAGE)),
        page=shown.number,
        order=sort(SORTS),
        search=argument("search"),
        near=near,
        names=names,
        given=given,
        for_all=whom.ALL,
        offered=offered,
        edited=edited is not None,
        limited=LIMITED,
        projects=sorted(settings.access.projects),
        groups=sorted(set().union(*groups.values()))[:MAX_OFFERED],
        models=sorted(models),
        problem=problem,
    )
    return make_response(text, status)
