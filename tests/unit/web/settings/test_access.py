"""What groups allow, and how claims are read."""

from __future__ import annotations

import pytest

from sluice.web.settings import access
from sluice.web.settings.config import Access, LimitRule

SITE = Access(
    admins=("ops",),
    users=("staff", "students"),
    projects={"genomics": ("bio", "ops"), "climate": ("bio",), "empty": ()},
)


@pytest.mark.parametrize(
    ("groups", "may"),
    [(["staff"], True), (["other", "students"], True), (["ops"], True), (["other"], False), ([], False)],
)
def test_only_the_groups_of_the_inventory_may_sign_in(groups: list[str], may: bool) -> None:
    assert access.may_sign_in(groups, SITE) is may
    assert access.may_sign_in(groups, Access())


@pytest.mark.parametrize(("groups", "role"), [(["staff", "ops"], "admin"), (["staff"], "user"), ([], "user")])
def test_a_member_of_an_administrators_group_is_an_administrator(groups: list[str], role: str) -> None:
    assert access.role_of(groups, SITE) == role
    assert access.role_of(groups, Access()) == "user"


def test_projects_follow_from_groups() -> None:
    assert access.projects_of(["bio"], SITE) == ("climate", "genomics")
    assert access.projects_of(["ops"], SITE) == ("genomics",)
    assert access.projects_of([], SITE) == ()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("sub", "1"),
        ("realm_access.roles", ["a"]),
        ("resource_access.my.client.roles", ["b"]),
        ("https://example.org/groups", ["c"]),
        ("outer.https://example.org/groups", ["d"]),
        ("realm_access", {"roles": ["a"]}),
        ("sub.roles", None),
        ("realm_access.", None),
        (".roles", None),
        ("", None),
        ("missing.roles", None),
    ],
)
def test_a_claim_is_found_by_name_or_by_path(path: str, found: object) -> None:
    claims = {
        "sub": "1",
        "realm_access": {"roles": ["a"]},
        "resource_access": {"my.client": {"roles": ["b"]}},
        "https://example.org/groups": ["c"],
        "outer": {"https://example.org/groups": ["d"]},
    }
    assert access.claim(claims, path) == found


@pytest.mark.parametrize(
    ("claim", "groups"),
    [
        (["users", "admins"], ["users", "admins"]),
        (["users", "users"], ["users"]),
        ("users", ["users"]),
        ("users admins", ["users", "admins"]),
        (" users,\tadmins , ,Staff\n", ["users", "admins"]),
        ("", []),
        (None, []),
        ({"users": True}, []),
        ({"roles": ["users"]}, []),
        ({"users": {"1": "example.org"}, "admins": {}}, ["users", "admins"]),
        ("users;admins; staff ;", ["users", "admins", "staff"]),
        ("cn=users,ou=groups b,dc=example", []),
        ("cn=a b,ou=c;users", ["users"]),
        (["Users", "/users", "a b", "", 7, None, "urn:x:y", "users"], ["users"]),
        (["users\n", "ops\r\nSet-Cookie: a=b"], []),
        ([["admins"], {"admins": 1}], []),
        (True, []),
    ],
)
def test_groups_are_never_changed(claim: object, groups: list[str]) -> None:
    assert access.usable_groups(claim) == groups


def test_a_group_of_another_form_goes_by_the_name_that_the_site_gives_it() -> None:
    names = {"urn:x:group:ops#idp": "ops", "/Staff": "staff"}
    told = ["urn:x:group:ops#idp", "/Staff", "/staff", "ops", "users"]
    known = access.ConfiguredGroups(names, frozenset())
    assert access.usable_groups(told, known) == ["ops", "staff", "users"]
    assert access.usable_groups("urn:x:group:ops#idp, users", known) == ["ops", "users"]
    assert access.usable_groups("urn:x:group:ops#idp;users", known) == ["ops", "users"]
    assert access.usable_groups({"urn:x:group:ops#idp": {}}, known) == ["ops"]


@pytest.mark.parametrize("text", ["cn=a b,ou=c", "a;b", "a b", "a,b"])
def test_a_text_in_the_settings_is_one_group_even_with_separators(text: str) -> None:
    known = access.ConfiguredGroups({text: "ops"}, frozenset())
    assert access.usable_groups(text, known) == ["ops"]
    assert access.usable_groups([text], known) == ["ops"]


def test_a_semicolon_within_a_value_is_part_of_it() -> None:
    known = access.ConfiguredGroups({"urn:a;b": "ops"}, frozenset())
    assert access.usable_groups(r"users;urn:a\;b", known) == ["users", "ops"]


def test_the_number_of_groups_is_bounded() -> None:
    assert len(access.usable_groups([f"g{number}" for number in range(10_000)])) == access.MAX_GROUPS


def test_groups_in_the_settings_are_kept_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Access(admins=("ops",), users=("staff",), projects={"p": ("bio",)}, names={"/HPC": "hpc"})
    rules = (LimitRule("group:slow"), LimitRule("member:fast"), LimitRule("user:*"))
    known = access.configured_groups(site, rules)
    assert known.wanted == {"ops", "staff", "bio", "hpc", "slow", "fast"}
    told = [f"g{number}" for number in range(600)] + ["ops", "staff", "bio", "/HPC", "slow", "fast"]
    found = access.usable_groups(told, known, "isMemberOf")
    assert len(found) == access.MAX_GROUPS
    assert found[-6:] == ["ops", "staff", "bio", "hpc", "slow", "fast"]
    (record,) = caplog.records
    assert "there are too many" in record.getMessage()
    assert (vars(record)["claim"], vars(record)["dropped"]) == ("isMemberOf", 106)


@pytest.mark.parametrize("value", [True, 7, {"roles": ["users"]}, {"users": True}])
def test_the_log_names_a_groups_claim_of_an_unknown_form(
    value: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert access.usable_groups(value, called="realm_access") == []
    (record,) = caplog.records
    assert vars(record)["claim"] == "realm_access"
