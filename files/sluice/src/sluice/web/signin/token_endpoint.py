"""Requests to the provider's token endpoint: client authentication, and reading the answer."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote_plus

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from requests import Response
from requests.exceptions import HTTPError

# The statuses of an address that no longer exists.
GONE_STATUSES = (404, 405, 410)

# An access token is used once, at once. If it lives for less than a minute, Authlib would refresh it before
# that, and the new refresh token would be lost.
_NOT_ASKED = ("expires_in", "expires_at")


class EndpointGone(HTTPError):
    """There is no token endpoint at this address, or no longer."""


class TokenSession(OAuth2Session):  # type: ignore[misc]  # Authlib has no types.
    """Authlib's session with the provider, which ignores when access tokens expire."""

    def parse_response_token(self, resp: Response) -> dict[str, Any]:
        """Return the token endpoint's answer, without expiry times.

        Raises OAuthError if the provider refuses; EndpointGone, or requests' HTTPError for a status of 500 or
        more; ValueError if the answer is not a JSON object with an access token.
        """
        if resp.status_code in GONE_STATUSES:
            raise EndpointGone(f"HTTP {resp.status_code}", response=resp)
        if resp.status_code >= 500:
            resp.raise_for_status()
        answer = resp.json()
        if not isinstance(answer, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY004  # As for invalid JSON.
        if "error" in answer:
            raise OAuthError(error=answer["error"], description=answer.get("error_description"))
        if not isinstance(answer.get("access_token"), str):
            raise ValueError("it has no access token")  # noqa: TRY004
        return {name: value for name, value in answer.items() if name not in _NOT_ASKED}


def client_secret_basic(
    client: Any, _method: str, uri: str, headers: dict[str, str], body: Any
) -> tuple[str, dict[str, str], Any]:
    """Put client id and secret into the Authorization header, each encoded as in RFC 6749 (2.3.1).

    Authlib does not encode them: a provider that decodes them would read another secret if it has `+` or `%`.
    """
    pair = ":".join(quote_plus(text) for text in (client.client_id, client.client_secret))
    headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return uri, headers, body
