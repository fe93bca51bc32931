"""`sluice_entries` refuses what the scheduler would refuse, and tells everything at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.library.ansible_module import run

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "contracts" / "model-entry.json"
ENGINES = {"vllm": {}, "vllm-apptainer": {"needs": ["image"]}, "llama-cpp": {"nodes": False}}
SOURCE = str(ROOT / "files" / "sluice" / "src")


def entry(**changes: Any) -> dict[str, Any]:
    """Return the golden model entry with some fields changed."""
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return {**found, **changes}


def check(monkeypatch: pytest.MonkeyPatch, *entries: dict[str, Any]) -> dict[str, Any]:
    """Run the module on these entries."""
    return run(
        monkeypatch, "sluice_entries", {"entries": list(entries), "engines": ENGINES, "source": SOURCE}, []
    )


def test_good_entries_pass_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(monkeypatch, entry(), entry(name="another"))
    assert (result["failed"], result["changed"]) == (False, False)
    assert result["names"] == [entry()["name"], "another"]


@pytest.mark.parametrize("words", ["", "none", "because I can"[:8]])
@pytest.mark.parametrize("said", [{"box": "none"}, {}])
def test_an_engine_without_a_box_is_refused_until_the_inventory_says_why_in_words(
    said: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {name: value for name, value in entry().items() if name != "box"} | said
    asked = {"entries": [one], "engines": ENGINES, "source": SOURCE, "box": "none"}
    result = run(monkeypatch, "sluice_entries", {**asked, "unboxed": words}, [])
    assert result["failed"]
    assert "sluice_engine_unboxed" in result["msg"] and "THREATS" in result["msg"]
    result = run(monkeypatch, "sluice_entries", {**asked, "unboxed": "No user namespaces here."}, [])
    assert not result["failed"]


def test_only_an_engine_in_an_image_has_its_container_for_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "box: apptainer is for" in check(monkeypatch, entry(box="apptainer"))["msg"]
    contained = {**entry(engine="vllm-apptainer", image="/images/vllm.sif")}
    assert "box: an engine in an image" in check(monkeypatch, contained)["msg"]
    del contained["box"]
    assert not check(monkeypatch, contained)["failed"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "../etc"}, "name: does not match"),
        ({"weights": "relative"}, "weights: does not match"),
        ({"max": 0}, "max: must be from 1"),
        ({"colour": "blue"}, "colour: is not a known field"),
        (
            {"slurm": {"partition": "gpu", "time": "2-00:00", "cpus": 1, "memory_mb": 1}},
            "slurm.time: must be a",
        ),
    ],
)
def test_a_wrong_field_is_named_with_the_remedy(
    changes: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = check(monkeypatch, entry(name="first"), entry(**changes))
    assert result["failed"]
    assert result["msg"].startswith("model_entries[1] (")
    assert field in result["msg"]
    assert "correct it in the inventory" in result["msg"]


def test_a_name_may_occur_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "occurs twice" in check(monkeypatch, entry(), entry())["msg"]


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(monkeypatch, entry(weights="x", max=0), entry(name="b", min=-1))
    assert len(result["problems"]) == 3


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"engine": "abacus"}, "engine: abacus is unknown; there are llama-cpp, vllm, vllm-apptainer"),
        ({"engine": "vllm-apptainer"}, "image: the engine vllm-apptainer needs it"),
        (
            {"engine": "llama-cpp", "slurm": {**entry()["slurm"], "nodes": 2}},
            "slurm.nodes: an instance of the engine llama-cpp can use only one node",
        ),
    ],
)
def test_an_entry_has_what_its_engine_needs(
    changes: dict[str, Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert field in check(monkeypatch, entry(**changes))["msg"]


def test_an_engine_that_takes_several_nodes_may(monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = {**entry()["slurm"], "nodes": 2}
    assert not check(monkeypatch, entry(slurm=slurm))["failed"]
