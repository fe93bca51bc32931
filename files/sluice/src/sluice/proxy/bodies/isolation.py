"""Separates an engine's cached prompts by user or project.

An engine that finds the beginning of a prompt in its cache answers sooner and reports how many tokens it
found. If all users shared the cache, one could learn what another has asked. So each request carries a salt
of its user or project: for the engine, prompts with different salts have nothing in common.
"""

from __future__ import annotations

import hashlib
import secrets

from sluice.contracts.authority import Principal
from sluice.errors import SluiceError
from sluice.proxy.bodies.body import BodySummary
from sluice.proxy.bodies.fields import wrong

# The engines' field, by their way of isolation (`cache_isolation` in a model entry).
FIELDS = {"salt": "cache_salt", "off": "cache_prompt"}
_OFF = b'"cache_prompt":false,'


class Isolation:
    """Returns the member that separates a request's body in an engine's cache.

    `shared_by` is one of `config.CACHE_SALTS`. A new process has new salts: the first prompts after a restart
    find nothing in the caches.
    """

    def __init__(self, shared_by: str) -> None:
        self._shared_by = shared_by
        self._key = secrets.token_bytes(32)

    def subject(self, principal: Principal) -> str:
        """Return who shares the cache with the principal: its project, or only its user if it has none."""
        if self._shared_by == "project" and principal.project:
            return f"project:{principal.project}"
        return f"user:{principal.user}"

    def member(self, way: str, principal: Principal, summary: BodySummary) -> bytes:
        """Return the member, with a comma, to insert after the body's first brace, or b"".

        `way` is the model's `cache_isolation`. Raises SluiceError `invalid_request` if the body has a member
        of this name: a user could choose the salt of another user.
        """
        name = FIELDS.get(way)
        if name is None or self._shared_by == "none":
            return b""
        if name in summary.cache_fields:
            raise wrong(name, "cannot be set: the service sets it, to separate users' prompts")
        if way == "off":
            return _OFF
        subject = self.subject(principal).encode()
        salt = hashlib.blake2b(subject, key=self._key, digest_size=16).hexdigest()
        return f'"cache_salt":"{salt}",'.encode()


def check_room(size: int, member: bytes, most: int) -> None:
    """Raise SluiceError `body_too_large` if a body of `size` bytes and `member` exceed `most` bytes."""
    if size + len(member) > most:
        raise SluiceError(
            "body_too_large", f"The body has {size} bytes; this model allows {most - len(member)}."
        )
