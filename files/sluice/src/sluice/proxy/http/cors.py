"""Which web pages of other sites may use the API from their visitors' browsers (CORS).

Never with credentials: a page must bring an API key of its own, cookies count for nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# An origin as browsers write it: scheme, host in ASCII, and the port unless it is the scheme's own.
ORIGIN = re.compile(r"https?://[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[1-9][0-9]{0,4})?")
ANY = "*"
# What a page may read beside the body.
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
# Browsers ask again after so many seconds.
MAX_AGE = 600
_ASKED = re.compile(r"[A-Za-z0-9-]{1,64}(?: ?, ?[A-Za-z0-9-]{1,64}){0,31}")


class Cors:
    """The origins that a site lets in: exact ones, or ANY."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = ANY in origins
        self._origins = frozenset(origins)

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return what an answer needs for the page of `origin` to read it."""
        if not self._origins:
            return {}
        # What is kept for one origin must not be given to another.
        found = {} if self._any else {"Vary": "Origin"}
        if origin is not None and self._allows(origin):
            found["Access-Control-Allow-Origin"] = ANY if self._any else origin
            found["Access-Control-Expose-Headers"] = EXPOSED
        return found

    def preflight(self, fields: Mapping[str, str], method: str) -> dict[str, str] | None:
        """Return the headers that let a page send a request to a path that takes `method`.

        `fields` are those of the browser's question. None: it is none, or its origin is not let in.
        """
        origin = fields.get("Origin")
        if origin is None or "Access-Control-Request-Method" not in fields or not self._allows(origin):
            return None
        found = {"Access-Control-Allow-Methods": method, "Access-Control-Max-Age": str(MAX_AGE)}
        asked = fields.get("Access-Control-Request-Headers", "")
        # Clients send headers of their own making; what any of them says is read where it counts alone.
        if _ASKED.fullmatch(asked):
            found["Access-Control-Allow-Headers"] = asked
        return found

    def _allows(self, origin: str) -> bool:
        return self._any or origin in self._origins
