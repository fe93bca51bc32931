"""What a kill at any effect of a tick leaves, over a Slurm in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest

from sluice.scheduler.loop import tick as tick_module
from sluice.scheduler.publish.publishing import RoutingFile, publish
from tests.unit.scheduler.site import MemorySlurm, Site


class Killed(BaseException):
    """Stands for a kill -9: nothing of the process runs after it."""


class Bomb:
    """Kills before the n-th effect: state and routing writes, directories, sbatch, scancel.

    "After effect n" is the same as "before effect n + 1": nothing between two effects reaches the disk.
    """

    def __init__(self, number: int) -> None:
        self.left, self.went_off = number, False

    def around(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        """Return `effect`, counted."""

        def counted(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.went_off = True
                raise Killed
            return effect(*arguments, **named)

        return counted

    def plant(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wrap the effects of the site's present process."""
        scheduler = site.scheduler
        monkeypatch.setattr(scheduler.states, "save", self.around(scheduler.states.save))
        monkeypatch.setattr(scheduler.directories, "create", self.around(scheduler.directories.create))
        monkeypatch.setattr(site.slurm, "submit", self.around(MemorySlurm.submit.__get__(site.slurm)))
        monkeypatch.setattr(site.slurm, "cancel", self.around(MemorySlurm.cancel.__get__(site.slurm)))
        monkeypatch.setattr(tick_module, "publish", self.around(PUBLISH))
        monkeypatch.setattr(RoutingFile, "write", self.around(WRITE))


PUBLISH, WRITE = publish, RoutingFile.write


def live_through(site: Site, bomb: Bomb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start, serve, roll to a new digest; when killed, a new process goes on."""
    bomb.plant(site, monkeypatch)
    for step in range(17):
        if step == 6:
            site.apply(min=1, max=1, context_length=77)
        try:
            site.tick(6)
        except Killed:
            with monkeypatch.context():
                monkeypatch.setattr(tick_module, "publish", PUBLISH)
                monkeypatch.setattr(RoutingFile, "write", WRITE)
                monkeypatch.setattr(site.slurm, "submit", MemorySlurm.submit.__get__(site.slurm))
                monkeypatch.setattr(site.slurm, "cancel", MemorySlurm.cancel.__get__(site.slurm))
                site.start()
        for job in site.slurm.alive():
            if job.state == "PENDING":
                site.run(job.job_id, port=20000 + int(job.job_id))
        assert len(site.slurm.alive()) <= 2


def test_a_kill_at_any_effect_leaves_no_duplicate_and_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.scheduler.models.catalogue.STILL_CHANGING", 0.0)
    # A kill takes nothing from the disk that was written: syncing is not what is tried here, and slow.
    monkeypatch.setattr("sluice.contracts.files.os.fsync", lambda _: None)
    boundaries = 0
    for number in range(1, 200):
        root = tmp_path / str(number)
        root.mkdir()
        site = Site(root)
        site.apply(min=1, max=1)
        bomb = Bomb(number)
        live_through(site, bomb, monkeypatch)
        (job,) = site.slurm.alive()
        (instance,) = site.scheduler.state.instances.values()
        assert job.name == instance.name, f"effect {number}"
        assert site.routed() == {instance.id: "ready"}, f"effect {number}"
        assert site.slurm.submissions == 2, f"effect {number}"
        if not bomb.went_off:
            break
        boundaries = number
    assert boundaries >= 40
