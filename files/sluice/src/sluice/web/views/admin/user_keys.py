"""Actions on users' keys: create a service account's key, revoke anybody's key."""

from __future__ import annotations

import time

from flask import Blueprint, abort, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from sluice.contracts.values import USER
from sluice.web.keys import actions, credentials, forms
from sluice.web.settings import access
from sluice.web.signin.sign_in import SignedInUser
from sluice.web.views import new_keys
from sluice.web.views.admin.common import done, error_text
from sluice.web.views.admin.users import found, render
from sluice.web.views.shared import admin_required, web
from sluice.web.words.validation import ValidationError

blueprint = Blueprint("admin_keys", __name__, url_prefix="/admin/users")


@blueprint.post("/<user>/keys")
@admin_required
def make(person: SignedInUser, user: str) -> AnyResponse:
    """Create a key for a service account; the page after it shows it, only once."""
    settings = web().settings
    try:
        with web().database.write() as session:
            row = found(session, user)
            projects = access.projects_of(row.groups, settings.access)
            reading = forms.read(request.form, settings.key_days, projects)
            if reading.settings is None:
                raise reading.errors[0].error
            now = time.time()
            new = actions.create(session, settings, person.pseudonym, row, reading.settings, now)
    except ValidationError as error:
        return render(person, user, problem=error_text(error), status=400)
    return new_keys.redirect_to(url_for("admin_users.show", user=user, new=new.row.id), new)


@blueprint.post("/<user>/keys/<key_id>/revoke")
@admin_required
def revoke(person: SignedInUser, user: str, key_id: str) -> AnyResponse:
    """Revoke one key."""
    with web().database.write() as session:
        owner = found(session, user)
        key = credentials.find_key(session, owner.id, key_id) if USER.fullmatch(key_id) else None
        if key is None:
            abort(404)
        actions.revoke(session, person.pseudonym, key, time.time())
    return done(web().texts.get("admin.done_revoked", name=key.name), url_for("admin_users.show", user=user))
