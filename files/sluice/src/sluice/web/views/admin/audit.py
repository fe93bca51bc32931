"""The page of the audit log."""

from __future__ import annotations

import re

from flask import Blueprint, Response, make_response, render_template, request

from sluice.web.admin import audit
from sluice.web.people import directory
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.views.admin.common import PAGE, argument, error_text
from sluice.web.views.shared import admin_required, web
from sluice.web.words import times
from sluice.web.words.validation import ValidationError

blueprint = Blueprint("admin_audit", __name__, url_prefix="/admin/audit")

# A word that fits more users than these finds the entries of some of them.
MOST_PEOPLE = 200

_FIELDS = ("actor", "action", "object", "since", "until")


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> Response:
    """Show the log, newest first, filtered by the query string."""
    given = {name: argument(name) for name in _FIELDS}
    try:
        wanted = _wanted(given)
    except ValidationError as error:
        return _render(given, audit.EVERYTHING, problem=error_text(error), status=400)
    return _render(given, wanted)


def _wanted(given: dict[str, str]) -> audit.Filter:
    since, until = times.read(given["since"]), times.read(given["until"])
    actors, objects = _people(given["actor"]), _people(given["object"])
    # A limit of one user is an object too.
    limits = tuple(f"user:{one}" for one in objects)
    return audit.Filter(actors, given["action"], objects + limits, since, until)


def _people(typed: str) -> tuple[str, ...]:
    """Return what was typed, and the pseudonyms of the users whom it fits; nothing for nothing."""
    if not typed:
        return ()
    with web().database.read() as session:
        ids = directory.search(session, directory.Wanted(typed))[:MOST_PEOPLE]
        return (typed, *(user.pseudonym for user in directory.load(session, ids)))


def _render(given: dict[str, str], wanted: audit.Filter, *, problem: str = "", status: int = 200) -> Response:
    below = request.args.get("below", "")
    before = int(below) if re.fullmatch(r"[0-9]{1,15}", below) else None
    with web().database.read() as session:
        rows = audit.entries(session, wanted, most=PAGE + 1, below=before)
        names = directory.names(session, {row.actor for row in rows} | {row.object for row in rows})
        known = audit.actions(session)
    text = render_template(
        "admin/audit.html",
        rows=[(row, changes(row.before, row.after)) for row in rows[:PAGE]],
        next=rows[PAGE - 1].id if len(rows) > PAGE else None,
        names=names,
        actions=known,
        given=given,
        filtered={name: value for name, value in given.items() if value},
        problem=problem,
    )
    return make_response(text, status)


def changes(
    before: dict[str, object] | None, after: dict[str, object] | None
) -> list[tuple[str, object, object]]:
    """Return the changed values as (name, before, after); None if there was or is no value."""
    was, became = before or {}, after or {}
    return [
        (name, was.get(name), became.get(name))
        for name in dict.fromkeys((*was, *became))
        if was.get(name) != became.get(name)
    ]
