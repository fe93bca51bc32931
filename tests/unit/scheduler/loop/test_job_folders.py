"""Whatever lies in a job's folder concerns that instance alone: the tick goes on, and so do the others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.scheduler.outside.test_untrusted_files import KINDS
from tests.unit.scheduler.site import Site


def two(site: Site) -> tuple[str, str]:
    """Bring two instances to ready; return their names."""
    site.apply(min=2, max=2)
    site.tick()
    for number, job in enumerate(site.slurm.alive()):
        site.run(job.job_id, port=20001 + number)
    site.tick()
    first, second = (job.name.partition(":")[2] for job in site.slurm.alive())
    assert site.routed() == {first: "ready", second: "ready"}
    return first, second


@pytest.mark.parametrize("name", ["record.json", "output", ""])
@pytest.mark.parametrize("lay", KINDS.values(), ids=KINDS)
def test_a_hostile_folder_of_one_instance_ends_no_tick_and_hurts_no_other(
    site: Site, lay: Callable[[Path], None], name: str
) -> None:
    hostile, other = two(site)
    folder = site.root / "jobs" / hostile
    if name:
        (folder / name).unlink(missing_ok=True)
    else:
        shutil.rmtree(folder)
    lay(folder / name if name else folder)
    # Its front does not answer: its record is of interest again.
    site.healthy.discard(hostile)
    for _ in range(4):
        site.tick(15)
        assert site.routed().get(other) == "ready"
    site.slurm.end(next(one.job_id for one in site.slurm.alive() if hostile in one.name), "FAILED")
    for _ in range(3):
        site.tick(15)
    assert site.routed().get(other) == "ready"


@pytest.mark.parametrize("lay", KINDS.values(), ids=KINDS)
def test_a_job_that_failed_leaves_what_it_likes_and_its_folder_goes_once_it_is_old(
    site: Site, lay: Callable[[Path], None]
) -> None:
    site.tick()
    (job,) = site.slurm.alive()
    folder = site.root / "jobs" / job.name.partition(":")[2]
    lay(folder / "output")
    site.slurm.end(job.job_id, "FAILED")
    site.tick()
    assert site.scheduler.state.failed_starts["m"].lines == ()
    os.utime(folder, (site.now - 90_000, site.now - 90_000))
    site.now += 7200
    site.tick()
    assert not folder.exists()
