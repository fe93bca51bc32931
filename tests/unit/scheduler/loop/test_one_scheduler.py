"""Two hosts that see one state: one of them schedules, the other leaves everything alone."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.cli import main
from sluice.scheduler import lease
from sluice.scheduler.commands import scheduler
from sluice.scheduler.state import Lease, Overwritten, StateFile
from tests.unit.scheduler.site import START, Site


class Hosts:
    """Which host this process is on, as it would say itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def on(self, name: str) -> None:
        """Go to another host."""
        self._monkeypatch.setattr(socket, "gethostname", lambda: name)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Begin on login1."""
    found = Hosts(monkeypatch)
    found.on("login1")
    return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: Hosts) -> Site:
    """Give a site whose scheduler has ticked on login1."""
    monkeypatch.setattr("sluice.scheduler.models.catalogue.STILL_CHANGING", 0.0)
    made = Site(tmp_path)
    made.apply(min=1, max=1)
    made.up()
    return made


def snapshot(site: Site) -> dict[str, bytes]:
    """Return every file that a scheduler writes, but for the lock."""
    return {path.name: path.read_bytes() for path in site.root.iterdir() if path.suffix == ".json"}


def test_a_second_host_does_nothing_while_the_lease_is_fresh(site: Site, hosts: Hosts) -> None:
    before, submitted = snapshot(site), site.slurm.submissions
    hosts.on("login2")
    site.now += 60
    with pytest.raises(lease.Busy, match="login1"):
        site.start()
    assert snapshot(site) == before and site.slurm.submissions == submitted


def test_a_host_that_fell_silent_is_followed_by_another(site: Site, hosts: Hosts) -> None:
    first = site.scheduler
    hosts.on("login2")
    site.now += 90
    site.start()
    site.tick()
    assert StateFile(site.config.state_file).load(site.now).lease.host == "login2"
    assert len(site.slurm.alive()) == 1
    # login1 was only slow: it must not go on with what it believed.
    hosts.on("login1")
    before, submitted = snapshot(site), site.slurm.submissions
    with pytest.raises(Overwritten, match="another process"):
        first.tick()
    assert snapshot(site) == before and site.slurm.submissions == submitted


def test_two_hosts_that_begin_at_the_same_moment_are_told_apart_before_anything_is_done(
    site: Site, hosts: Hosts
) -> None:
    site.now += 1000
    one, other = StateFile(site.config.state_file), StateFile(site.config.state_file)
    mine, theirs = one.load(site.now), other.load(site.now)
    one.save(replace(mine, lease=Lease("login2", "b", site.now)))
    with pytest.raises(Overwritten):
        other.save(replace(theirs, lease=Lease("login3", "c", site.now)))


def test_a_lease_that_was_given_back_lets_another_host_begin_at_once(site: Site, hosts: Hosts) -> None:
    site.scheduler.release()
    hosts.on("login2")
    site.now += 2
    site.start()
    site.tick()
    assert StateFile(site.config.state_file).load(site.now).lease.host == "login2"


@pytest.mark.parametrize(("launcher", "host"), [("cron", "login1"), ("scrontab", "")])
def test_only_a_scheduler_that_may_move_gives_its_lease_back(
    launcher: str, host: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one host the lease stays: two hosts that cron starts by mistake must not take turns."""
    path = site.root / "scheduler.json"
    settings = replace(site.config, launcher=launcher, run_for=0.01)
    path.write_text(json.dumps({"version": 1, **dataclasses.asdict(settings)}))

    monkeypatch.setattr(scheduler, "Slurm", lambda *_: site.slurm)
    monkeypatch.setattr(scheduler, "StopSignal", threading.Event)
    monkeypatch.setattr("sluice.logs.configure", lambda *_, **__: None)
    assert main(["scheduler", "--config", str(path)]) == 0
    assert StateFile(settings.state_file).load(START).lease.host == host


def test_another_account_than_the_states_own_ticks_not_and_is_told_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What root wrote once, the scheduler's account could not read: nothing ticked any more."""
    path = site.root / "scheduler.json"
    path.write_text(json.dumps(dataclasses.asdict(site.config)))
    before = snapshot(site)
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000_000)
    for more in ([], ["--once"]):
        assert main(["scheduler", "--config", str(path), *more]) == 1
        assert "its launcher does" in capsys.readouterr().err
    assert snapshot(site) == before
