"""OpenID Connect Back-Channel Logout 1.0: the provider says that a sign-in has ended.

Anybody can send such a request. What it says counts only if the provider signed it, for this service, lately,
as a logout token and nothing else, and if it was not shown before.
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
# Logout tokens are small: session id, subject, a few times.
MAX_BYTES = 16 * 1024

MAX_EXPIRES = 1e12

_TYPES = ("logout+jwt", "application/logout+jwt", "jwt", "")


class InvalidLogoutToken(Exception):
    """The text is no logout token that counts; the message says why, without a word of the token."""


@dataclass(frozen=True)
class LogoutToken:
    """What a logout token says: whose sign-ins are over, and its own id.

    `sid`, the provider's session, or `subject` may be "". `expires`: seconds since the epoch.
    """

    sid: str
    subject: str
    jti: str
    expires: float


def read(text: str, provider: Provider, oidc: OidcConfig, now: float) -> LogoutToken:
    """Return what a logout token says. Raises NoLogoutToken, or requests' RequestException for its keys."""
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
        # An ID token has one: it must not pass for a logout token.
        raise InvalidLogoutToken("a logout token has no nonce")
    sid, subject = _named(claims, "sid"), _named(claims, "sub")
    if not sid and not subject:
        raise InvalidLogoutToken("the token has neither a session nor a person")
    # JSON allows numbers that no database holds.
    return LogoutToken(sid, subject, claims["jti"], float(min(claims["exp"], MAX_EXPIRES)))


def _named(claims: Mapping[str, Any], name: str) -> str:
    found = access.identifier(claims.get(name, ""))
    if name in claims and not found:
        # Left out, it would make the token speak of more sign-ins than it does.
        raise InvalidLogoutToken(f"the claim {name} is not valid")
    return found


def carry_out(database: Database, logout: LogoutToken, leeway: float, now: float) -> int:
    """End the sign-ins that `logout` names; return how many. Raises NoLogoutToken: it was shown before."""
    try:
        with database.write() as session:
            _mark_used(session, logout, leeway, now)
            ended = sign_ins.end_at_provider(session, sid=logout.sid, subject=logout.subject)
    except IntegrityError as error:
        raise InvalidLogoutToken("the token was already used") from error
    logger.info("the provider ended sign-ins", extra={"ended": ended})
    return ended


def _mark_used(session: Session, logout: LogoutToken, leeway: float, now: float) -> None:
    """Write down that the token was shown, for as long as its own time would let it be shown again."""
    session.execute(delete(UsedToken).where(UsedToken.expires <= now))
    # Its digest: the token's maker may have made it as long as they like.
    digest = hashlib.sha256(logout.jti.encode(errors="surrogatepass")).hexdigest()
    session.add(UsedToken(jti=digest, expires=logout.expires + leeway))
    session.flush()
