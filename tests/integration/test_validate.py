"""`playbooks/validate.yml` refuses a wrong value before any host is touched, naming variable and remedy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.policy.planted import SECRETS, certificate
from tests.policy.tree import ROOT, read_yaml

pytestmark = pytest.mark.integration

EXAMPLE = ROOT / "inventories" / "example"
MODELS: list[dict[str, Any]] = read_yaml(EXAMPLE / "group_vars" / "all" / "models.yml")["model_entries"]
CLUSTER = {"name": "cluster", "host": "login1.cluster.example.org"}


def model(**changes: Any) -> list[dict[str, Any]]:
    """Return the example's models with some fields of the first one changed."""
    return [{**MODELS[0], **changes}, *MODELS[1:]]


SECOND = "a second login node without the routing table"
# Cases with a second login node of the same cluster.
TWO_LOGIN_NODES = {SECOND, "good-two"}
SECOND_HOST = "relay: {hosts: {login2.cluster.example.org: {}}}\n"
GOOD: dict[str, dict[str, Any]] = {
    "good": {},
    "good-two": {
        "sluice_state_dir": "/login-shared/sluice",
        "sluice_state_on": "login",
        "login_base_relay_uid": 981,
    },
    "good-scrontab": {
        "scheduler_launcher": "scrontab",
        "scheduler_scrontab_options": ["--partition=cron"],
        "sluice_state_dir": "/shared/sluice/state",
        "sluice_state_on": "cluster",
        "login_base_relay_uid": 981,
    },
    "good-engines": {
        "model_engine_commands": {
            "sglang": {
                "command": ["/sw/sglang", "--port", "@port@"],
                "ready": "fired up",
                "health": "/health",
            }
        },
        "model_entries": [
            *model(engine="vllm-apptainer", image="/shared/images/vllm.sif"),
            {**MODELS[0], "name": "second", "engine": "vllm-modules", "modules": ["vllm"]},
            {**MODELS[0], "name": "third", "engine": "sglang"},
        ],
    },
    "good-systemd": {
        "scheduler_launcher": "systemd",
        "proxy_cors_origins": ["https://notes.example.org", "http://localhost:3000"],
    },
}
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an address without TLS": ({"web_public_url": "http://chat.example.org"}, ["web_public_url", "https"]),
    "groups and projects of a form that no model names": (
        {"web_admin_groups": ["/Admins"], "web_projects": {"genomics": "bio-lab", "climate": ["Staff"]}},
        ["/Admins", "Staff", "web_group_names", "Invalid projects: genomics", "docs/sign-in.md"],
    ),
    "a sign-in that idles for longer than it lives": (
        {"web_session_idle": 90_000},
        ["web_session_idle (90000)", "web_session_max (43200)"],
    ),
    "a missing secret": ({"vault_web_key_secret": ""}, ["vault_web_key_secret", "ansible-vault edit"]),
    "a certificate that is not there": ({"nginx_certificate": "/none.pem"}, ["nginx_certificate", "Put the"]),
    "ports the wrong way round": ({"scheduler_ports": "30000-20000"}, ["scheduler_ports", "20000-20999"]),
    "a port that is none": ({"proxy_status_port": 70000}, ["proxy_status_port", "65535"]),
    "a port that is a word": ({"prometheus_port": "http"}, ["prometheus_port", "whole number"]),
    "a time that is none": ({"relay_connect_timeout": 0}, ["relay", "above 0"]),
    "an unknown log level": ({"relay_log_level": "loud"}, ["relay_log_level", "debug, info"]),
    "an origin with a path": (
        {"proxy_cors_origins": ["https://notes.example.org/app"]},
        ["proxy_cors_origins", "without a path"],
    ),
    "one account for all, unsaid": ({"sluice_relay_account": "sluice"}, ["sluice_single_account", "true"]),
    "a login node without a key to pin": ({"proxy_clusters": [CLUSTER]}, ["proxy_clusters", "host_key"]),
    "an unknown engine": ({"model_entries": model(engine="abacus")}, ["abacus", "roles/model/templates"]),
    "an entry without its engine's image, with more nodes than the engine takes": (
        {
            "model_entries": [
                *model(engine="vllm-apptainer"),
                {
                    **MODELS[0],
                    "name": "b",
                    "engine": "llama-cpp",
                    "slurm": {**MODELS[0]["slurm"], "nodes": 2},
                },
            ]
        },
        ["image: the engine vllm-apptainer needs it", "(b): slurm.nodes", "can use only one node"],
    ),
    "an engine that is a command without a place to listen": (
        {"model_engine_commands": {"sglang": {"command": ["serve"], "ready": "up"}}},
        ["model_engine_commands.sglang", "@socket@"],
    ),
    "engines without a box, unsaid": (
        {"sluice_engine_box": "none"},
        ["model_entries[0]", "box: none", "sluice_engine_unboxed", "THREATS"],
    ),
    "an engine without its environment": (
        {"engine_locks": {}},
        ["vllm", "engine_locks", "model_engine_paths"],
    ),
    "a model's bad time": (
        {"model_entries": model(slurm={**MODELS[0]["slurm"], "time": "2-00"})},
        ["model_entries[0]", "slurm.time", "must be a whole number"],
    ),
    "a limit that binds nobody": (
        {
            "web_limits": [
                {"scope": "users:*", "concurrent": 1},
                {"scope": "project:lattice", "concurrent": 1},
            ]
        },
        ["web_limits", "Invalid scopes: users:*", "web_projects does not have: lattice"],
    ),
    "a scheduler that scrontab starts, with its state on one host": (
        {"scheduler_launcher": "scrontab"},
        ["scheduler_launcher", "sluice_state_dir", "sluice_state_on"],
    ),
    "a routing table that jobs see, unsaid": (
        {"sluice_state_dir": "/shared/sluice/state"},
        ["sluice_state_dir", "seen by jobs", "sluice_state_on: cluster"],
    ),
    "a routing table that jobs see, without need": (
        {"sluice_state_dir": "/scratch/sluice", "sluice_state_on": "cluster", "login_base_relay_uid": 981},
        ["sluice_state_on", "scrontab", "sluice_single_account"],
    ),
    "a negative bound": ({"scheduler_max_nodes": -1}, ["scheduler_max_nodes", "must not be negative"]),
    "bounds on GPUs that nobody has said": (
        {"scheduler_max_gpus": "", "scheduler_gpu_hours_per_day": 0},
        ["scheduler_max_gpus (not set)", "scheduler_gpu_hours_per_day (0)", "the word unlimited"],
    ),
    "sources as a text": ({"relay_from": "10.77.0.10"}, ["relay_from must be a list", "not a text"]),
    "a limit that web refuses": (
        {"web_limits": [{"scope": "user:*", "concurrent": -1}]},
        ["/etc/sluice/web.json", "limits[0].concurrent", "correct that in"],
    ),
    "a body that the proxy refuses": (
        {"proxy_max_body": 1 << 31, "proxy_max_buffered": 1 << 34},
        ["/etc/sluice/proxy.json", "max_body: must be from 1 KiB to 1 GiB"],
    ),
    SECOND: ({}, ["login2.cluster.example.org", "sluice_state_dir", "sluice_state_on: login"]),
    "login nodes that share a folder, with an account of any number": (
        {"sluice_state_dir": "/login-shared/sluice", "sluice_state_on": "login"},
        ["login_base_relay_uid", "same number everywhere"],
    ),
    "a model in a partition that the site keeps from models": (
        {"scheduler_partitions": ["cpu"], "scheduler_min_nice": 50},
        ["model_entries[0]", "slurm.partition: gpu", "scheduler_partitions: cpu", "scheduler_min_nice is 50"],
    ),
    "two models of one name": (
        {"model_entries": MODELS * 2},
        [f"model_entries[{len(MODELS)}]", "occurs twice"],
    ),
}


