"""What the pages' handlers share, found through the running app."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from flask import Flask, current_app, redirect, request, url_for
from werkzeug.wrappers import Response

from sluice.web.database.tables import Database
from sluice.web.http.guard import is_local_path
from sluice.web.http.metrics import Metrics
from sluice.web.http.page_error import PageError
from sluice.web.settings.access import ADMIN
from sluice.web.settings.config import WebConfig
from sluice.web.signin.sign_in import SignedInUser, SignIn
from sluice.web.words.texts import Texts

P = ParamSpec("P")
R = TypeVar("R")

# How old the provider's word on somebody's groups may be where administrators' rights rest on it, in seconds.
ADMIN_SECONDS = 900.0


class Web:
    """What the handlers share: settings, database, sign-in, texts, figures."""

    def __init__(self, app: Flask, settings: WebConfig, metrics: Metrics) -> None:
        self.settings = settings
        self.database = Database(settings.database, serving=True)
        self.metrics = metrics
        self.texts = Texts.load("en")
        self.sign_in = SignIn(app, settings, self.database, self.metrics)
        self.bearers = self.metrics.counter("page_bearers", "Page bearers made.")


def web() -> Web:
    """Return the running app's shared parts."""
    shared: Web = current_app.extensions["sluice"]
    return shared


def signed_in(view: Callable[Concatenate[SignedInUser, P], R]) -> Callable[P, R | Response]:
    """Give a page the person who is signed in; send anybody else to sign in, and back after it."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        person = web().sign_in.person()
        if person is None:
            return _to_sign_in()
        return view(person, *args, **kwargs)

    return guarded


def admin_required(view: Callable[Concatenate[SignedInUser, P], R]) -> Callable[P, R | Response]:
    """Give a page the administrator who is signed in; anybody else gets a page that refuses it.

    Rights come from the groups as the provider named them at most ADMIN_SECONDS ago: where it could not be
    asked since, an administrator signs in again.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        person = web().sign_in.person()
        if person is None:
            return _to_sign_in()
        if person.role != ADMIN:
            raise PageError(403, "not_admin")
        if time.time() - person.checked >= ADMIN_SECONDS:
            if request.method == "GET":
                return _to_sign_in()
            raise PageError(403, "admin_too_old")
        return view(person, *args, **kwargs)

    return guarded


def _to_sign_in() -> Response:
    back = request.path if request.method == "GET" and is_local_path(request.path) else url_for("chat.index")
    return redirect(url_for("oidc_auth.login", next=back))
