"""The configuration files that the roles write are those that the parts read."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest

from sluice import config
from sluice.proxy.config import ProxyConfig
from sluice.proxy.config import check as check_proxy
from sluice.relay.config import RelayConfig
from sluice.scheduler.config import SchedulerConfig
from sluice.web.settings.config import WebConfig
from sluice.web.settings.config import check as check_web
from tests.policy.tree import ROLES, ROOT, defaults

REQUIRED: dict[str, dict[str, Any]] = {
    "proxy": {
        "proxy_clusters": [{"name": "c", "host": "login", "inventory_host": "login"}],
        "proxy_max_body": 33554432,
    },
    "web": {
        "web_public_url": "https://chat.example.org",
        "web_secret_key": "s" * 32,
        "web_key_secret": "k" * 32,
        "web_oidc_issuer": "https://login.example.org",
        "web_oidc_client_id": "sluice",
        "web_oidc_client_secret": "c",
        "web_max_body": "33554432",
    },
    "relay": {"relay_cluster": "c", "relay_max_body": "33554432"},
    "scheduler": {
        "scheduler_cluster": "c",
        "scheduler_shared": "/shared/sluice",
        "scheduler_job_python": "/usr/bin/python3",
        "scheduler_max_body": "8388608",
        "scheduler_max_gpus": "unlimited",
        "scheduler_gpu_hours_per_day": "unlimited",
    },
}
CONFIGS: dict[str, Any] = {
    "proxy": ProxyConfig,
    "web": WebConfig,
    "relay": RelayConfig,
    "scheduler": SchedulerConfig,
}


def rendered(role: str, **inputs: Any) -> dict[str, Any]:
    """Return what a role's template makes of its defaults, the required inputs and these."""
    environment = jinja2.Environment(  # noqa: S701 - JSON, not HTML
        loader=jinja2.FileSystemLoader(ROLES / role / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["to_nice_json"] = lambda value, indent: json.dumps(value, indent=indent)
    text = environment.get_template(f"{role}.json.j2").render({**defaults(role), **REQUIRED[role], **inputs})
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.mark.parametrize("role", sorted(CONFIGS))
def test_the_part_reads_what_its_role_writes(role: str, tmp_path: Path) -> None:
    path = tmp_path / f"{role}.json"
    path.write_text(json.dumps(rendered(role)))
    settings: object = config.load(CONFIGS[role], path)
    if isinstance(settings, ProxyConfig):
        check_proxy(settings, role)
    if isinstance(settings, WebConfig):
        check_web(settings, role)


@pytest.mark.parametrize("folder", ["/var/lib/sluice", "/login-shared/sluice"])
def test_relays_read_where_the_scheduler_writes(folder: str) -> None:
    relay = rendered("relay", relay_state_dir=folder)
    scheduler = rendered("scheduler", scheduler_state_dir=folder)
    for key in ("routing_table", "demand_dir", "figures"):
        assert relay[key] == scheduler[key] and scheduler[key].startswith(f"{folder}/")
    assert scheduler["state_file"].startswith(f"{folder}/state/")


def test_a_scheduler_in_a_job_reads_its_models_where_every_node_sees_them() -> None:
    assert rendered("scheduler")["models_dir"] == "/etc/sluice/models.d"
    in_a_job = rendered("scheduler", scheduler_launcher="scrontab")
    assert in_a_job["models_dir"] == "/shared/sluice/scheduler/models.d"


@pytest.mark.parametrize("role", sorted(CONFIGS))
def test_every_key_of_the_part_is_written(role: str) -> None:
    """A key that the role leaves out would be one that no inventory can set."""
    known = {field.name for field in dataclasses.fields(CONFIGS[role])}
    assert known - set(rendered(role)) == set()


@pytest.mark.parametrize("role", sorted(CONFIGS))
def test_the_contracts_name_every_key_with_the_default_that_the_role_writes(role: str) -> None:
    text = (ROOT / "docs/contracts.md").read_text()
    (described,) = re.findall(rf"^`/etc/sluice/{role}\.json` .*(?:\n.+)*", text, re.MULTILINE)
    written = rendered(role)
    for key in written.keys() - {"version"}:
        assert f"`{key}`" in described
        default = re.search(rf"`{key}` \((?:[a-z ]+, )?([0-9.]+)", described)
        assert default is None or float(default[1]) == written[key], key
