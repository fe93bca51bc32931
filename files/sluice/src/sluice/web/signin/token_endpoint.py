"""Asks the provider's token endpoint: how this service authenticates, and what it keeps of the answer."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote_plus

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from requests import Response
from requests.exceptions import HTTPError

# What a server answers at an address that it no longer has.
GONE_STATUSES = (404, 405, 410)

# An access token is used once, at once. Authlib would redeem the refresh token, before that single use, for a
# token that lives no longer than a minute, and nobody would keep the refresh token that comes instead.
_NOT_ASKED = ("expires_in", "expires_at")


class EndpointGone(HTTPError):
    """There is no token endpoint at that address (any more)."""


class TokenSession(OAuth2Session):  # type: ignore[misc]  # Authlib has no types.
    """Authlib's session with the provider, which takes a token for as good as it is when it is used."""

    def parse_response_token(self, resp: Response) -> dict[str, Any]:
        """Return the token endpoint's answer.

        Raises OAuthError when the provider refuses, requests' RequestException when it is not there or has an
        error, and ValueError when the answer is not the JSON object that it should be.
        """
        if resp.status_code in GONE_STATUSES:
            raise EndpointGone(f"HTTP {resp.status_code}", response=resp)
        if resp.status_code >= 500:
            resp.raise_for_status()
        answer = resp.json()
        if not isinstance(answer, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY004  # Like JSON that is none.
        if "error" in answer:
            raise OAuthError(error=answer["error"], description=answer.get("error_description"))
        if not isinstance(answer.get("access_token"), str):
            raise ValueError("it has no access token")  # noqa: TRY004
        return {name: value for name, value in answer.items() if name not in _NOT_ASKED}


def client_secret_basic(
    client: Any, _method: str, uri: str, headers: dict[str, str], body: Any
) -> tuple[str, dict[str, str], Any]:
    """Put id and secret into the Authorization header, each encoded as RFC 6749 (2.3.1) says.

    Authlib sends them as they are: a provider that decodes them reads another secret where it has `+` or `%`.
    """
    pair = ":".join(quote_plus(text) for text in (client.client_id, client.client_secret))
    headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return uri, headers, body
