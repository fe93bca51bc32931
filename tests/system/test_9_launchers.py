"""What starts the scheduler is a setting: a systemd timer in place of cron, and back, while jobs run on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from demo.deployment import Deployment
from tests.system.service import MODEL, Service

CRONTAB = "/etc/cron.d/sluice"
UNITS = "/etc/systemd/system/sluice-scheduler"
LAST_TICK = "stat -c %Y /var/lib/sluice/routing.json"


def switch(deployment: Deployment, launcher: str, *further: str) -> list[str]:
    """Run the scheduler's part of the login playbook; return what it changed."""
    limits = ["--limit", "login", "--tags", "scheduler", "--extra-vars", f"scheduler_launcher={launcher}"]
    output = deployment.play("playbooks/login.yml", *limits, *further).stdout
    return [line for line in output.splitlines() if line.startswith("changed:")]


def files(service: Service) -> list[str]:
    """Return which launchers' files there are."""
    return service.shell("login", f"ls {CRONTAB} {UNITS}.* 2>/dev/null; true").split()


def ticks_on(service: Service, seconds: float) -> None:
    """Wait until a tick that is yet to come has come."""
    began = float(service.shell("login", "date +%s"))
    deadline = time.monotonic() + seconds
    while float(service.shell("login", LAST_TICK)) <= began:
        assert time.monotonic() < deadline, service.try_shell("login", "systemctl status sluice-scheduler.*")
        time.sleep(0.5)


@pytest.fixture
def cron_again(deployment: Deployment, service: Service) -> Iterator[None]:
    """Leave the launcher as it was, whatever happens."""
    yield
    if files(service) != [CRONTAB]:
        switch(deployment, "cron")


def test_the_timer_takes_crons_place_and_gives_it_back(
    deployment: Deployment, service: Service, cron_again: None
) -> None:
    # Of the models that earlier tests made, instances may still be on their way out; this one's stay.
    jobs = service.ready(MODEL)
    assert jobs
    # What check mode says is what comes true: cron's table goes, two units come, the timer is started.
    said = switch(deployment, "systemd", "--check", "--diff")
    assert files(service) == [CRONTAB]
    done = switch(deployment, "systemd")
    assert 0 < len(said) <= len(done)
    assert files(service) == [f"{UNITS}.service", f"{UNITS}.timer"]
    assert switch(deployment, "systemd") == []
    ticks_on(service, 40)
    service.shell("login", "systemctl kill --signal=KILL sluice-scheduler.service")
    ticks_on(service, 40)
    findings = service.try_shell("login", "sluice doctor")
    assert not [line for line in findings.splitlines() if line.startswith("launcher") and " ok " not in line]
    assert set(jobs) <= set(service.ready(MODEL))
    assert switch(deployment, "cron") != []
    assert files(service) == [CRONTAB]
    ticks_on(service, 90)
