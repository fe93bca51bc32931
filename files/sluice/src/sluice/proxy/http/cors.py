"""Which pages of other sites may use the API from a browser (CORS).

Never with credentials in the sense of CORS: a page must send an API key; cookies are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# An origin as browsers write it: scheme, ASCII host, and the port if it is not the scheme's default.
ORIGIN = re.compile(r"https?://[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[1-9][0-9]{0,4})?")
ANY = "*"
# The headers that a page may read.
EXPOSED = ", ".join(
    (
        "X-Request-Id",
        "Request-Id",
        "Retry-After",
        "x-should-retry",
        *(
            f"x-ratelimit-{what}-{of}"
            for of in ("requests", "tokens")
            for what in ("limit", "remaining", "reset")
        ),
    )
)
# How long a browser may cache the answer to a preflight request (seconds).
MAX_AGE = 600
_ASKED = re.compile(r"[A-Za-z0-9-]{1,64}(?: ?, ?[A-Za-z0-9-]{1,64}){0,31}")


class Cors:
    """The origins that a site allows: exact ones, or ANY."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origins)

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers with which a page of `origin` can read the answer."""
        if not self._origins:
            return {}
        # A cache must not give one origin's answer to another.
        found = {} if self._any else {"Vary": "Origin"}
        if origin is not None and self._allows(origin):
            found["Access-Control-Allow-Origin"] = ANY if self._any else origin
            found["Access-Control-Expose-Headers"] = EXPOSED
        return found

    def preflight(self, fields: Mapping[str, str], method: str) -> dict[str, str] | None:
        """Return the headers that allow a page to send a request to a path with the method `method`.

        `fields`: the headers of the request. None if it is not a preflight request or its origin is not
        allowed.
        """
        origin = fields.get("Origin")
        if origin is None or "Access-Control-Request-Method" not in fields or not self._allows(origin):
            return None
        found = {"Access-Control-Allow-Methods": method, "Access-Control-Max-Age": str(MAX_AGE)}
        asked = fields.get("Access-Control-Request-Headers", "")
        # Clients send various headers of their own; all are allowed, because most are ignored.
        if _ASKED.fullmatch(asked):
            found["Access-Control-Allow-Headers"] = asked
        return found

    def _allows(self, origin: str) -> bool:
        return self._any or origin in self._origins
