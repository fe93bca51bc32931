"""What a person's groups allow, and how to read the provider's claims. Pure."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sluice.contracts.words import GROUP
from sluice.web.settings.config import Access, Claims, LimitRule

logger = logging.getLogger(__name__)

USER = "user"
ADMIN = "admin"

# Of one person; each goes with every answer about their keys.
MAX_GROUPS = 500

# The longest identifier that is taken (OpenID Connect Core 2 has the same bound), and the longest name.
MAX_ID = 255
MAX_NAME = 200

# In one text, what stands between two groups. Shibboleth puts a semicolon between the values of an attribute,
# and a backslash before one that belongs to a value.
_BETWEEN = re.compile(r"[\s,]+")
_BETWEEN_VALUES = re.compile(r"\s*(?<!\\);\s*")

# Where a provider says that there are groups, and does not send them (OpenID Connect Core 5.6.2; Entra).
_ELSEWHERE = "_claim_names"
_HAS_GROUPS = "hasgroups"


class ConfiguredGroups(NamedTuple):
    """Groups that the settings name: `names` by what the provider calls them, `wanted` by their own names."""

    names: Mapping[str, str]
    wanted: frozenset[str]


NO_CONFIGURED_GROUPS = ConfiguredGroups({}, frozenset())


def configured_groups(access: Access, limits: Iterable[LimitRule]) -> ConfiguredGroups:
    """Return the groups that the settings name; those of models stand in the models' own entries."""
    wanted = {*access.admins, *access.users, *access.names.values()}
    wanted.update(*access.projects.values())
    for rule in limits:
        kind, _, name = rule.scope.partition(":")
        if kind in ("group", "member"):
            wanted.add(name)
    return ConfiguredGroups(access.names, frozenset(wanted))


class Identity(NamedTuple):
    """Somebody as the provider's claims describe them."""

    id: str
    name: str
    email: str
    groups: list[str]


def read_identity(claims: Mapping[str, object], names: Claims, known: ConfiguredGroups) -> Identity | None:
    """Return whom these claims describe; None if they lack an identifier that can be used.

    An identifier is taken whole or not at all; of name and address what cannot be printed is left out.
    """
    found = identifier(claim(claims, names.id))
    if not found:
        return None
    return Identity(
        id=found,
        name=_line(claim(claims, names.name)) or found,
        email=_line(claim(claims, names.email)),
        groups=usable_groups(claim(claims, names.groups), known, names.groups),
    )


def groups_were_omitted(claims: Mapping[str, object], names: Claims) -> bool:
    """Tell whether the provider has groups of this person and did not send them: they were too many, say."""
    if claim(claims, names.groups) is not None:
        return False
    elsewhere = claims.get(_ELSEWHERE)
    if isinstance(elsewhere, Mapping) and names.groups in elsewhere:
        return True
    return names.groups == "groups" and claims.get(_HAS_GROUPS) in (True, "true")


def identifier(value: object) -> str:
    """Return a claim that names something, as text; "" if it is none, or one that nobody could type."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and len(value) <= MAX_ID and value.isprintable() else ""


def _line(value: object) -> str:
    # Neither control characters, nor lone surrogates, nor what turns the direction of writing is printable.
    kept = "".join(filter(str.isprintable, value[:MAX_ID])) if isinstance(value, str) else ""
    return kept.strip()[:MAX_NAME]


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


def usable_groups(
    value: object, known: ConfiguredGroups = NO_CONFIGURED_GROUPS, called: str = "groups"
) -> list[str]:
    """Return the groups of a provider's claim, called `called`, that have the form of a group name.

    A claim may be absent; a list; an object of objects, whose names are the groups (Zitadel's roles); or one
    text of names divided by blanks, commas or semicolons. What `known` has a name for goes by that. Other
    names of another form are left out: no model can name them, and folding them (case, slashes) could make
    two groups one. Beyond MOST_GROUPS those go first that the settings do not name. The log tells of both.
    """
    values = _values(value, known.names)
    if values is None:
        logger.warning(
            "no group was taken: the claim is no list, text or object of objects", extra={"claim": called}
        )
        return []
    named = [known.names.get(each, each) for each in values if isinstance(each, str)]
    found = [name for name in named if GROUP.fullmatch(name)]
    if len(found) < len(values):
        logger.warning(
            "groups of the provider left out: not of the form of a group name",
            extra={"claim": called, "dropped": len(values) - len(found)},
        )
    return _bounded(list(dict.fromkeys(found)), known.wanted, called)


def _bounded(groups: list[str], wanted: frozenset[str], called: str) -> list[str]:
    over = len(groups) - MAX_GROUPS
    if over <= 0:
        return groups
    kept = set(sorted(groups, key=lambda name: name not in wanted)[:MAX_GROUPS])
    logger.warning(
        "groups of the provider left out: more than can be kept; let it send only those that are needed",
        extra={"claim": called, "dropped": over, "kept": MAX_GROUPS},
    )
    return [name for name in groups if name in kept]


def _values(value: object, names: Mapping[str, str]) -> list[object] | None:
    """Return what a claim lists; None if it is of no form that lists groups."""
    if value is None:
        return []
    if isinstance(value, str):
        return list(_divided(value, names))
    if isinstance(value, Mapping):
        return list(value) if all(isinstance(each, Mapping) for each in value.values()) else None
    return value if isinstance(value, list) else None


def _divided(text: str, names: Mapping[str, str]) -> list[str]:
    # A name in a directory, as in cn=a b,ou=c, has blanks and commas of its own.
    if text in names or ("=" in text and ";" not in text):
        parts = [text]
    elif ";" in text:
        parts = [part.replace("\\;", ";") for part in _BETWEEN_VALUES.split(text)]
    else:
        parts = _BETWEEN.split(text)
    return [part for part in parts if part]
