"""OpenID Connect Back-Channel Logout 1.0: the provider ends sign-ins.

Anybody can send such a request. It counts only if it has a logout token that the provider has recently signed
for this service, and that was not used before.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joserfc.errors import ClaimError, JoseError
from joserfc.jwt import JWTClaimsRegistry
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sluice.web.database.tables import Database, UsedToken
from sluice.web.people import sign_ins
from sluice.web.settings import access
from sluice.web.settings.config import OidcConfig
from sluice.web.signin.provider import Provider

logger = logging.getLogger(__name__)

EVENT = "http://schemas.openid.net/event/backchannel-logout"
# Logout tokens are small: session id, subject, some times.
MAX_BYTES = 16 * 1024

MAX_EXPIRES = 1e12

_TYPES = ("logout+jwt", "application/logout+jwt", "jwt", "")


class InvalidLogoutToken(Exception):
    """The logout token is not valid; the message says why and does not quote the token."""


@dataclass(frozen=True)
class LogoutToken:
    """The claims of a logout token: whose sign-ins have ended, and the token's id `jti`.

    `sid`, the provider's session, or `subject` may be "". `expires`: seconds since the epoch.
    """

    sid: str
    subject: str
    jti: str
    expires: float


def read(text: str, provider: Provider, oidc: OidcConfig, now: float) -> LogoutToken:
    """Return the claims of a logout token after all checks.

    Raises InvalidLogoutToken; PageError or requests' RequestException if the provider's keys are unavailable.
    """
    if not 0 < len(text) <= MAX_BYTES:
        raise InvalidLogoutToken("logout_token is missing, or too long")
    try:
        token = provider.verify(text, untrusted=True)
        _check_claims(token.claims, oidc, now)
    except ClaimError as error:
        raise InvalidLogoutToken(f"the claim {error.claim} is not valid") from error
    except JoseError as error:
        raise InvalidLogoutToken("the signature was not made by the provider") from error
    if str(token.header.get("typ", "")).lower() not in _TYPES:
        raise InvalidLogoutToken("the token has the wrong type")
    return _described(token.claims)


def _check_claims(claims: dict[str, Any], oidc: OidcConfig, now: float) -> None:
    wanted = JWTClaimsRegistry(
        int(now),
        oidc.leeway,
        iss={"essential": True, "value": oidc.issuer},
        aud={"essential": True, "value": oidc.client_id},
        iat={"essential": True},
        exp={"essential": True},
        jti={"essential": True},
        events={"essential": True},
    )
    wanted.validate(claims)


def _described(claims: Mapping[str, Any]) -> LogoutToken:
    events = claims["events"]
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise InvalidLogoutToken("the claim events does not contain a logout")
    if "nonce" in claims:
        # ID tokens have a nonce: they must not be accepted as logout tokens.
        raise InvalidLogoutToken("a logout token must not have a nonce")
    sid, subject = _named(claims, "sid"), _named(claims, "sub")
    if not sid and not subject:
        raise InvalidLogoutToken("the token has neither the claim sid nor the claim sub")
    # JSON allows larger numbers than databases do.
    return LogoutToken(sid, subject, claims["jti"], float(min(claims["exp"], MAX_EXPIRES)))


def _named(claims: Mapping[str, Any], name: str) -> str:
    found = access.identifier(claims.get(name, ""))
    if name in claims and not found:
        # Without this claim, the token would end more sign-ins than it should.
        raise InvalidLogoutToken(f"the claim {name} is not valid")
    return found


def carry_out(database: Database, logout: LogoutToken, leeway: float, now: float) -> int:
    """End the sign-ins that `logout` names; return how many.

    Raises InvalidLogoutToken if the token was used before.
    """
    try:
        with database.write() as session:
            _mark_used(session, logout, leeway, now)
            ended = sign_ins.end_at_provider(session, sid=logout.sid, subject=logout.subject)
    except IntegrityError as error:
        raise InvalidLogoutToken("the token was already used") from error
    logger.info("the provider ended sign-ins", extra={"ended": ended})
    return ended


def _mark_used(session: Session, logout: LogoutToken, leeway: float, now: float) -> None:
    """Record that the token was used, until it expires."""
    session.execute(delete(UsedToken).where(UsedToken.expires <= now))
    # A digest, because the id can have any length.
    digest = hashlib.sha256(logout.jti.encode(errors="surrogatepass")).hexdigest()
    session.add(UsedToken(jti=digest, expires=logout.expires + leeway))
    session.flush()
