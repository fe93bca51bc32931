"""What a person's groups give them, and how the provider's claims are read. Pure."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sluice.records import GROUP
from sluice.web.config import Access, Claims

logger = logging.getLogger(__name__)

USER = "user"
ADMIN = "admin"

# Of one person; each goes with every answer about their keys.
MOST_GROUPS = 500

# The longest identifier that is taken (OpenID Connect Core 2 has the same bound), and the longest name.
MOST_ID = 255
MOST_NAME = 200

# In one text, what stands between two groups.
_BETWEEN = re.compile(r"[\s,]+")


class Person(NamedTuple):
    """Somebody as the provider's claims describe them."""

    id: str
    name: str
    email: str
    groups: list[str]


def describe(claims: Mapping[str, object], names: Claims, groups: Mapping[str, str]) -> Person | None:
    """Return whom these claims describe; None if they lack an identifier that can be used.

    `groups`: groups by what the provider calls them, as in `Access.names`.
    An identifier is taken whole or not at all; of name and address what cannot be printed is left out.
    """
    found = identifier(claim(claims, names.id))
    if not found:
        return None
    return Person(
        id=found,
        name=_line(claim(claims, names.name)) or found,
        email=_line(claim(claims, names.email)),
        groups=usable_groups(claim(claims, names.groups), groups),
    )


def identifier(value: object) -> str:
    """Return a claim that names something, as text; "" if it is none, or one that nobody could type."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and len(value) <= MOST_ID and value.isprintable() else ""


def _line(value: object) -> str:
    # Neither control characters, nor lone surrogates, nor what turns the direction of writing is printable.
    kept = "".join(filter(str.isprintable, value[:MOST_ID])) if isinstance(value, str) else ""
    return kept.strip()[:MOST_NAME]


def may_sign_in(groups: Iterable[str], access: Access) -> bool:
    """Tell whether members of `groups` may use this service at all; administrators always may."""
    return not access.users or not set(groups).isdisjoint(access.users + access.admins)


def role_of(groups: Iterable[str], access: Access) -> str:
    """Return `admin` or `user`."""
    return USER if set(groups).isdisjoint(access.admins) else ADMIN


def projects_of(groups: Iterable[str], access: Access) -> tuple[str, ...]:
    """Return the projects whose members these groups are, by name."""
    given = set(groups)
    return tuple(sorted(name for name, of in access.projects.items() if not given.isdisjoint(of)))


def claim(claims: Mapping[str, object], path: str) -> object:
    """Return the claim called `path`, or the one at the end of that path into nested objects; else None.

    A claim whose own name has dots, an URL say, is found by its whole name, at every level.
    """
    if path in claims:
        return claims[path]
    for at, character in enumerate(path):
        inner = claims.get(path[:at]) if character == "." else None
        if isinstance(inner, Mapping):
            found = claim(inner, path[at + 1 :])
            if found is not None:
                return found
    return None


def usable_groups(value: object, names: Mapping[str, str] | None = None) -> list[str]:
    """Return the groups of a provider's claim that have the form of a group name, without repeats.

    A claim may be absent, a list, or one text of names divided by blanks or commas. What `names` has goes by
    the name given there. Other names of another form are left out and counted in the log: no model can name
    them, and folding them (case, slashes) could make two groups one.
    """
    found: dict[str, None] = {}
    dropped = 0
    for called in _values(value):
        name = (names or {}).get(called, called) if isinstance(called, str) else None
        if isinstance(name, str) and GROUP.fullmatch(name) and len(found) < MOST_GROUPS:
            found[name] = None
        else:
            dropped += 1
    if dropped:
        logger.warning(
            "groups of the provider left out: not of the form of a group name", extra={"dropped": dropped}
        )
    return list(found)


def _values(value: object) -> list[object]:
    if isinstance(value, str):
        return [name for name in _BETWEEN.split(value) if name]
    return value if isinstance(value, list) else []
