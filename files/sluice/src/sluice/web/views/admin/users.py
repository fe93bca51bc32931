"""The pages of users and service accounts: find, show, block, sign out, revoke keys."""

from __future__ import annotations

import time

from flask import Blueprint, Response, abort, make_response, render_template, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from sluice.web.admin import audit
from sluice.web.database.tables import SERVICE, User
from sluice.web.keys import actions, credentials
from sluice.web.people import accounts, directory, sign_ins
from sluice.web.settings import access
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.usage import sums
from sluice.web.views import new_keys
from sluice.web.views.admin.common import PAGE, argument, done, page
from sluice.web.views.shared import admin_required, web

blueprint = Blueprint("admin_users", __name__, url_prefix="/admin/users")

DAYS = 30
MAX_ROWS = 100


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> str:
    """Show the list, filtered by the search."""
    text = argument("search")
    kind = argument("kind")
    kind = kind if kind in directory.KINDS else ""
    shown = page()
    with web().database.read() as session:
        found = directory.search(session, text, kind, offset=shown.offset, most=PAGE + 1)
    return render_template(
        "admin/users.html",
        users=found[:PAGE],
        more=len(found) > PAGE,
        page=shown.number,
        search=text,
        kind=kind,
    )


@blueprint.get("/<user>")
@admin_required
def show(person: SignedInUser, user: str) -> Response:
    """Show one user."""
    return render(person, user)


@blueprint.post("/<user>/block")
@admin_required
def block(person: SignedInUser, user: str) -> AnyResponse:
    """Block a user: their sign-ins end, and their keys stop working."""
    if user == person.pseudonym:
        problem = web().texts.get("admin.not_yourself")
        return render(person, user, problem=problem, status=409)
    with web().database.write() as session:
        row, now = found(session, user), time.time()
        if row.blocked is None:
            accounts.block(session, row, now)
            audit.add(
                session, person.pseudonym, "user.block", user, {"blocked": False}, {"blocked": True}, now
            )
    return done(web().texts.get("admin.done_blocked", name=row.name), url_for("admin_users.show", user=user))


@blueprint.post("/<user>/unblock")
@admin_required
def unblock(person: SignedInUser, user: str) -> AnyResponse:
    """Unblock a user."""
    with web().database.write() as session:
        row, now = found(session, user), time.time()
        if row.blocked is not None:
            accounts.unblock(session, row)
            audit.add(
                session, person.pseudonym, "user.unblock", user, {"blocked": True}, {"blocked": False}, now
            )
    return done(
        web().texts.get("admin.done_unblocked", name=row.name), url_for("admin_users.show", user=user)
    )


@blueprint.post("/<user>/sign-out")
@admin_required
def sign_out(person: SignedInUser, user: str) -> AnyResponse:
    """End all sign-ins of a user."""
    with web().database.write() as session:
        row = found(session, user)
        ended = sign_ins.end_all(session, row.id)
        before, after = {"sign_ins": ended}, {"sign_ins": 0}
        audit.add(session, person.pseudonym, "user.sign_out", user, before, after, time.time())
    message = web().texts.get("admin.done_signed_out", name=row.name, number=ended)
    return done(message, url_for("admin_users.show", user=user))


@blueprint.post("/<user>/revoke-keys")
@admin_required
def revoke_keys(person: SignedInUser, user: str) -> AnyResponse:
    """Revoke all keys of a user, and end their sign-ins."""
    with web().database.write() as session:
        row = found(session, user)
        revoked = actions.revoke_all(session, person.pseudonym, row, time.time())
    message = web().texts.get("admin.done_revoked_all", name=row.name, number=revoked)
    return done(message, url_for("admin_users.show", user=user))


def found(session: Session, pseudonym: str) -> User:
    """Return the user with this pseudonym; answer 404 if there is none."""
    row = directory.find(session, pseudonym)
    if row is None:
        abort(404)
    return row


def render(person: SignedInUser, pseudonym: str, *, problem: str = "", status: int = 200) -> Response:
    """Return the page of a user, with the key that was just created for them."""
    now = time.time()
    settings = web().settings
    with web().database.read() as session:
        user = found(session, pseudonym)
        keys = credentials.list_keys(session, user.id)
        theirs = sums.last_days(now, DAYS, user=pseudonym)
        text = render_template(
            "admin/user.html",
            user=user,
            service=user.kind == SERVICE,
            role=access.role_of(user.groups, settings.access),
            projects=access.projects_of(user.groups, settings.access),
            myself=pseudonym == person.pseudonym,
            live=[key for key in keys if credentials.is_live(key, now)],
            ended=sum(1 for key in keys if not credentials.is_live(key, now)),
            sign_ins=sign_ins.of_user(session, user.id, web().sign_in.lifetime, now),
            total=sums.total(session, theirs),
            by_model=sums.by(session, "model", theirs, MAX_ROWS),
            days=DAYS,
            key_days=settings.key_days,
            new=new_keys.shown(session, user.id) if user.kind == SERVICE and not problem else None,
            problem=problem,
        )
    return make_response(text, status)
