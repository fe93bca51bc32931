"""What the views share, through the current app."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from flask import Flask, current_app, redirect, request, url_for
from werkzeug.wrappers import Response

from sluice.web.database.tables import Database
from sluice.web.http import language
from sluice.web.http.brand import Brand
from sluice.web.http.guard import is_local_path
from sluice.web.http.metrics import Metrics
from sluice.web.http.page_error import PageError
from sluice.web.settings.access import ADMIN
from sluice.web.settings.config import WebConfig
from sluice.web.signin.sign_in import SignedInUser, SignIn
from sluice.web.words.languages import DEFAULT, LANGUAGES
from sluice.web.words.texts import Texts

P = ParamSpec("P")
R = TypeVar("R")

# How old the groups of an administrator may be, in seconds.
ADMIN_SECONDS = 900.0


class Web:
    """What the views share: settings, database, sign-in, texts, metrics."""

    def __init__(self, app: Flask, settings: WebConfig, metrics: Metrics) -> None:
        self.settings = settings
        self.database = Database(settings.database, serving=True)
        self.metrics = metrics
        self._texts = {name: Texts.load(name) for name in LANGUAGES}
        # For programs, which may look at messages.
        self.english = self._texts[DEFAULT]
        self.brand = Brand(settings.branding)
        self.sign_in = SignIn(app, settings, self.database, self.metrics)
        self.bearers = self.metrics.counter("page_bearers", "Page bearers made.")

    @property
    def texts(self) -> Texts:
        """The texts in the language of the current request."""
        return self._texts[language.current()]


def web() -> Web:
    """Return the shared parts of the current app."""
    shared: Web = current_app.extensions["sluice"]
    return shared


def signed_in(view: Callable[Concatenate[SignedInUser, P], R]) -> Callable[P, R | Response]:
    """Pass the signed-in user to a view; redirect others to sign-in, and back afterwards."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        person = web().sign_in.person()
        if person is None:
            return _to_sign_in()
        return view(person, *args, **kwargs)

    return guarded


def admin_required(view: Callable[Concatenate[SignedInUser, P], R]) -> Callable[P, R | Response]:
    """Pass the signed-in administrator to a view; others get a page that refuses access.

    The provider must have confirmed the groups within ADMIN_SECONDS; otherwise the administrator must sign in
    again.
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
    return redirect(url_for("oidc_auth.login", next=here()))


def legal_links(site: Web) -> list[tuple[str, str]]:
    """Return the titles and addresses of the site's own pages that it has."""
    found = []
    for name in ("imprint", "privacy"):
        passage = site.brand.passage(name, language.current())
        if passage is not None:
            found.append((site.texts.get(f"site.{name}"), passage.link or url_for(f"site.{name}")))
    return found


def here() -> str:
    """Return the path of the page that is shown; the start page's if it cannot be loaded again."""
    path = request.script_root + request.path
    again = request.method == "GET" and is_local_path(path, request.script_root)
    return path if again else url_for("chat.index")
