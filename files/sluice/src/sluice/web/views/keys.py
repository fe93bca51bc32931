"""The pages of API keys: create (shown once), list, show, rotate, revoke; the chat page's project."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence

from flask import Blueprint, abort, make_response, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from sluice.contracts.authority import LIMITED
from sluice.web.database.tables import ApiKey, User
from sluice.web.keys import credentials, forms, pieces
from sluice.web.keys.credentials import NewKey
from sluice.web.keys.forms import FieldError
from sluice.web.keys.principals import page_project
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import reports, sums
from sluice.web.views import new_keys
from sluice.web.views.shared import signed_in, web
from sluice.web.words.validation import ValidationError

blueprint = Blueprint("keys", __name__, url_prefix="/keys")

# The list shows the requests of this many days.
USAGE_DAYS = 30
# How many models are offered for the pieces of a new key before the proxy was asked.
MAX_MODELS = 20


@blueprint.get("")
@signed_in
def index(person: SignedInUser) -> str:
    """Show the list of keys."""
    return _list(person)


@blueprint.post("")
@signed_in
def make(person: SignedInUser) -> AnyResponse:
    """Create a key; the page after it shows it, only once."""
    settings = web().settings
    reading = forms.read(request.form, settings.key_days, person.projects)
    if reading.settings is None:
        return make_response(_list(person, errors=reading.errors), 400)
    try:
        with web().database.write() as session:
            user = session.get_one(User, person.id)
            new = credentials.create_key(session, settings.key_secret, user, reading.settings, time.time())
    except ValidationError as error:
        return make_response(_list(person, errors=[FieldError("name", error)]), 409)
    return _to_new(new)


@blueprint.get("/<key_id>")
@signed_in
def show(person: SignedInUser, key_id: str) -> str:
    """Show one key: what it may do, its usage, and the forms to rotate or revoke it."""
    return _show(person, key_id)


@blueprint.post("/<key_id>/rotate")
@signed_in
def rotate(person: SignedInUser, key_id: str) -> AnyResponse:
    """Create a new key like this one, and show it once; the old key ends after the chosen time."""
    settings, now = web().settings, time.time()
    try:
        grace = forms.read_grace(request.form.get("grace", ""))
    except ValidationError as error:
        return make_response(_show(person, key_id, FieldError("grace", error)), 400)
    try:
        with web().database.write() as session:
            row = _own(session, person, key_id)
            credentials.check_rotation(row, person.projects, now)
            new = credentials.rotate_key(session, settings.key_secret, row, grace, settings.key_days, now)
    except ValidationError as error:
        return make_response(_show(person, key_id, FieldError("grace", error)), 409)
    return _to_new(new)


@blueprint.post("/<key_id>/revoke")
@signed_in
def revoke(person: SignedInUser, key_id: str) -> AnyResponse:
    """Revoke one of the user's own keys."""
    with web().database.write() as session:
        if not credentials.revoke_key(session, person.id, key_id, time.time()):
            abort(404)
    return redirect(url_for("keys.index"), code=303)


@blueprint.post("/page-project")
@signed_in
def choose_page_project(person: SignedInUser) -> AnyResponse:
    """Store the project for which the user's requests on the chat page count."""
    project = request.form.get("project", "")
    if project not in person.projects:
        abort(400)
    with web().database.write() as session:
        session.get_one(User, person.id).page_project = project
    return redirect(url_for("keys.index"), code=303)


def _to_new(new: NewKey) -> AnyResponse:
    return new_keys.redirect_to(url_for("keys.index", new=new.row.id), new)


def _own(session: Session, person: SignedInUser, key_id: str) -> ApiKey:
    row = credentials.find_key(session, person.id, key_id)
    if row is None:
        abort(404)
    return row


def _list(person: SignedInUser, *, errors: Sequence[FieldError] = ()) -> str:
    now = time.time()
    with web().database.read() as session:
        rows = credentials.list_keys(session, person.id)
        used = _used(session, person, now)
        chosen = session.get_one(User, person.id).page_project
        new = None if errors else new_keys.shown(session, person.id)
        models = _models(session, person, new, now)
    api_url = web().settings.api_url
    live = [row for row in rows if credentials.is_live(row, now)]
    return render_template(
        "keys.html",
        live=live,
        ended=[(row, _end(row)) for row in rows if row not in live],
        used=used,
        used_days=USAGE_DAYS,
        new=new,
        pieces=pieces.of_key(api_url, new.text) if new else (),
        models=models,
        projects=person.projects,
        page_project=page_project(chosen, person.projects),
        errors=_texts(errors),
        form=request.form if errors else {},
        days=web().settings.key_days,
        max_name=forms.MAX_NAME,
        numbers=LIMITED,
        api_url=api_url,
    )


def _show(person: SignedInUser, key_id: str, errors: FieldError | None = None) -> str:
    now = time.time()
    with web().database.read() as session:
        row = _own(session, person, key_id)
        used = [
            (group.group[1], group)
            for group in reports.summed(session, ("key", "model"), reports.UsageQuery(user=person.pseudonym))
            if group.group[0] == key_id
        ]
    return render_template(
        "keys_show.html",
        row=row,
        live=credentials.is_live(row, now),
        end=_end(row),
        left=bool(row.project) and row.project not in person.projects,
        used=used,
        errors=_texts([errors] if errors else []),
        numbers=[(name, getattr(row, name)) for name in LIMITED],
        max_grace=credentials.MAX_GRACE_DAYS,
    )


def _models(session: Session, person: SignedInUser, new: NewKey | None, now: float) -> Sequence[str]:
    """Return the models for the pieces of a new key, as far as they are known here: a script asks for all."""
    if new is None:
        return ()
    if new.row.models is not None:
        return new.row.models
    mine = sums.last_days(now, USAGE_DAYS, user=person.pseudonym)
    return [row.group[0] for row in sums.by(session, "model", mine, MAX_MODELS)]


def _used(session: Session, person: SignedInUser, now: float) -> Mapping[str, reports.UsageSum]:
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    since = today - datetime.timedelta(days=USAGE_DAYS - 1)
    wanted = reports.UsageQuery(since=since, user=person.pseudonym)
    return {row.group[0]: row for row in reports.summed(session, ("key",), wanted)}


def _texts(errors: Sequence[FieldError]) -> dict[str, str]:
    return {field: web().texts.get(error.text, **error.values) for field, error in errors}


def _end(row: ApiKey) -> float:
    return row.expires if row.revoked is None else row.revoked
