"""Which limits apply to a principal: those of the inventory, of administrators, and of the key itself.

Pure. Several limits of one bucket (`sluice.contracts.authority.Limit.bucket`) become one limit with the
smallest numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from sluice.contracts.authority import LIMITED, MOST_LIMITS, SCOPE, Limit
from sluice.contracts.values import GROUP, LARGEST, MODEL_NAME
from sluice.errors import SluiceError

# The scope of a rule: a limit's own scope, or each user, key, project, group or member separately.
RULE_SCOPE = re.compile(rf"{SCOPE.pattern}|(?:user|key|project|group):\*|member:{GROUP.pattern}")

# The database counts requests in 32 bits.
MAX = {name: (1 << 31) - 1 if name in ("requests_per_minute", "concurrent") else LARGEST for name in LIMITED}


# The numbers that a limit has, by name.
_Given = tuple[tuple[str, int], ...]


class Numbers(Protocol):
    """The numbers of a limit; None is no limit."""

    @property
    def requests_per_minute(self) -> int | None:
        """Requests sent within any 60 seconds."""

    @property
    def tokens_per_minute(self) -> int | None:
        """Input and output tokens within any 60 seconds."""

    @property
    def tokens_per_day(self) -> int | None:
        """Input and output tokens on one day (UTC)."""

    @property
    def concurrent(self) -> int | None:
        """Requests open at once."""


class Rule(Numbers, Protocol):
    """A limit for all to whom `scope` (RULE_SCOPE) applies; `model` "": for all models together."""

    @property
    def scope(self) -> str:
        """To whom it applies."""

    @property
    def model(self) -> str:
        """The model, or "" for all together."""


class Holder(NamedTuple):
    """The user, groups, project and key to which limits apply; `key_id` is "" for the chat page."""

    user: str
    groups: Sequence[str]
    project: str
    key_id: str


class TooManyLimits(SluiceError):
    """More limits apply to a principal than the proxy supports. It is refused: no limit may be ignored."""

    def __init__(self, holder: Holder, number: int) -> None:
        super().__init__(
            "internal_error",
            f"{number} limits apply to the user {holder.user}, but at most {MOST_LIMITS} are allowed: "
            "replace rules for group:* and single models with fewer, wider ones",
        )


class RuleIndex:
    """The rules of the inventory by scope, without numbers that are None."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules: dict[str, list[tuple[str, _Given]]] = {}
        for rule in rules:
            self._rules.setdefault(rule.scope, []).append((rule.model, _given(rule)))

    def of(self, scope: str) -> Sequence[tuple[str, _Given]]:
        """Return model and numbers of each rule of a scope."""
        return self._rules.get(scope, ())


def scopes_of(holder: Holder) -> list[tuple[str, str]]:
    """Return all scopes of rules that apply to `holder`, each with its bucket's scope."""
    user = f"user:{holder.user}"
    found = [("site", "site"), ("user:*", user), (user, user)]
    if holder.key_id:
        key = f"key:{holder.key_id}"
        found += [("key:*", key), (key, key)]
    if holder.project:
        project = f"project:{holder.project}"
        found += [("project:*", project), (project, project)]
    for name in holder.groups:
        group = f"group:{name}"
        found += [("group:*", group), (group, group), (f"member:{name}", user)]
    return found


def compose(holder: Holder, book: RuleIndex, rows: Iterable[Rule], own: Numbers | None) -> tuple[Limit, ...]:
    """Return all limits that apply to `holder`, one per bucket, in the order of their buckets.

    `rows`: administrators' limits of any of `scopes_of(holder)`. `own`: the key's. Raises TooManyLimits.
    """
    by_scope: dict[str, list[tuple[str, _Given]]] = {}
    for row in rows:
        by_scope.setdefault(row.scope, []).append((row.model, _given(row)))
    merged: dict[tuple[str, str], dict[str, int]] = {}
    for scope, bucket in scopes_of(holder):
        for rules in (book.of(scope), by_scope.get(scope, ())):
            for model, numbers in rules:
                _tighten(merged, (bucket, model), numbers)
    if own is not None and holder.key_id:
        _tighten(merged, (f"key:{holder.key_id}", ""), _given(own))
    if len(merged) > MOST_LIMITS:
        raise TooManyLimits(holder, len(merged))
    return tuple(Limit(scope, model, **numbers) for (scope, model), numbers in sorted(merged.items()))


def _tighten(merged: dict[tuple[str, str], dict[str, int]], bucket: tuple[str, str], by: _Given) -> None:
    if by:
        numbers = merged.setdefault(bucket, {})
        for name, number in by:
            numbers[name] = min(number, numbers.get(name, number))


def _given(limit: Numbers) -> _Given:
    return tuple((name, number) for name, number in numbers_of(limit).items() if number is not None)


def numbers_of(limit: Numbers) -> dict[str, int | None]:
    """Return a limit's numbers by name."""
    return {name: getattr(limit, name) for name in LIMITED}


def rule_problem(rule: Rule, projects: Collection[str]) -> str:
    """Return what is wrong with a rule, as in "scope: …", or "". `projects` are those that exist."""
    for problem in (scope_problem(rule.scope, projects), *number_problems(numbers_of(rule))):
        if problem:
            return problem
    if rule.model and not MODEL_NAME.fullmatch(rule.model):
        return f"model: {rule.model!r} is not a model's name; omit it for all models together"
    if all(number is None for number in numbers_of(rule).values()):
        return f"{LIMITED[0]}: give at least one of {', '.join(LIMITED)}; without one it would limit nothing"
    return ""


def scope_problem(scope: str, projects: Collection[str]) -> str:
    """Return what is wrong with the scope of a rule, "" if it is valid."""
    if not RULE_SCOPE.fullmatch(scope):
        return (
            f"scope: {scope!r} is none of site, project:NAME, group:NAME, user:PSEUDONYM, key:ID, "
            "member:GROUP (each user of the group separately), user:*, key:*, project:*, group:* (each "
            "separately)"
        )
    kind, _, name = scope.partition(":")
    if kind == "project" and name != "*" and name not in projects:
        known = ", ".join(sorted(projects)) or "none"
        return f"scope: there is no project {name}; the inventory's projects are: {known}"
    return ""


def number_problems(numbers: Mapping[str, int | None]) -> Iterator[str]:
    """Return what is wrong with each invalid number of a limit."""
    for name, number in numbers.items():
        if number is not None and not 0 <= number <= MAX[name]:
            yield f"{name}: must be from 0 (allows nothing) to {MAX[name]}, or null for no limit"
