"""No input of any role passes with another type than its argument_specs.yml gives it.

Ansible checks a converted copy, and the role uses what the inventory has: a text passed for a list, and
became one source for each of its letters.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from module_utils.sluice_inventory import kinds
from tests.policy.test_configurations import rendered
from tests.policy.tree import ROLES, ROOT, options, read_yaml, roles

CHECKED = sorted(path.parents[1].name for path in ROLES.glob("*/tasks/validate.yml"))
# Of what looks like a variable in roles and inventories, this is a key of a configuration file.
INNER = frozenset({"authority_socket_mode"})
CONFIGURED = ("proxy", "relay", "scheduler", "web")
# Of each type, what only looks like it.
WRONG: dict[str, list[object]] = {
    "list": ["one", 1, True, {"a": 1}, None],
    "dict": ["a=1", 1, True, ["a"], None],
    "int": ["many", 1.5, True, [1], "", None, "1e3"],
    "float": ["many", True, [1.0], "", None],
    "bool": ["true", "no", 1, 0, "", None],
    "str": [1, 1.5, True, ["a"], {"a": 1}, None],
    "path": [1, True, ["/a"], None],
}
RIGHT: dict[str, list[object]] = {
    "list": [[]],
    "dict": [{}],
    "int": [0, -1, "12"],
    "float": [0, 1.5, "1.5", "2"],
    "bool": [True, False],
    "str": ["", "word"],
    "path": ["/a"],
}


def plugin(name: str) -> ModuleType:
    """Import one of the tree's action plugins."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "action_plugins" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inputs() -> list[tuple[str, dict[str, Any]]]:
    """Return every input of every role that has a check of its own."""
    return [(name, option) for role in CHECKED for name, option in options(role).items()]


@pytest.mark.parametrize(("name", "option"), inputs(), ids=[name for name, _ in inputs()])
def test_an_input_of_another_type_is_refused_and_named(name: str, option: dict[str, Any]) -> None:
    kind = option.get("type", "str")
    for value in WRONG.get(kind, []):
        found = list(kinds.type_problems({name: option}, {name: value}))
        assert len(found) == 1 and found[0].startswith(f"{name} "), value
    for value in RIGHT.get(kind, []):
        assert list(kinds.type_problems({name: option}, {name: value})) == [], value
    for element in WRONG.get(option.get("elements", ""), []):
        found = list(kinds.type_problems({name: option}, {name: [element]}))
        assert len(found) == 1 and found[0].startswith(f"{name}[0] "), element


@pytest.mark.parametrize("role", CHECKED)
def test_what_an_inventory_of_ours_and_the_defaults_give_has_the_types(role: str) -> None:
    specified = options(role)
    given = {name: option["default"] for name, option in specified.items() if "default" in option}
    assert list(kinds.type_problems(specified, given)) == []


@pytest.mark.parametrize("role", sorted(set(roles()) - {"packages", "service"}))
def test_every_role_checks_its_inputs_before_it_does_anything(role: str) -> None:
    tasks = read_yaml(ROLES / role / "tasks" / "validate.yml")
    assert "sluice_inputs" in tasks[0]
    if role == "engine":
        return
    first = read_yaml(ROLES / role / "tasks" / "main.yml")[0]
    assert first["ansible.builtin.import_tasks"] == "validate.yml"


@pytest.mark.parametrize("role", CONFIGURED)
def test_a_configuration_is_read_by_its_loader_before_it_is_written(role: str) -> None:
    tasks = read_yaml(ROLES / role / "tasks" / "validate.yml")
    (check,) = [task["sluice_config"] for task in tasks if "sluice_config" in task]
    assert check["part"] == role and f"'{role}.json.j2'" in check["content"]


def test_a_message_never_shows_a_text_which_may_be_a_secret() -> None:
    given = {"web_old_key_secrets": "hunter2", "web_session_idle": "hunter2"}
    said = "".join(kinds.type_problems(options("web"), given))
    assert said and "hunter2" not in said


def test_the_loaders_are_those_of_this_checkout() -> None:
    assert Path(ROOT / "files/sluice/src") == plugin("sluice_config").SOURCE


@pytest.mark.parametrize("given", [["192.0.2.10"], ["192.0.2.0/24", "2001:db8::/32"], ["any"]])
def test_sources_are_addresses_and_networks_or_the_word_any(given: list[str]) -> None:
    assert list(kinds.network_problems("relay_from", given)) == []


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "relay_from must be set"),
        (["0.0.0.0/0"], "0.0.0.0/0 is every address: use [any]"),
        (["::/0"], "::/0 is every address: use [any]"),
        (["10.77.0.999/33"], "10.77.0.999/33 is not an address or network"),
        (["10.0.0.1/8"], "10.0.0.1/8 is not an address or network; its last bits must be 0"),
        (["192.0.2.1", "any"], "any must be the only word"),
        (["10.0.0.*"], "10.0.0.* is not an address"),
        (['192.0.2.1",command="sh'], "is not an address"),
        # sshd compares addresses alone unless UseDNS is on: a name would lock the gateway out.
        (["chat.example.org"], "chat.example.org is not an address or network. Names do not work"),
    ],
)
def test_sources_that_lock_out_or_let_everybody_in_are_refused(given: list[str], problem: str) -> None:
    (found,) = [one for one in kinds.network_problems("relay_from", given) if "192.0.2.1 " not in one]
    assert problem in found


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"web_usage_days": 0}, "usage_days must be at least 2"),
        ({"web_limits": [{"scope": "user:*", "concurrent": -1}]}, "limits[0].concurrent"),
        ({"web_key_secret_id": 1}, "key_secret.id: must be of type str"),
    ],
)
def test_what_webs_loader_refuses_is_told_before_web_json_is_written(
    changes: dict[str, Any], problem: str
) -> None:
    found = plugin("sluice_config").problem("web", json.dumps(rendered("web", **changes)))
    assert problem in found and "correct that in the inventory" in found


@pytest.mark.parametrize(
    ("role", "name", "meant"),
    [
        ("relay", "relay_form", "relay_from"),
        ("relay", "relay_max_session", "relay_max_sessions"),
        ("web", "web_oidc_scope", "web_oidc_scopes"),
        ("scheduler", "scheduler_max_gpu", "scheduler_max_gpus"),
        ("web", "web_proxy_for_downloads", ""),
        ("web", "relay_form", ""),
    ],
)
def test_a_name_that_is_nearly_an_inputs_is_refused(role: str, name: str, meant: str) -> None:
    found = list(kinds.misspelt(role, options(role), [name, *options(role)]))
    said = f"{name} is not an input of the role {role}: write {meant}, or use another name"
    assert found == ([said] if meant else [])


def test_what_the_roles_and_inventories_name_themselves_is_not_taken_for_a_slip() -> None:
    texts = [path.read_text() for path in ROLES.rglob("*") if path.suffix in (".yml", ".j2")]
    texts += [path.read_text() for path in (ROOT / "inventories").rglob("*.yml") if path.is_file()]
    names = set(re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", "\n".join(texts)))
    for role in CHECKED:
        mine = {name for name in names if name.startswith(f"{role}_")} - INNER
        assert list(kinds.misspelt(role, options(role), mine)) == []
