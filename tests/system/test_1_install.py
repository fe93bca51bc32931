"""The site playbook on hosts that never saw it, and on hosts that have."""

from __future__ import annotations

import re

import pytest

from demo.bed.topology import HOST_NAMES
from demo.deployment import Deployment
from tests.system.conftest import FreshRun

_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


def recap(output: str) -> dict[str, tuple[int, int, int]]:
    """Return changed, unreachable and failed by host."""
    found = {row[0]: (int(row[2]), int(row[3]), int(row[4])) for row in _RECAP.findall(output)}
    assert found, output[-2000:]
    return found


def test_check_mode_on_fresh_hosts_succeeds(fresh_run: FreshRun) -> None:
    assert fresh_run.check_status == 0, fresh_run.check_output[-4000:]


@pytest.mark.parametrize("host", HOST_NAMES)
def test_check_mode_on_fresh_hosts_changes_nothing(fresh_run: FreshRun, host: str) -> None:
    before, after = fresh_run.before[host], fresh_run.after[host]
    assert sorted(before.files ^ after.files) == []
    assert (before.packages, before.accounts, before.units) == (after.packages, after.accounts, after.units)


def test_a_second_run_changes_nothing(fresh_run: FreshRun, deployment: Deployment) -> None:
    output = deployment.play("playbooks/site.yml").stdout
    changed = [line for line in output.splitlines() if line.startswith("changed:")]
    assert all(counts == (0, 0, 0) for counts in recap(output).values()), changed


def test_check_and_diff_on_installed_hosts_find_nothing_to_change(deployment: Deployment) -> None:
    output = deployment.play("playbooks/site.yml", "--check", "--diff").stdout
    changed = [line for line in output.splitlines() if line.startswith("changed:")]
    assert all(counts == (0, 0, 0) for counts in recap(output).values()), changed
