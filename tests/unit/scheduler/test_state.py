"""The state file: whole or set aside, readable across versions, and never over another host's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.contracts.jobs import JobRecord
from sluice.scheduler.instances.instance import BURST, Instance
from sluice.scheduler.instances.node_failures import ExclusionRule, Node, excluded
from sluice.scheduler.policy.ledger import Ledger
from sluice.scheduler.policy.policy import Backoff, Memory
from sluice.scheduler.state import Ended, FailedStart, Lease, Overwritten, State, StateFile

NOW = 1_795_000_000.0
GOLDEN = Path(__file__).parents[2] / "golden" / "contracts"
RECORD = JobRecord.parse(json.loads((GOLDEN / "job-record.json").read_text()))
INSTANCE = Instance(
    "m-00000001",
    "m",
    "00000001",
    "d",
    NOW,
    nodes=("c1", "c2"),
    record=RECORD,
    kind=BURST,
    gpus=4,
    leaving="warned",
)
FULL = State(
    instances={"m-00000001": INSTANCE},
    memory={"m": Memory(load_times=(1.0, 2.5), refused=Backoff(1, 2.0, 3.0, "no"))},
    entries={"m": {"name": "m", "slurm": {"partition": "p"}}},
    ended={"m-00000002": Ended("m", "d", NOW)},
    failed_starts={"m": FailedStart("m-00000002", "7", "d", ("a line",))},
    lease=Lease("login", "boot", NOW),
    generation=7,
    backoff=Backoff(2, NOW, NOW + 20, "Slurm temporarily unable to accept job"),
    scope_backoffs={
        "account=chat partition=gpu qos=(default)": Backoff(1, NOW, NOW + 10, "AssocMaxSubmitJobLimit")
    },
    ledger=Ledger(20_775, 3600.0, NOW, (NOW - 5,)),
    nodes={"c1": Node(NOW, ("d", "d"), NOW)},
)


def test_everything_survives_being_written_and_read(tmp_path: Path) -> None:
    states = StateFile(str(tmp_path / "state.json"))
    states.save(FULL)
    assert StateFile(str(tmp_path / "state.json")).load(NOW) == FULL
    assert StateFile(str(tmp_path / "state.json")).peek() == FULL


def test_what_changed_is_written_and_what_went_is_gone(tmp_path: Path) -> None:
    states = StateFile(str(tmp_path / "state.json"))
    states.save(FULL)
    changed = replace(
        FULL,
        instances={"m-00000003": replace(INSTANCE, id="m-00000003"), "m-00000001": replace(INSTANCE, gpus=1)},
        memory={},
    )
    states.save(changed)
    assert StateFile(str(tmp_path / "state.json")).load(NOW) == changed
    states.save(FULL)
    assert StateFile(str(tmp_path / "state.json")).load(NOW) == FULL


def test_a_state_of_an_earlier_or_later_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    StateFile(str(path)).save(FULL)
    document = json.loads(path.read_text())
    for name in ("ledger", "nodes", "backoff", "scope_backoffs"):
        del document[name]
    for name in ("kind", "gpus", "asked_nodes", "leaving", "hindered_since", "slurm_scope"):
        del document["instances"]["m-00000001"][name]
    document["memory"]["m"] = {"digest": "d", "level": 2, "load_time": 12.0, "failures": 1}
    document["charges"] = {"account=chat": {"count": 1}}
    document["instances"]["m-00000001"]["charge"] = "account=chat"
    document["of_tomorrow"] = [1]
    document["lease"]["since"] = 5
    path.write_text(json.dumps(document))
    found = StateFile(str(path)).load(NOW)
    assert found.instances["m-00000001"] == replace(INSTANCE, kind="base", gpus=0, leaving="")
    assert found.memory["m"] == Memory(digest="d", failures=1)
    assert (found.ledger, found.nodes, found.lease) == (Ledger(), {}, FULL.lease)
    assert list(tmp_path.glob("*.damaged-*")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        '{"version": 1, "instances": []}',
        '{"version": 1, "instances": {"m-00000001": {"id": "m-00000001"}}}',
        '{"version": 1, "ledger": {"starts": "many"}}',
        '{"version": 1, "nodes": {"c1": {"seen": "often"}}}',
        '{"version": 1, "backoff": 5}',
    ],
)
def test_a_damaged_state_is_set_aside_and_begun_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    states = StateFile(str(path))
    assert states.load(NOW) == State(adopting=True)
    (aside,) = tmp_path.glob("state.json.damaged-*")
    assert aside.read_text() == text
    states.save(State())
    assert StateFile(str(path)).load(NOW) == State()


def test_half_a_state_is_damaged_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    StateFile(str(path)).save(FULL)
    whole = path.read_bytes()
    for length in range(1, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        assert StateFile(str(path)).load(NOW) == State(adopting=True)


def test_a_state_that_another_process_wrote_is_not_written_over(tmp_path: Path) -> None:
    mine, other = StateFile(str(tmp_path / "state.json")), StateFile(str(tmp_path / "state.json"))
    mine.load(NOW)
    mine.save(FULL)
    other.load(NOW)
    other.save(replace(FULL, generation=8))
    with pytest.raises(Overwritten, match="another process"):
        mine.save(FULL)
    assert StateFile(str(tmp_path / "state.json")).load(NOW).generation == 8


def test_a_state_that_was_removed_is_written_again(tmp_path: Path) -> None:
    states = StateFile(str(tmp_path / "state.json"))
    states.load(NOW)
    states.save(FULL)
    states.path.unlink()
    states.save(FULL)
    assert states.load(NOW) == FULL


def test_what_an_earlier_version_held_against_nodes_is_read_and_shuts_none_out_for_all(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.json"
    StateFile(str(path)).save(FULL)
    document = json.loads(path.read_text())
    document["nodes"] = {"c1": {"seen": NOW, "failures": ["d1", "d1"], "failed_at": NOW}, "c2": {"seen": NOW}}
    del document["memory"]["m"]["refused_at"]
    path.write_text(json.dumps(document))
    found = StateFile(str(path)).load(NOW)
    assert found.nodes["c1"] == Node(NOW, ("d1", "d1"), NOW)
    assert excluded(found.nodes, ExclusionRule(2, 3600.0), NOW) == {}
    assert list(excluded(found.nodes, ExclusionRule(2, 3600.0), NOW, "d1")) == ["c1"]
    assert found.memory["m"].refused_at == 0.0
