"""Registering models: everything that is wrong is named at once, and `changed` is honest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from sluice.cli import main
from sluice.errors import SluiceError
from sluice.scheduler.models import registration
from sluice.scheduler.models.catalogue import read_catalogue

GOLDEN = Path(__file__).parents[3] / "golden"
ENTRY = json.loads((GOLDEN / "contracts/model-entry.json").read_text())
SCRIPT = (GOLDEN / "sbatch/llama-cpp.sbatch").read_text()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Give an empty models directory."""
    made = tmp_path / "models.d"
    made.mkdir()
    return made


def given(tmp_path: Path, entry: Any = ENTRY, script: str = SCRIPT) -> tuple[Path, Path]:
    """Write the files that are to be registered."""
    (tmp_path / "entry.json").write_text(entry if isinstance(entry, str) else json.dumps(entry))
    (tmp_path / "script").write_text(script)
    return tmp_path / "entry.json", tmp_path / "script"


def register(models: Path, entry: Path, script: Path) -> registration.Change:
    """Prepare and carry out."""
    change = registration.prepare(str(models), entry, script)
    registration.carry_out(str(models), change)
    return change


def test_a_first_registration_changes_and_a_second_does_not(models: Path, tmp_path: Path) -> None:
    files = given(tmp_path)
    first = register(models, *files)
    assert first.changed
    assert first.before.document() == {"entry": None, "script": None}
    again = register(models, *files)
    assert not again.changed
    assert again.before == first.after
    assert read_catalogue(str(models), 0.0).listed.keys() == {ENTRY["name"]}
    assert (models / f"{ENTRY['name']}.json").stat().st_mode & 0o777 == 0o640


def test_a_check_writes_nothing(models: Path, tmp_path: Path) -> None:
    assert registration.prepare(str(models), *given(tmp_path)).changed
    assert list(models.iterdir()) == []


def test_a_default_spelt_out_is_no_change(models: Path, tmp_path: Path) -> None:
    short = {key: value for key, value in ENTRY.items() if key not in ("groups", "idle_stop", "version")}
    register(models, *given(tmp_path, short))
    assert not registration.prepare(str(models), *given(tmp_path)).changed


def test_a_removal_takes_both_files(models: Path, tmp_path: Path) -> None:
    register(models, *given(tmp_path))
    change = registration.removal(str(models), ENTRY["name"])
    assert change.changed
    registration.carry_out(str(models), change)
    assert list(models.iterdir()) == []
    assert not registration.removal(str(models), ENTRY["name"]).changed


def test_trying_to_remove_a_file_elsewhere(models: Path) -> None:
    with pytest.raises(SluiceError, match="not a model name"):
        registration.removal(str(models), "../shadow")


def test_every_fault_is_listed_at_once(models: Path, tmp_path: Path) -> None:
    wrong = {
        **ENTRY,
        "context_length": "long",
        "min": 5,
        "max": 0,
        "surprise": 1,
        "groups": ["all", "Not Ok"],
        "slurm": {**ENTRY["slurm"], "time": 0, "hours": 3, "extra": ["--ok", "not ok", "-x"]},
        "burst": {"max": 0, "nice": -1, "hours": 3},
        "engine_args": ["--ok", ""],
        "manifest": "abc",
        "modules": ["vllm", "../x", "$(id)"],
    }
    del wrong["weights"]
    with pytest.raises(SluiceError) as caught:
        registration.prepare(str(models), *given(tmp_path, wrong, "echo\n#SBATCH --array=1-9\n"))
    text = caught.value.message
    for expected in (
        "weights: is missing",
        "context_length: must be",
        "max: must be",
        "surprise: is not a known field",
        "groups[1]",
        "slurm.time",
        "slurm.hours",
        "slurm.extra[1]",
        "slurm.extra[2]",
        "burst.max: must be from 1",
        "burst.nice: must be from 0",
        "burst.hours: is not a known field",
        "engine_args[1]",
        "manifest: does not match",
        "modules[1]",
        "modules[2]",
        "does not begin with #!",
        "sets --array",
    ):
        assert expected in text


