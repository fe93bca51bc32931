"""Every planted fault of an inventory is refused with variable, file and remedy."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.policy.planted import Plant, certificate, said, site
from tests.policy.wrong_values import NAMES, TYPES, VALUES, Row

PLANTED = "group_vars/all/zz-planted.yml"
# What changes names in files of the inventory: the change, and what the message must say.
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
        "a key that occurs twice",
        Plant(files={PLANTED: "relay_from: [192.0.2.1]\nweb_key_days: 9\nrelay_from: [192.0.2.2]\n"}),
        ["relay_from occurs twice: line 1", "zz-planted.yml:3", "Remove one"],
    ),
]
# What changes its structure: which groups there are, and who is in them. It decides what else is checked.
STRUCTURE: list[tuple[str, Plant, list[str]]] = [
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
        "a key that occurs twice in a list's dictionary",
        Plant(files={PLANTED: "web_limits:\n  - scope: site\n    concurrent: 1\n    scope: user:*\n"}),
        ["scope occurs twice: line 2", "zz-planted.yml:4"],
    ),
]

Sites = Callable[[Plant], str]
Told = Callable[[Row], str]
ROWS = [*NAMES, *TYPES, *VALUES]


def batches(rows: list[Row], owner: Callable[[str], str]) -> dict[str, int]:
    """Return the batch of each case. A batch has one case of each owner of its variables."""
    found: dict[str, int] = {}
    taken: list[set[str]] = []
    for case, values, _ in rows:
        owners = {owner(name) for name in values}
        free = [number for number, names in enumerate(taken) if not names & owners]
        if not free:
            taken.append(set())
        found[case] = free[0] if free else len(taken) - 1
        taken[found[case]] |= owners
    return found


def itself(name: str) -> str:
    """A fault of a name or of a type hides none of another variable."""
    return name


def role(name: str) -> str:
    """A role's checks of values may stop at the first: two cases of a role could hide each other."""
    return name.split("_")[1 if name.startswith("vault_") else 0]


TABLES = (NAMES, TYPES, VALUES)
BATCHES = tuple(batches(table, owner) for table, owner in zip(TABLES, (itself, itself, role)))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good.pem and good.key, which the sites use, and pairs that are wrong."""
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder, "good")
    certificate(folder, "other")
    certificate(folder, "old", last=-1)
    certificate(folder, "new", first=1)
    certificate(folder, "name", host="ai.example.org")
    return folder


@pytest.fixture
def message(tmp_path: Path, certificates: Path) -> Sites:
    """Return what validate says of a changed example."""
    return lambda plant: said(site(tmp_path / "site", plant, certificates))


@pytest.fixture(scope="session")
def told_of(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Told:
    """Return what validate says of the site that has this case among others."""

    @functools.cache
    def batch(kind: int, number: int) -> str:
        cases = [row for row in TABLES[kind] if BATCHES[kind][row[0]] == number]
        values = {name: value for _, given, _ in cases for name, value in given.items()}
        plant = Plant(values=json.loads(json.dumps(values).replace("@certificates@", str(certificates))))
        return said(site(tmp_path_factory.mktemp("batch") / "site", plant, certificates))

    def told(row: Row) -> str:
        kind = next(number for number, batch in enumerate(BATCHES) if row[0] in batch)
        return batch(kind, BATCHES[kind][row[0]])

    return told


def line_of(told: str, words: list[str]) -> str:
    """Return the fault, which is one line, that has all of these words; "" if none has."""
    return next((line for line in told.splitlines() if all(word in line for word in words)), "")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_wrong_value_is_refused(row: Row, told_of: Told) -> None:
    told = told_of(row)
    if row not in VALUES:
        # The faults of other cases stand beside it.
        told = line_of(told, row[2]) or told
        assert line_of(told, row[2]), told
    assert [word for word in row[2] if word not in told] == [], told
    # Each says where it stands: the line of a name that it has set.
    assert f"{PLANTED}:" in told, told


@pytest.fixture(scope="session")
def told_of_files(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> str:
    """Return what validate says of the site that has all FILES."""
    files: dict[str, str] = {}
    swaps: dict[str, str] = {}
    without: tuple[str, ...] = ()
    for _, plant, _ in FILES:
        assert not (files.keys() & plant.files or swaps.keys() & plant.swaps)
        files |= plant.files
        swaps |= plant.swaps
        without += plant.without
    plant = Plant(files=files, swaps=swaps, without=without)
    return said(site(tmp_path_factory.mktemp("files") / "site", plant, certificates))


@pytest.mark.parametrize("words", [words for _, _, words in FILES], ids=[one[0] for one in FILES])
def test_a_wrong_file_is_refused(words: list[str], told_of_files: str) -> None:
    assert line_of(told_of_files, words), told_of_files


@pytest.mark.parametrize(("case", "plant", "words"), STRUCTURE, ids=[one[0] for one in STRUCTURE])
def test_a_wrong_structure_is_refused(case: str, plant: Plant, words: list[str], message: Sites) -> None:
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
