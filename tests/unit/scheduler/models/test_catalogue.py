"""What a site lets models ask for, and what becomes of one that asks for more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.models import Burst, ModelEntry
from sluice.errors import SluiceError
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.models import registration
from sluice.scheduler.models.catalogue import Allowed, breaches, gpus, read_catalogue
from tests.unit.scheduler.site import Site
from tests.unit.scheduler.test_config import GOOD

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts"
ENTRY = ModelEntry.parse(json.loads((GOLDEN / "model-entry.json").read_text()))
SLURM = replace(ENTRY.slurm, partition="gpu", nice=0, extra=())
PLAIN = replace(ENTRY, slurm=SLURM, burst=None)
LATER = 10_000_000_000.0


def asking(**changes: Any) -> ModelEntry:
    """Return the plain entry with some fields of its `slurm` changed."""
    return replace(PLAIN, slurm=replace(SLURM, **changes))


@pytest.mark.parametrize(
    ("entry", "allowed", "found"),
    [
        (PLAIN, Allowed(), []),
        (PLAIN, Allowed(("cpu", "gpu")), []),
        (PLAIN, Allowed(("cpu",)), ["slurm.partition: gpu is not among"]),
        (asking(partition="gpu,fat"), Allowed(("gpu",)), ["slurm.partition: fat is not among"]),
        (asking(extra=("--partition=fat",)), Allowed(("gpu",)), ["slurm.extra: fat is not among"]),
        (replace(PLAIN, burst=Burst(1, partition="fat")), Allowed(("gpu",)), ["burst.partition: fat"]),
        (replace(PLAIN, burst=Burst(1)), Allowed(("gpu",)), []),
        (PLAIN, Allowed((), 10), ["slurm.nice: is 0, the site's scheduler_min_nice is 10"]),
        (asking(nice=10), Allowed((), 10), []),
        (asking(nice=10, extra=("--nice=-5",)), Allowed((), 10), ["slurm.extra: is -5"]),
        (asking(nice=10, extra=("--nice",)), Allowed((), 101), ["slurm.nice: is 10", "slurm.extra: is 100"]),
        (replace(asking(nice=10), burst=Burst(1, nice=5)), Allowed((), 10), ["burst.nice: is 5"]),
        (replace(asking(nice=10), burst=Burst(1)), Allowed((), 10), []),
        (asking(partition="fat"), Allowed(("gpu",), 1), ["slurm.partition", "slurm.nice"]),
    ],
)
def test_what_is_beyond_the_sites_bounds_is_named(
    entry: ModelEntry, allowed: Allowed, found: list[str]
) -> None:
    problems = breaches(entry, allowed)
    assert len(problems) == len(found)
    for problem, words in zip(problems, found, strict=True):
        assert words in problem


def test_the_configuration_says_what_is_allowed() -> None:
    settings = replace(GOOD, partitions=("gpu",), min_nice=7)
    assert Allowed.from_config(settings) == Allowed(("gpu",), 7)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"gpus": 0, "gres": ""}, 0),
        ({"gpus": 2, "gres": "", "nodes": 3}, 6),
        ({"gpus": 0, "gres": "gpu"}, 1),
        ({"gpus": 0, "gres": "gpu:4", "nodes": 2}, 8),
        ({"gpus": 0, "gres": "gpu:a100:2,gpu:v100:1,nvme:100"}, 3),
        ({"gpus": 0, "gres": "shard:4"}, 0),
        ({"gpus": 1, "gres": "gpu:1"}, 1),
    ],
)
def test_gpus_are_counted_however_they_are_asked_for(changes: dict[str, Any], count: int) -> None:
    assert gpus(replace(SLURM, **{"nodes": 1, **changes})) == count


def put(folder: Path, entry: ModelEntry) -> tuple[Path, Path]:
    """Write an entry and a script; return their paths."""
    paths = folder / f"{entry.name}.json", folder / f"{entry.name}.sbatch"
    paths[0].write_text(json.dumps(entry.dump()))
    paths[1].write_text("#!/bin/bash\n")
    return paths


def test_a_registered_model_beyond_the_bounds_is_held_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, PLAIN)
    put(tmp_path, replace(PLAIN, name="other", slurm=replace(SLURM, partition="cpu")))
    assert read_catalogue(str(tmp_path), LATER).unusable == {}
    catalogue = read_catalogue(str(tmp_path), LATER, Allowed(("cpu",)))
    assert list(catalogue.listed) == ["other"]
    assert "gpu is not among the site's scheduler_partitions: cpu" in catalogue.unusable[PLAIN.name]


def test_a_model_beyond_the_bounds_is_not_registered(tmp_path: Path) -> None:
    models = tmp_path / "models.d"
    models.mkdir()
    entry, script = put(tmp_path, PLAIN)
    with pytest.raises(SluiceError) as caught:
        registration.prepare(str(models), entry, script, Allowed(("cpu",), 5))
    assert "slurm.partition: gpu" in caught.value.message and "slurm.nice" in caught.value.message
    assert registration.prepare(str(models), entry, script).changed


class Bounded(Site):
    """A site that lets models ask for one other partition alone."""

    @property
    def config(self) -> SchedulerConfig:
        """The site's configuration."""
        return replace(super().config, partitions=("other",))


def test_a_model_beyond_the_bounds_is_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.scheduler.models.catalogue.STILL_CHANGING", 0.0)
    site = Bounded(tmp_path)
    site.apply(min=1, max=1)
    site.tick()
    assert site.slurm.submissions == 0
    site.apply(min=1, max=1, burst=None, slurm={"partition": "other", "time": 60, "cpus": 1, "memory_mb": 1})
    site.tick()
    assert site.slurm.submissions == 1