Runs = dict[str, "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Run the playbook once per case, two at a time; the cases of GOOD are inventories as they may be."""
    folder = tmp_path_factory.mktemp("validate")
    certificate(folder, "good", first=-3650, last=36_500)
    second = folder / "second.yml"
    second.write_text(SECOND_HOST)
    base = {
        **SECRETS,
        "nginx_certificate": str(folder / "good.pem"),
        "nginx_certificate_key": str(folder / "good.key"),
    }

    def run(case: str) -> subprocess.CompletedProcess[str]:
        changes = GOOD[case] if case in GOOD else WRONG[case][0]
        extra = folder / f"{case}.json".replace(" ", "-")
        extra.write_text(json.dumps({**base, **changes}))
        inventories = ["-i", str(EXAMPLE)] + (["-i", str(second)] if case in TWO_LOGIN_NODES else [])
        tool = Path(sys.executable).parent / "ansible-playbook"
        return subprocess.run(
            [str(tool), *inventories, "playbooks/validate.yml", "--extra-vars", f"@{extra}"],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    # Each test waits for its own case: all of them together take longer than one test may.
    with ThreadPoolExecutor(2) as pool:
        yield {case: pool.submit(run, case) for case in (*GOOD, *WRONG)}


@pytest.mark.parametrize("case", GOOD)
def test_the_example_with_its_secrets_is_accepted(case: str, runs: Runs) -> None:
    done = runs[case].result()
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_refused_with_the_remedy(case: str, runs: Runs) -> None:
    done = runs[case].result()
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0, said
    assert [words for words in WRONG[case][1] if words not in said] == [], said
    assert "unreachable=1" not in said
