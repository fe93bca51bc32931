"""Rules for every request: CSRF, security headers, and which paths are our own."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request, session

from sluice.web.settings.config import WebConfig

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# The page's one policy for Trusted Types; without its name here, no script can make one.
WORKER_POLICY = "sluice-worker"

CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
CSRF_SESSION = "csrf"

# Endpoints that ignore cookies: their requests carry a signature.
_SELF_AUTHENTICATED = frozenset({"sign.back_channel"})

# Endpoints that work before sign-in, when there is no token yet. What they change, anybody may know, and it
# concerns this browser alone; pages of other sites may not change it either.
_WITHOUT_TOKEN = frozenset({"language.choose"})

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# A path on this host. To a browser, `//` or a backslash at the start would name another host.
_LOCAL_PATH = re.compile(r"/(?:[A-Za-z0-9._~%=&?-][A-Za-z0-9._~%=&?/-]{0,200})?")

# Browsers resolve these, escaped ones too: they would lead out of a prefix.
_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?=[/?]|$)", re.IGNORECASE)


def is_local_path(path: str, prefix: str = "") -> bool:
    """Tell whether `path` is a path on this host, below `prefix`: others may have the rest of the host."""
    below = path.startswith(f"{prefix}/") and not _DOTS.search(path)
    return below and _LOCAL_PATH.fullmatch(path) is not None


def new_csrf_token() -> str:
    """Return a new CSRF token."""
    return secrets.token_urlsafe(32)


class PublicUrl:
    """WSGI middleware: sets the public URL from the settings; Host and X-Forwarded-* headers are ignored.

    The URL's path is where the app is for browsers. nginx takes it off before it asks us.
    """

    def __init__(self, app: WSGIApplication, public_url: str) -> None:
        parts = urlsplit(public_url)
        self._app = app
        self._scheme = parts.scheme
        self._host = parts.netloc
        self._prefix = parts.path.rstrip("/")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass one request on."""
        environ["wsgi.url_scheme"] = self._scheme
        environ["HTTP_HOST"] = self._host
        environ["SCRIPT_NAME"] = self._prefix
        return self._app(environ, start_response)


def cookie_name(name: str, prefix: str) -> str:
    """Return a cookie's name with the strictest rule that browsers know for it.

    `__Host-` cookies come back only with Secure, Path=/ and no Domain. Below a prefix, where others may have
    the rest of the host, the path is ours and the rule is the next one: Secure.
    """
    return f"__Secure-{name}" if prefix else f"__Host-{name}"


def protect(app: Flask, settings: WebConfig) -> None:
    """Check for CSRF before each request of `app`, and add security headers to each answer."""
    parts = urlsplit(settings.public_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    headers = _headers(settings)

    @app.before_request
    def refuse_forged() -> None:
        if request.method in _SAFE_METHODS or request.endpoint in _SELF_AUTHENTICATED:
            return
        known = request.endpoint in _WITHOUT_TOKEN or _token_matches()
        if not (_same_origin(origin) and known):
            abort(403)

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _same_origin(origin: str) -> bool:
    # With the Referrer-Policy no-referrer, a form's Origin is "null". So Sec-Fetch-Site decides, if sent.
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Origin", origin) == origin


def _token_matches() -> bool:
    expected = session.get(CSRF_SESSION)
    given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
    return isinstance(expected, str) and hmac.compare_digest(expected.encode(), given.encode())


# For a document that draws what somebody wrote: in a frame of the page it has an origin of its own, runs the
# site's scripts, and loads and sends nothing.
DRAWING = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
    ),
    "X-Frame-Options": "SAMEORIGIN",
}


def _headers(settings: WebConfig) -> dict[str, str]:
    issuer = urlsplit(settings.oidc.issuer)
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        # Pictures that a script of the page made: diagrams.
        "img-src": "'self' blob:",
        # Of formulas.
        "font-src": "'self'",
        "frame-src": "'self'",
        "connect-src": "'self'",
        "worker-src": "'self'",
        # The sign-out form's answer redirects to the provider; browsers apply this rule to redirects too.
        "form-action": f"'self' {issuer.scheme}://{issuer.netloc}",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": WORKER_POLICY,
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Strict-Transport-Security": "max-age=31536000",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
    }
