"""Every planted fault of an inventory is refused with variable, file and remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.policy.planted import Plant, certificate, said, site

PLANTED = "group_vars/all/zz-planted.yml"
# What is planted in a file of its own: the values, and what the message must say.
VALUES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("a misspelt input", {"relay_form": ["192.0.2.10"]}, ["relay_form", "Write relay_from"]),
    ("a misspelt shared name", {"sluice_clutser": "c"}, ["sluice_clutser", "Write sluice_cluster"]),
    ("a misspelt prefix", {"schedular_max_gpus": 4}, ["schedular_max_gpus", "Write scheduler_max_gpus"]),
    ("a name in capitals", {"Web_Public_URL": "x"}, ["Web_Public_URL", "Write web_public_url"]),
    ("a misspelt secret", {"vault_web_secretkey": "x" * 40}, ["vault_web_secretkey", "vault_web_secret_key"]),
    ("a name of another project", {"web_theme_colour": "red"}, ["web_theme_colour", "Remove it"]),
    ("the singular", {"web_admin_group": ["a"]}, ["web_admin_group ", "Write web_admin_groups"]),
    ("a longer name", {"proxy_cors_allowed_origins": []}, ["Write proxy_cors_origins"]),
    ("a misspelt list of models", {"model_entires": []}, ["model_entires", "Write model_entries"]),
    ("a misspelt lock", {"engine_lock": {}}, ["engine_lock ", "Write engine_locks"]),
    ("a text for a list", {"relay_from": "192.0.2.10"}, ["relay_from must be a list"]),
    ("a list for a text", {"web_public_url": ["https://a.example.org"]}, ["web_public_url must be text"]),
    ("a yes-or-no in quotes", {"login_base_manage_account": "no"}, ["true or false without quotes"]),
    ("no value", {"nginx_server_name": None}, ["nginx_server_name is empty"]),
    ("an unknown choice", {"proxy_cache_salt": "group"}, ["proxy_cache_salt must be one of user, project"]),
    ("another unknown choice", {"scheduler_launcher": "cronjob"}, ["cron, systemd, scrontab"]),
    (
        "a login node's unknown key",
        {"proxy_clusters": [{"name": "c", "host": "h", "hostkey": "k"}]},
        ["host_key"],
    ),
    (
        "a limit's unknown key",
        {"web_limits": [{"scope": "site", "token_per_day": 1}]},
        ["write tokens_per_day"],
    ),
    ("a limit without scope", {"web_limits": [{"concurrent": 1}]}, ["web_limits[0].scope is required"]),
    (
        "a template of a name that is not set",
        {"web_database": "{{ web_db }}"},
        ["web_database cannot be read"],
    ),
]
# What changes files of the inventory: the change, and what the message must say.
FILES: list[tuple[str, Plant, list[str]]] = [
    (
        "a required name that is missing",
        Plant(without=("web_oidc_client_id",)),
        ["web_oidc_client_id is required"],
    ),
    (
        "a misspelt name in a group's file",
        Plant(files={"group_vars/relay.yml": "relay_memory_mx: 2G\n"}),
        ["relay_memory_mx (group relay)", "group_vars/relay.yml:1", "Write relay_memory_max"],
    ),
    (
        "a misspelt name in a host's file",
        Plant(files={"host_vars/chat.example.org.yml": "---\nnginx_prot: 443\n"}),
        ["nginx_prot (host chat.example.org)", "host_vars/chat.example.org.yml:2", "Write nginx_port"],
    ),
    (
        "a misspelt name in hosts.yml",
        Plant(swaps={"chat.example.org: {}": "chat.example.org: {nginx_prot: 443}"}),
        ["nginx_prot", "hosts.yml:6", "Write nginx_port"],
    ),
    (
        "a misspelt name among a group's variables in hosts.yml",
        Plant(swaps={"scheduler:\n": "scheduler:\n  vars: {scheduler_prots: 20000-20999}\n"}),
        ["scheduler_prots", "hosts.yml", "Write scheduler_ports"],
    ),
    (
        "an input for hosts that do not read it",
        Plant(files={"group_vars/gateway.yml": "relay_memory_max: 4G\n"}),
        ["relay_memory_max", "group gateway", "group relay", "group_vars/gateway.yml:1"],
    ),
    (
        "a file for a group that does not exist",
        Plant(files={"group_vars/scheduelr.yml": "scheduler_max_gpus: 4\n"}),
        ["group_vars/scheduelr", "Name it scheduler"],
    ),
    (
        "a file for a host that does not exist",
        Plant(files={"host_vars/caht.example.org.yml": "nginx_port: 443\n"}),
        ["host_vars/caht.example.org", "Name it chat.example.org"],
    ),
    (
        "a misspelt group",
        Plant(swaps={"scheduler:": "schedulers:"}),
        ["the group schedulers", "Write scheduler", "the group scheduler is empty"],
    ),
    (
        "a group with a dash",
        Plant(swaps={"login_node:\n": "login-node:\n", "{login_node:": "{login-node:"}),
        ["the group login-node", "Write login_node"],
    ),
    (
        "an empty group",
        Plant(swaps={"authority:\n  children: {gateway: {}}": "authority: {}"}),
        ["the group authority is empty: the proxy cannot check keys", "hosts.yml"],
    ),
    (
        "no relay",
        Plant(swaps={"relay:\n  children: {login_node: {}}": "relay: {}"}),
        ["the group relay is empty: the gateway cannot reach the cluster"],
    ),
    (
        "no nginx",
        Plant(swaps={"nginx:\n  children: {gateway: {}}": "nginx: {}"}),
        ["the group nginx is empty: nobody reaches the gateway"],
    ),
    (
        "no models' host",
        Plant(swaps={"model:\n  children: {login_node: {}}": "model: {}"}),
        ["the group model is empty: no model is registered"],
    ),
    (
        "no hosts at all",
        Plant(swaps={"chat.example.org: {}": "", "login1.cluster.example.org: {}": ""}),
        ["all groups of Sluice are empty", "hosts.yml"],
    ),
    (
        "the scheduler on the gateway",
        Plant(swaps={"scheduler:\n  children: {login_node": "scheduler:\n  children: {gateway"}),
        ["chat.example.org is in the groups", "different machines"],
    ),
    (
        "models on a host that does not schedule",
        Plant(
            swaps={
                "model:\n  children: {login_node: {}}": "model:\n  hosts: {login2.cluster.example.org: {}}"
            }
        ),
        ["login2.cluster.example.org is in the group model", "must be in the group scheduler"],
    ),
    (
        "a key of a group that Ansible ignores",
        Plant(swaps={"scheduler:\n  children:": "scheduler:\n  child:"}),
        ["the group scheduler has the key child", "Write hosts, vars or children", "hosts.yml"],
    ),
    (
        "a key that occurs twice",
        Plant(files={PLANTED: "relay_from: [192.0.2.1]\nweb_key_days: 9\nrelay_from: [192.0.2.2]\n"}),
        ["relay_from occurs twice: line 1", "zz-planted.yml:3", "Remove one"],
    ),
    (
        "a key that occurs twice in a list's dictionary",
        Plant(files={PLANTED: "web_limits:\n  - scope: site\n    concurrent: 1\n    scope: user:*\n"}),
        ["scope occurs twice: line 2", "zz-planted.yml:4"],
    ),
]

Sites = Callable[[Plant], str]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good.pem and good.key, which the sites use."""
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder, "good")
    return folder


