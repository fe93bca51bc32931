"""API keys: make one (shown once), list, revoke."""

from __future__ import annotations

import time

from flask import Blueprint, Response, abort, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from sluice.records import PRINTABLE
from sluice.web import credentials
from sluice.web.database import ApiKey, User
from sluice.web.shared import signed_in, web
from sluice.web.sign_in import SignedIn

blueprint = Blueprint("keys", __name__, url_prefix="/keys")

MAX_NAME = 60


@blueprint.get("")
@signed_in
def index(person: SignedIn) -> str:
    """The list."""
    return _render(person)


@blueprint.post("")
@signed_in
def make(person: SignedIn) -> Response:
    """Make a key and show it, this once."""
    name = request.form.get("name", "").strip()
    if not 0 < len(name) <= MAX_NAME or not PRINTABLE.fullmatch(name):
        return make_response(_render(person, problem=web().texts.get("keys.bad_name", most=MAX_NAME)), 400)
    settings = web().settings
    try:
        with web().database.write() as session:
            user = session.get_one(User, person.id)
            wanted = credentials.KeySettings(name, settings.key_days)
            new = credentials.make_key(session, settings.key_secret, user, wanted, time.time())
    except credentials.TooManyKeys:
        problem = web().texts.get("keys.too_many", most=credentials.MAX_KEYS)
        return make_response(_render(person, problem=problem), 409)
    return make_response(_render(person, new=new), 201)


@blueprint.post("/<key_id>/revoke")
@signed_in
def revoke(person: SignedIn, key_id: str) -> AnyResponse:
    """Revoke one of the person's own keys."""
    with web().database.write() as session:
        if not credentials.revoke_key(session, person.id, key_id, time.time()):
            abort(404)
    return redirect(url_for("keys.index"), code=303)


def _render(person: SignedIn, *, new: credentials.NewKey | None = None, problem: str = "") -> str:
    now = time.time()
    with web().database.read() as session:
        rows = credentials.list_keys(session, person.id)
    return render_template(
        "keys.html",
        live=[row for row in rows if credentials.is_live(row, now)],
        ended=[(row, _end(row)) for row in rows if not credentials.is_live(row, now)],
        new=new,
        problem=problem,
        days=web().settings.key_days,
        max_name=MAX_NAME,
        api_url=web().settings.public_url.rstrip("/") + "/v1",
    )


def _end(row: ApiKey) -> float:
    return row.expires if row.revoked is None else row.revoked
