"""What a user's groups allow, and how to read the provider's claims. Pure."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sluice.contracts.values import GROUP
from sluice.web.settings.config import Access, Claims, LimitRule

logger = logging.getLogger(__name__)

USER = "user"
ADMIN = "admin"

# Of one person; the authority's answers about their keys contain all of them.
MAX_GROUPS = 500

# The longest accepted identifier (OpenID Connect Core 2 has the same bound), and the longest name.
MAX_ID = 255
MAX_NAME = 200

# Separators of groups in one text. Shibboleth puts a semicolon between the values of an attribute, and a
# backslash before a semicolon that belongs to a value.
_BETWEEN = re.compile(r"[\s,]+")
_BETWEEN_VALUES = re.compile(r"\s*(?<!\\);\s*")

# Claims of a provider that has groups but does not send them (OpenID Connect Core 5.6.2; Entra).
_ELSEWHERE = "_claim_names"
_HAS_GROUPS = "hasgroups"


class ConfiguredGroups(NamedTuple):
    """Groups in the settings: `names` maps the provider's names to ours, `wanted` has our names."""

    names: Mapping[str, str]
    wanted: frozenset[str]


NO_CONFIGURED_GROUPS = ConfiguredGroups({}, frozenset())


def configured_groups(access: Access, limits: Iterable[LimitRule]) -> ConfiguredGroups:
    """Return the groups in the settings. The groups of models are in the model entries, not here."""
    wanted = {*access.admins, *access.users, *access.names.values()}
    wanted.update(*access.projects.values())
    for rule in limits:
        kind, _, name = rule.scope.partition(":")
        if kind in ("group", "member"):
            wanted.add(name)
    return ConfiguredGroups(access.names, frozenset(wanted))


class Identity(NamedTuple):
    """A person as the provider's claims describe them."""

    id: str
    name: str
    email: str
    groups: list[str]


def read_identity(claims: Mapping[str, object], names: Claims, known: ConfiguredGroups) -> Identity | None:
    """Return the person that these claims describe, None if they have no usable identifier.

    An identifier is never changed. Unprintable characters of name and mail address are dropped.
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
    """Tell whether the provider left out this person's groups, for example because there are too many."""
    if claim(claims, names.groups) is not None:
        return False
    elsewhere = claims.get(_ELSEWHERE)
    if isinstance(elsewhere, Mapping) and names.groups in elsewhere:
        return True
    return names.groups == "groups" and claims.get(_HAS_GROUPS) in (True, "true")


def identifier(value: object) -> str:
    """Return an identifying claim as text; "" if it is no text or integer, too long or unprintable."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and len(value) <= MAX_ID and value.isprintable() else ""


def _line(value: object) -> str:
    # Control characters, lone surrogates and direction overrides are not printable.
    kept = "".join(filter(str.isprintable, value[:MAX_ID])) if isinstance(value, str) else ""
    return kept.strip()[:MAX_NAME]


def may_sign_in(groups: Iterable[str], access: Access) -> bool:
    """Tell whether members of `groups` may sign in; administrators always may."""
    return not access.users or not set(groups).isdisjoint(access.users + access.admins)


def role_of(groups: Iterable[str], access: Access) -> str:
    """Return `admin` or `user`."""
    return USER if set(groups).isdisjoint(access.admins) else ADMIN


def projects_of(groups: Iterable[str], access: Access) -> tuple[str, ...]:
    """Return the names of the projects to which these groups belong, sorted."""
    return tuple(sorted({name for group in groups for name in access.projects_of_group.get(group, ())}))


def claim(claims: Mapping[str, object], path: str) -> object:
    """Return the claim named `path`, or the claim at this dotted path into nested objects; else None.

    A name with dots in it, such as a URL, is also found as a whole, at every level.
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
    """Return the groups in the provider's claim named `called` that have the form of a group name.

    The claim may be missing; a list; an object of objects, whose names are the groups (Zitadel's roles); or
    one text of names separated by blanks, commas or semicolons. `known.names` replaces the provider's names.
    Other names of another form are dropped: no model can name them, and changing them (case, slashes) could
    make two groups one. Above MAX_GROUPS, groups that are not in the settings are dropped first. The log
    counts what was dropped.
    """
    values = _values(value, known.names)
    if values is None:
        logger.warning(
            "the groups claim was ignored: it is not a list, a text or an object of objects",
            extra={"claim": called},
        )
        return []
    named = [known.names.get(each, each) for each in values if isinstance(each, str)]
    found = [name for name in named if GROUP.fullmatch(name)]
    if len(found) < len(values):
        logger.warning(
            "groups of the provider were ignored: they do not have the form of a group name",
            extra={"claim": called, "dropped": len(values) - len(found)},
        )
    return _bounded(list(dict.fromkeys(found)), known.wanted, called)


def _bounded(groups: list[str], wanted: frozenset[str], called: str) -> list[str]:
    over = len(groups) - MAX_GROUPS
    if over <= 0:
        return groups
    kept = set(sorted(groups, key=lambda name: name not in wanted)[:MAX_GROUPS])
    logger.warning(
        "groups of the provider were ignored: there are too many; let it send only those that are needed",
        extra={"claim": called, "dropped": over, "kept": MAX_GROUPS},
    )
    return [name for name in groups if name in kept]


def _values(value: object, names: Mapping[str, str]) -> list[object] | None:
    """Return the values of a groups claim; None if its form is not supported."""
    if value is None:
        return []
    if isinstance(value, str):
        return list(_divided(value, names))
    if isinstance(value, Mapping):
        return list(value) if all(isinstance(each, Mapping) for each in value.values()) else None
    return value if isinstance(value, list) else None


def _divided(text: str, names: Mapping[str, str]) -> list[str]:
    # A distinguished name, such as cn=a b,ou=c, contains blanks and commas.
    if text in names or ("=" in text and ";" not in text):
        parts = [text]
    elif ";" in text:
        parts = [part.replace("\\;", ";") for part in _BETWEEN_VALUES.split(text)]
    else:
        parts = _BETWEEN.split(text)
    return [part for part in parts if part]