@pytest.fixture
def message(tmp_path: Path, certificates: Path) -> Sites:
    """Return what validate says of a changed example."""
    return lambda plant: said(site(tmp_path / "site", plant, certificates))


@pytest.mark.parametrize(("case", "values", "words"), VALUES, ids=[one[0] for one in VALUES])
def test_a_wrong_value_is_refused(
    case: str, values: Mapping[str, Any], words: list[str], message: Sites
) -> None:
    told = message(Plant(values=values))
    assert [word for word in words if word not in told] == [], told
    assert PLANTED in told, told


@pytest.mark.parametrize(("case", "plant", "words"), FILES, ids=[one[0] for one in FILES])
def test_a_wrong_file_is_refused(case: str, plant: Plant, words: list[str], message: Sites) -> None:
    told = message(plant)
    assert [word for word in words if word not in told] == [], told


def test_the_example_with_its_secrets_is_correct(message: Sites) -> None:
    assert message(Plant()) == ""


def test_names_that_the_site_uses_itself_are_its_own(message: Sites) -> None:
    assert (
        message(Plant(values={"web_site": "chat.example.org", "nginx_server_name": "{{ web_site }}"})) == ""
    )


def test_all_faults_are_told_at_once(message: Sites) -> None:
    values = {"relay_form": [1], "web_session_idle": 90_000, "scheduler_ports": "9-1", "proxy_status_port": 0}
    told = message(Plant(values=values))
    assert [name for name in values if name not in told] == [], told
    assert "faults in the inventory. No host was touched." in told
