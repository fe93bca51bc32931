"""How much of each limit one user has used, and who is close to a limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from sluice.contracts.authority import LIMITED, Limit, Spent
from sluice.web.database.tables import ApiKey, LimitRow
from sluice.web.settings.rules import Holder, Rule, RuleIndex, compose, scopes_of
from sluice.web.usage import ledger
from sluice.web.usage.charts import percent
from sluice.web.usage.sums import TokensUsed


class LimitUsage(NamedTuple):
    """One limit and what was used of it; open requests count when they have ended."""

    limit: Limit
    spent: Spent

    @property
    def requests_per_minute(self) -> int:
        """Requests of the last minute."""
        return sum(count for _, count in self.spent.requests)

    @property
    def tokens_per_minute(self) -> int:
        """Tokens settled within the last minute."""
        return sum(count for _, count in self.spent.tokens)

    @property
    def tokens_per_day(self) -> int:
        """Tokens settled today (UTC)."""
        return self.spent.tokens_today


class NearLimit(NamedTuple):
    """A limit on tokens per day, and the `tokens` used of it by `scope` (`contracts.authority.Limit`)."""

    rule: Rule
    scope: str
    tokens: int
    bound: int

    @property
    def percent(self) -> float:
        """How much of the limit is used, from 0 to 100."""
        return percent(self.tokens, self.bound)


def of_user(
    session: Session,
    book: RuleIndex,
    holder: Holder,
    projects: Sequence[str],
    keys: Iterable[ApiKey],
    now: float,
) -> list[LimitUsage]:
    """Return the limits of a user, for each of their projects and keys, and how much of them is used.

    `holder` is the user on the chat page. `now` is in seconds since the epoch. Raises TooManyLimits.
    """
    found: dict[tuple[str, str], Limit] = {}
    page = [holder._replace(project=project) for project in projects] or [holder]
    holders: list[tuple[Holder, ApiKey | None]] = [(one, None) for one in page]
    holders += [(holder._replace(project=key.project, key_id=key.id), key) for key in keys]
    rows = _rows(session, {scope for one, _ in holders for scope, _ in scopes_of(one)})
    for one, key in holders:
        found.update({limit.bucket: limit for limit in compose(one, book, rows, key)})
    limits = sorted(found.values(), key=_order)
    return [
        LimitUsage(limit, spent)
        for limit, spent in zip(
            limits, ledger.spent(session, [limit.bucket for limit in limits], now), strict=True
        )
    ]


# The order of the page: the user's own limits first, then shared ones, then those of single keys.
_KINDS = ("user", "project", "group", "site", "key")


def _order(limit: Limit) -> tuple[int, str, str]:
    return (_KINDS.index(limit.scope.partition(":")[0]), limit.scope, limit.model)


def _rows(session: Session, scopes: set[str]) -> Sequence[Any]:
    columns = (LimitRow.scope, LimitRow.model, *(getattr(LimitRow, name) for name in LIMITED))
    return session.execute(select(*columns).where(LimitRow.scope.in_(scopes))).all()


def nearest_limits(rules: Iterable[Rule], taken: Iterable[TokensUsed], most: int) -> list[NearLimit]:
    """Return who is closest to a limit on tokens per day, closest first; the tightest limit counts. Pure."""
    daily: dict[tuple[str, str], Rule] = {}
    for rule in rules:
        _keep_tightest(daily, (rule.scope, rule.model), rule)
    scopes = {scope for scope, _ in daily}
    reached: dict[str, set[str]] = {}
    tokens: dict[tuple[str, str], int] = {}
    for one in taken:
        # Most scopes of a user with many groups have no limit: they are not looked at further.
        found = [(scope, bucket) for scope, bucket in scopes_of(one.holder) if scope in scopes]
        for scope, bucket in found:
            reached.setdefault(bucket, set()).add(scope)
        for bucket in {bucket for _, bucket in found}:
            for model in ("", one.model):
                tokens[bucket, model] = tokens.get((bucket, model), 0) + one.tokens
    # Only now, once for each bucket: hundreds of users share the bucket of a group.
    tightest: dict[tuple[str, str], Rule] = {}
    for bucket, model in tokens:
        for scope in reached[bucket]:
            if (scope, model) in daily:
                _keep_tightest(tightest, (bucket, model), daily[scope, model])
    near = [NearLimit(rule, at[0], tokens[at], rule.tokens_per_day or 0) for at, rule in tightest.items()]
    return sorted(near, key=lambda one: (-one.percent, -one.tokens, one.scope))[:most]


def _keep_tightest(known: dict[tuple[str, str], Rule], at: tuple[str, str], rule: Rule) -> None:
    bound = rule.tokens_per_day
    if bound is not None and (at not in known or bound < (known[at].tokens_per_day or 0)):
        known[at] = rule
