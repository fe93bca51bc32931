"""The configuration file: a wrong value stops the start and is named."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sluice import config
from sluice.errors import ConfigError
from sluice.scheduler.config import SchedulerConfig

GOOD = SchedulerConfig(
    cluster="demo",
    models_dir="/etc/sluice/models.d",
    jobs_dir="/shared/sluice/jobs",
    state_file="/var/lib/sluice/state/state.json",
    lock_file="/var/lib/sluice/state/lock",
    routing_table="/var/lib/sluice/routing.json",
    demand_dir="/var/lib/sluice/demand",
    figures="/var/lib/sluice/figures.json",
    zipapp="/shared/sluice/sluice.pyz",
    python="/usr/bin/python3",
    max_instances=8,
)


def test_ports_are_a_range_that_includes_its_ends() -> None:
    assert GOOD.port_range() == range(20000, 21000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cluster": "Demo!"},
        {"models_dir": "models.d"},
        {"jobs_dir": "/shared/my jobs"},
        {"jobs_dir": "/shared/a,b"},
        {"slurm_conf": "slurm.conf"},
        {"ports": "80-90"},
        {"ports": "21000-20000"},
        {"ports": "20000"},
        {"max_instances": 0},
        {"tick_interval": 0.0},
        {"drain_timeout": -1.0},
        {"log_level": "loud"},
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        dataclasses.replace(GOOD, **wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_a_wrong_value_in_a_file_names_key_and_file() -> None:
    document = {**json.loads(json.dumps(dataclasses.asdict(GOOD))), "ports": "80-90"}
    with pytest.raises(ConfigError) as caught:
        config.parse(SchedulerConfig, document, "/etc/sluice/scheduler.json")
    assert caught.value.message.startswith("/etc/sluice/scheduler.json: ports: '80-90'")
