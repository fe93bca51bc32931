"""The limits of inventory, administrators and key that apply to a principal."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sluice.contracts.authority import MOST_LIMITS, Limit, Principal
from sluice.errors import RecordError
from sluice.web.settings.config import LimitRule
from sluice.web.settings.rules import Holder, RuleIndex, TooManyLimits, compose, rule_problem, scopes_of

ALICE = Holder("u-alice", ("students", "physics"), "lattice", "key-1")
ON_THE_PAGE = ALICE._replace(key_id="")
NOBODY_ELSE = LimitRule("user:u-bob", requests_per_minute=1)


def rules(*scopes: str, model: str = "", **numbers: int) -> list[LimitRule]:
    return [LimitRule(scope, model, **(numbers or {"concurrent": 4})) for scope in scopes]


def composed(holder: Holder, *inventory: LimitRule, rows: Any = (), own: Any = None) -> list[Limit]:
    return list(compose(holder, RuleIndex(inventory), rows, own))


@pytest.mark.parametrize(
    ("scope", "bucket"),
    [
        ("site", "site"),
        ("user:*", "user:u-alice"),
        ("user:u-alice", "user:u-alice"),
        ("member:students", "user:u-alice"),
        ("group:students", "group:students"),
        ("project:*", "project:lattice"),
        ("project:lattice", "project:lattice"),
        ("key:*", "key:key-1"),
        ("key:key-1", "key:key-1"),
    ],
)
def test_a_rule_applies_through_the_bucket_of_its_scope(scope: str, bucket: str) -> None:
    inventory = composed(ALICE, *rules(scope))
    assert inventory == [Limit(bucket, concurrent=4)]
    assert composed(ALICE, rows=rules(scope)) == inventory


@pytest.mark.parametrize(
    "scope", ["user:u-bob", "member:staff", "group:staff", "project:other", "key:key-2", "user:alice"]
)
def test_rules_for_others_do_not_apply(scope: str) -> None:
    assert composed(ALICE, *rules(scope), rows=rules(scope)) == []


def test_each_group_has_a_bucket_of_its_own() -> None:
    assert composed(ALICE, *rules("group:*")) == [
        Limit("group:physics", concurrent=4),
        Limit("group:students", concurrent=4),
    ]


def test_limits_of_keys_do_not_apply_to_the_page() -> None:
    own = LimitRule("", concurrent=1)
    assert composed(ON_THE_PAGE, *rules("key:*", "key:key-1", "key:"), own=own) == []


def test_limits_of_projects_do_not_apply_without_a_project() -> None:
    assert composed(ALICE._replace(project=""), *rules("project:*", "project:lattice", "project:")) == []


def test_the_smallest_number_of_a_bucket_wins_wherever_it_comes_from() -> None:
    inventory = [
        LimitRule("user:*", requests_per_minute=60, tokens_per_day=500),
        LimitRule("member:students", requests_per_minute=30),
    ]
    rows = [LimitRule("user:u-alice", requests_per_minute=90, tokens_per_day=100, concurrent=2)]
    assert composed(ALICE, *inventory, NOBODY_ELSE, rows=rows) == [
        Limit("user:u-alice", requests_per_minute=30, tokens_per_day=100, concurrent=2)
    ]


def test_zero_is_tighter_than_a_number_and_none_is_no_limit() -> None:
    inventory = [LimitRule("user:*", concurrent=0), LimitRule("user:u-alice", concurrent=5)]
    assert composed(ALICE, *inventory) == [Limit("user:u-alice", concurrent=0)]


def test_a_key_s_own_numbers_are_those_of_its_bucket() -> None:
    own = LimitRule("", tokens_per_day=7)
    assert composed(ALICE, *rules("key:*"), own=own) == [Limit("key:key-1", tokens_per_day=7, concurrent=4)]


def test_a_key_without_numbers_of_its_own_adds_no_limit() -> None:
    assert composed(ALICE, own=LimitRule("")) == []


def test_limits_of_models_are_separate() -> None:
    inventory = [*rules("user:*"), *rules("user:*", model="a"), *rules("user:*", model="b")]
    assert [limit.model for limit in composed(ALICE, *inventory)] == ["", "a", "b"]


def test_more_limits_than_the_proxy_supports_refuse_the_principal() -> None:
    many = ALICE._replace(groups=[f"g{number}" for number in range(MOST_LIMITS + 1)])
    with pytest.raises(TooManyLimits, match=r"201 limits apply to the user u-alice.*group:\*"):
        composed(many, *rules("group:*"))
    limits = composed(many._replace(groups=many.groups[1:]), *rules("group:*"))
    told = Principal("u-alice", "key-1", "api_key", "api", ("g",), None, limits=tuple(limits))
    assert Principal.parse(told.dump()) == told


def test_every_scope_of_a_limit_that_is_told_keeps_the_contract() -> None:
    for _scope, bucket in scopes_of(ALICE):
        assert Limit.parse({"scope": bucket, "model": ""}).scope == bucket
    with pytest.raises(RecordError):
        Limit.parse({"scope": "user:*"})


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (LimitRule("users:*", concurrent=1), r"scope: 'users:\*' is none of"),
        (LimitRule("user:*\n", concurrent=1), "scope: "),
        (LimitRule("member:*", concurrent=1), "scope: "),
        (LimitRule("project:latice", concurrent=1), "scope: there is no project latice; .* lattice"),
        (LimitRule("user:*", "a b", concurrent=1), "model: 'a b'"),
        (LimitRule("user:*"), "requests_per_minute: give at least one"),
        (LimitRule("user:*", concurrent=-1), "concurrent: must be from 0"),
        (LimitRule("user:*", requests_per_minute=1 << 31), "requests_per_minute: must be"),
    ],
)
def test_an_invalid_rule_is_named_with_what_to_do(rule: LimitRule, named: str) -> None:
    assert re.match(named, rule_problem(rule, {"lattice": ()}))


@pytest.mark.parametrize("scope", [scope for scope, _bucket in scopes_of(ALICE)])
def test_every_scope_can_have_a_rule(scope: str) -> None:
    assert rule_problem(LimitRule(scope, "m", tokens_per_day=1 << 40), {"lattice": ()}) == ""
