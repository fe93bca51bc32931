"""What the handlers of the pages' app share, found through the running app."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from flask import current_app, redirect, request, url_for
from werkzeug.wrappers import Response

from sluice.web.sign_in import SignedIn

if TYPE_CHECKING:
    from sluice.web.app import Web

P = ParamSpec("P")
R = TypeVar("R")


def web() -> Web:
    """Return the running app's shared parts."""
    shared: Web = current_app.extensions["sluice"]
    return shared


def signed_in(view: Callable[Concatenate[SignedIn, P], R]) -> Callable[P, R | Response]:
    """Give a page the person who is signed in; send anybody else to sign in, and back after it."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        person = web().sign_in.person()
        if person is None:
            back = request.path if request.method == "GET" else url_for("chat.index")
            return redirect(url_for("oidc_auth.login", next=back))
        return view(person, *args, **kwargs)

    return guarded