@pytest.mark.parametrize("document", ["[]", "{", '{"name": "a", "name": "b"}', "null", "{}"])
def test_nonsense_is_refused_without_end(models: Path, tmp_path: Path, document: str) -> None:
    with pytest.raises(SluiceError, match="refused"):
        registration.prepare(str(models), *given(tmp_path, document))


@pytest.mark.parametrize(
    "line", ["--job-name=x", "--export=ALL", "-J x", "--nodes=1 --output=/tmp/x", "-a 1-3", "--comment=x"]
)
def test_a_script_may_not_set_what_the_scheduler_decides(models: Path, tmp_path: Path, line: str) -> None:
    with pytest.raises(SluiceError, match="scheduler decides"):
        registration.prepare(str(models), *given(tmp_path, script=f"#!/bin/bash\n#SBATCH {line}\n"))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--gpus=4", "use slurm.gpus instead of --gpus"),
        ("--nodes=2", "use slurm.nodes instead of --nodes"),
        ("--signal=USR2", "use slurm.warn instead of --signal"),
        ("--array=1-3", "sets --array, which the scheduler decides"),
        ("--dependency=singleton", "sets --dependency, which the scheduler decides"),
        ("--wait", "sets --wait, which the scheduler decides"),
    ],
)
def test_extra_options_do_not_contradict_the_entry(
    models: Path, tmp_path: Path, option: str, said: str
) -> None:
    entry = {**ENTRY, "slurm": {**ENTRY["slurm"], "extra": ["--constraint=a100", option]}}
    with pytest.raises(SluiceError) as caught:
        registration.prepare(str(models), *given(tmp_path, entry))
    assert f"slurm.extra[1]: {said}" in caught.value.message


@pytest.mark.parametrize(
    ("slurm", "burst", "named"),
    [
        ({"time": 2}, None, "slurm.time is only 2 min"),
        ({"time_min": 1}, None, "slurm.time_min is only 1 min"),
        ({"warn": 600}, {"max": 1, "time": 10}, "burst.time is only 10 min"),
        ({"warn": 600}, {"max": 1, "time_min": 9}, "burst.time_min is only 9 min"),
    ],
)
def test_slurms_warning_must_not_come_at_the_start(
    models: Path, tmp_path: Path, slurm: dict[str, Any], burst: Any, named: str
) -> None:
    entry = {**ENTRY, "slurm": {**ENTRY["slurm"], **slurm}, "burst": burst}
    with pytest.raises(SluiceError) as caught:
        registration.prepare(str(models), *given(tmp_path, entry))
    assert f"slurm.warn: is {slurm.get('warn', 120)} s, but {named}" in caught.value.message


def weights_of(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Make weights with their manifest; return their folder and an entry that names both."""
    folder = tmp_path / "Llama"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"1")
    assert main(["weights", "make", str(folder)]) == 0
    named = hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()
    return folder, {**ENTRY, "weights": str(folder), "manifest": named}


def test_weights_that_can_be_seen_are_checked(models: Path, tmp_path: Path) -> None:
    folder, entry = weights_of(tmp_path)
    assert registration.prepare(str(models), *given(tmp_path, entry)).changed
    (folder / "model.safetensors").write_bytes(b"2")
    with pytest.raises(SluiceError, match=r"model.safetensors: its content differs from the manifest"):
        registration.prepare(str(models), *given(tmp_path, entry))


def test_a_refused_entry_leaves_the_present_one(models: Path, tmp_path: Path) -> None:
    folder, entry = weights_of(tmp_path)
    register(models, *given(tmp_path, entry))
    before = {path.name: path.read_bytes() for path in models.iterdir()}
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(SluiceError, match="pickled weights are refused"):
        register(models, *given(tmp_path, {**entry, "max": 3}))
    assert {path.name: path.read_bytes() for path in models.iterdir()} == before


def test_weights_that_cannot_be_seen_are_left_to_the_job(models: Path, tmp_path: Path) -> None:
    entry = {**ENTRY, "weights": str(tmp_path / "elsewhere"), "manifest": "0" * 64}
    assert registration.prepare(str(models), *given(tmp_path, entry)).changed
