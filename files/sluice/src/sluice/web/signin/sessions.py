"""Sessions that several tabs of one browser change at once: each request writes what it changed, and no more.

Flask-Session writes a session whole, as the request read it: of two at once the later undoes the earlier, and
a new refresh token or a sign-in just begun is gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Flask, Request, current_app, session
from flask_session.base import ServerSideSession
from flask_session.cachelib import CacheLibSessionInterface

from sluice.web.http.page_error import PageError
from sluice.web.signin.session_store import SessionStore

logger = logging.getLogger(__name__)


class BrowserSession(ServerSideSession):  # type: ignore[misc]  # Flask-Session has no types.
    """One browser's session, and what it was when this request read it or last wrote it.

    `shown`: the id in the browser's cookie. `stored`: the id under which `was` is in the store; "" for none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cookie_id = ""
        self.stored_id = ""
        self.baseline: dict[str, Any] = {}


class SessionInterface(CacheLibSessionInterface):  # type: ignore[misc]
    """Flask-Session's interface on our store."""

    session_class = BrowserSession

    def __init__(self, app: Flask, save: SessionStore) -> None:
        super().__init__(app, client=save)
        # One process serves all (sluice.web.gunicorn), so that this is enough.
        self._lock = threading.Lock()

    def open_session(self, app: Flask, request: Request) -> BrowserSession:
        """Return the session that the request's cookie names, or a new one."""
        found: BrowserSession = super().open_session(app, request)
        found.cookie_id = request.cookies.get(self.get_cookie_name(app), "")
        if found.sid == found.cookie_id:
            found.stored_id, found.baseline = found.sid, dict(found)
        return found

    def should_set_cookie(self, app: Flask, session: BrowserSession) -> bool:
        """Tell whether the browser is to be told of an id: only one that it has not shown.

        The answer of a slow request must not take the browser back to a session that is over.
        """
        return bool(super().should_set_cookie(app, session)) and session.sid != session.cookie_id

    def save(self, session: BrowserSession) -> bool:
        """Write a session now: a request may yet fail, or take long. Tell whether it is written."""
        return self._write(current_app.permanent_session_lifetime, session, self._get_store_id(session.sid))

    def _upsert_session(self, session_lifetime: timedelta, session: BrowserSession, store_id: str) -> None:
        self._write(session_lifetime, session, store_id)

    def _write(self, lifetime: timedelta, session: BrowserSession, store_id: str) -> bool:
        with self._lock:
            found: Mapping[str, Any] | None = {}
            if session.stored_id == session.sid:
                found = self.cache.get(store_id)
            if found is None:
                # It ended meanwhile: nobody brings it back.
                return True
            written = bool(
                self.cache.set(
                    store_id, _merged(found, session.baseline, session), int(lifetime.total_seconds())
                )
            )
        session.stored_id, session.baseline = session.sid, dict(session)
        return written


def save() -> None:
    """Write the running request's session now. Raises PageError when it cannot be written."""
    interface: Any = current_app.session_interface
    if not interface.save(session):
        logger.error(
            "a session could not be written: check that its folder exists, belongs to Sluice and has "
            "free space"
        )
        raise PageError(503, "storage", outcome="storage", retry_after=30)


def _merged(found: Mapping[str, Any], baseline: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is `found` in the store with the changes from `was` to `now`. Pure."""
    if not found:
        return dict(now)
    kept = {name: value for name, value in found.items() if name in now or name not in baseline}
    changed = {name: value for name, value in now.items() if name not in baseline or baseline[name] != value}
    return {**kept, **changed}
