"""Groups switch roles on; what inventories share lies in inventories/common and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy.tree import COMMON, PLACES, ROOT, SHARED_ROLES, options, read_yaml, roles

SITES = ("demo", "example")


def test_every_group_is_empty_and_says_what_joining_it_means() -> None:
    groups = COMMON / "groups.yml"
    lines = groups.read_text().splitlines()
    for name, content in read_yaml(groups).items():
        assert content == {"hosts": {}}
        assert lines[lines.index(f"{name}:") - 1].startswith("# "), name


def test_a_group_is_named_after_the_role_that_it_switches_on() -> None:
    groups = set(read_yaml(COMMON / "groups.yml"))
    assert groups - PLACES == set(roles()) - SHARED_ROLES


@pytest.mark.parametrize("role", sorted(set(roles()) - {"packages", "service"}))
def test_shared_defaults_set_inputs_of_their_role_alone(role: str) -> None:
    path = COMMON / "group_vars" / "all" / f"{role}.yml"
    names = set(read_yaml(path)) if path.exists() else set()
    assert names <= set(options(role))


@pytest.mark.parametrize("role", sorted(set(roles()) - SHARED_ROLES))
def test_a_site_must_set_only_what_the_example_sets(role: str) -> None:
    """Everything required comes from inventories/common or is in inventories/example."""
    required = {name for name, option in options(role).items() if option.get("required")}
    given: set[str] = set()
    for path in [*(COMMON / "group_vars" / "all").glob("*.yml"), *(site("example").glob("*.yml"))]:
        given |= set(read_yaml(path))
    assert required - given == set()


@pytest.mark.parametrize("name", SITES)
def test_a_site_takes_groups_and_defaults_from_common(name: str) -> None:
    """By links: a copy of inventories/example beside it works without further arguments."""
    folder = ROOT / "inventories" / name
    assert (folder / "groups.yml").resolve() == COMMON / "groups.yml"
    assert (site(name) / "00-common").resolve() == COMMON / "group_vars" / "all"


def test_secrets_are_only_referenced() -> None:
    """`vault_…` is set by a site's vault; the common defaults and the roles refer to it."""
    for path in [*COMMON.rglob("*.yml"), *(ROOT / "roles").rglob("*.yml")]:
        content = read_yaml(path)
        names = content if isinstance(content, dict) else {}
        assert not [name for name in names if str(name).startswith("vault_")], path


def site(name: str) -> Path:
    """Return the folder of an inventory's variables for all hosts."""
    return ROOT / "inventories" / name / "group_vars" / "all"
