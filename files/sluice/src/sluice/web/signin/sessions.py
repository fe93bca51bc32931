"""Sessions that several tabs of a browser can change at once: each request writes only what it changed.

Flask-Session writes the whole session as the request read it. Of two simultaneous requests, the later would
undo the changes of the earlier, and lose a new refresh token or a sign-in that was just begun.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Flask, Request, Response, current_app, session
from flask import request as current_request
from flask_session.base import ServerSideSession
from flask_session.cachelib import CacheLibSessionInterface

from sluice.web.http import assets
from sluice.web.http.page_error import PageError
from sluice.web.signin.session_store import SessionStore

logger = logging.getLogger(__name__)


class BrowserSession(ServerSideSession):  # type: ignore[misc]  # Flask-Session has no types.
    """One browser's session, and its content when this request read it or last wrote it (`baseline`).

    `cookie_id`: the id in the browser's cookie. `stored_id`: the id of `baseline` in the store, "" if none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cookie_id = ""
        self.stored_id = ""
        self.baseline: dict[str, Any] = {}


class SessionInterface(CacheLibSessionInterface):  # type: ignore[misc]
    """Flask-Session's interface that merges changes in our store."""

    session_class = BrowserSession

    def __init__(self, app: Flask, save: SessionStore) -> None:
        super().__init__(app, client=save)
        # A lock in memory is enough: one process serves all requests (sluice.web.gunicorn).
        self._lock = threading.Lock()

    def open_session(self, app: Flask, request: Request) -> BrowserSession:
        """Return the session that the request's cookie names, or a new one."""
        found: BrowserSession = super().open_session(app, request)
        found.cookie_id = request.cookies.get(self.get_cookie_name(app), "")
        if found.sid == found.cookie_id:
            found.stored_id, found.baseline = found.sid, dict(found)
        return found

    def save_session(self, app: Flask, session: BrowserSession, response: Response) -> None:
        """Write what the request changed. What pages load has no session: it is the same for everybody."""
        if current_request.endpoint != assets.ENDPOINT:
            super().save_session(app, session, response)

    def should_set_cookie(self, app: Flask, session: BrowserSession) -> bool:
        """Tell whether to send the session's id as a cookie: only if the browser does not have it yet.

        The answer of a slow request must not bring back the id of a session that has ended.
        """
        return bool(super().should_set_cookie(app, session)) and session.sid != session.cookie_id

    def save(self, session: BrowserSession) -> bool:
        """Write a session now, because the request may still fail or take long. Return False on failure."""
        return self._write(current_app.permanent_session_lifetime, session, self._get_store_id(session.sid))

    def _upsert_session(self, session_lifetime: timedelta, session: BrowserSession, store_id: str) -> None:
        self._write(session_lifetime, session, store_id)

    def _write(self, lifetime: timedelta, session: BrowserSession, store_id: str) -> bool:
        with self._lock:
            found: Mapping[str, Any] | None = {}
            if session.stored_id == session.sid:
                found = self.cache.get(store_id)
            if found is None:
                # Another request has ended the session: do not bring it back.
                return True
            written = bool(
                self.cache.set(
                    store_id, _merged(found, session.baseline, session), int(lifetime.total_seconds())
                )
            )
        session.stored_id, session.baseline = session.sid, dict(session)
        return written


def save() -> None:
    """Write the current request's session now. Raises PageError if that fails."""
    interface: Any = current_app.session_interface
    if not interface.save(session):
        logger.error(
            "a session could not be written: check that its folder exists, belongs to Sluice and has "
            "free space"
        )
        raise PageError(503, "storage", outcome="storage", retry_after=30)


def _merged(found: Mapping[str, Any], baseline: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored session `found` with the changes from `baseline` to `now`. Pure."""
    if not found:
        return dict(now)
    kept = {name: value for name, value in found.items() if name in now or name not in baseline}
    changed = {name: value for name, value in now.items() if name not in baseline or baseline[name] != value}
    return {**kept, **changed}
