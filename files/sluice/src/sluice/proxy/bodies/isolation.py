"""Separates an engine's cached prompts by user or project.

An engine that finds the beginning of a prompt in its cache answers sooner, and says how many tokens it found.
Where all users share one cache, that tells one of them what another has asked. So each request carries a salt
of its user's or project's own: to the engine, prompts with different salts have nothing in common.
"""

from __future__ import annotations

import hashlib
import secrets

from sluice.contracts.authority import Principal
from sluice.errors import SluiceError
from sluice.proxy.bodies.body import BodySummary
from sluice.proxy.bodies.fields import wrong

# What engines call the field, by how they keep caches apart (`cache_isolation` of a model's entry).
FIELDS = {"salt": "cache_salt", "off": "cache_prompt"}
_OFF = b'"cache_prompt":false,'


class Isolation:
    """Says what a request's body has to carry, and by whom requests are alike.

    `shared_by` is one of `config.CACHE_SALTS`. Salts live as long as this process: the first prompts behind a
    restart find nothing in the caches.
    """

    def __init__(self, shared_by: str) -> None:
        self._shared_by = shared_by
        self._key = secrets.token_bytes(32)

    def subject(self, principal: Principal) -> str:
        """Return whose cache the requests of a principal use; a request without a project is its user's."""
        if self._shared_by == "project" and principal.project:
            return f"project:{principal.project}"
        return f"user:{principal.user}"

    def member(self, way: str, principal: Principal, summary: BodySummary) -> bytes:
        """Return the member, with a comma, that goes behind the body's first brace, or b"" where none does.

        `way` is how the model's engine keeps caches apart. Raises SluiceError `invalid_request` for a body
        with a member of this name: who may choose a salt may choose another's.
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
    """Raise SluiceError `body_too_large` where a body of `size` bytes has no room for `member`."""
    if size + len(member) > most:
        raise SluiceError(
            "body_too_large", f"The body has {size} bytes; this model allows {most - len(member)}."
        )
