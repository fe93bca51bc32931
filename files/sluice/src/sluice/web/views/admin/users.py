"""The pages of users and service accounts: find, show, block, sign out, revoke keys."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence, Set

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
from sluice.web.views.admin.common import PAGE, argument, csv_file, done, page, sort, wants_csv
from sluice.web.views.shared import admin_required, web
from sluice.web.words import times

blueprint = Blueprint("admin_users", __name__, url_prefix="/admin/users")

DAYS = 30
MAX_ROWS = 100


@blueprint.get("")
@admin_required
def index(_person: SignedInUser) -> Response:
    """Show the list, filtered and sorted by the query string; as a file with `format=csv`."""
    rights, order, shown = web().settings.access, sort(directory.SORTS), page()
    given = {name: argument(name) for name in ("search", "kind", "group", "project")}
    if given["kind"] not in directory.KINDS:
        given["kind"] = ""
    groups = _groups(given["group"], given["project"], rights.projects)
    wanted = directory.Wanted(given["search"], given["kind"], groups, *order)
    with web().database.read() as session:
        if wants_csv():
            return _csv(directory.listed(session, wanted))
        ids = directory.search(session, wanted)
        users = directory.load(session, ids[shown.offset : shown.offset + PAGE])
    text = render_template(
        "admin/users.html",
        users=users,
        number=len(ids),
        pages=max(1, math.ceil(len(ids) / PAGE)),
        page=shown.number,
        given=given,
        order=order,
        filtered={name: value for name, value in given.items() if value},
        projects=sorted(rights.projects),
    )
    return make_response(text)


def _groups(group: str, project: str, projects: Mapping[str, Sequence[str]]) -> Set[str] | None:
    """Return the groups of which a listed user has one; None for all users."""
    if group:
        return {group} if not project or group in projects.get(project, ()) else set()
    return set(projects.get(project, ())) if project else None


def _csv(users: Sequence[directory.Listed]) -> Response:
    rights = web().settings.access
    names = (
        "name",
        "email",
        "subject",
        "pseudonym",
        "kind",
        "groups",
        "projects",
        "created",
        "seen",
        "blocked",
    )
    rows = (
        (
            *(user.name, user.email, user.subject, user.pseudonym, user.kind, ";".join(user.groups)),
            ";".join(access.projects_of(user.groups, rights)),
            *(times.written(user.created), times.written(user.seen)),
            "" if user.blocked is None else times.written(user.blocked),
        )
        for user in users
    )
    return csv_file("users", names, rows)


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
