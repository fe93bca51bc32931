"""Slurm as it is: each situation of docs/scheduler.md, on the fake Slurm, through the scheduler's own tick.

The fake's commands run in this process: argv and output are the real ones, only the process start is spared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union

import pytest

from sluice.cli import main
from sluice.contracts.files import read_json
from sluice.contracts.routing import RoutingTable
from sluice.scheduler.commands.overview import read_overview
from sluice.scheduler.instances import node_failures
from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.loop.tick import Scheduler
from sluice.scheduler.models import orders
from sluice.scheduler.outside.jobs import JobDirectories
from sluice.scheduler.outside.probe import Health
from sluice.scheduler.policy import bounds, policy
from sluice.scheduler.slurm.client import Slurm
from sluice.scheduler.slurm.programs import Finished, Unknown
from sluice.scheduler.state import StateFile
from tests.fakes.slurm import slurm as fake
from tests.unit.scheduler.site import configuration

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts"
DOCUMENT = Path(__file__).parents[4] / "docs" / "scheduler.md"
START = 1_795_000_000.0


class InProcess(Slurm):
    """The adapter with the fake's commands called as functions."""

    def __init__(self, cluster: fake.Cluster) -> None:
        super().__init__(str(cluster.bin), "", 5.0)
        self.cluster = cluster
        self.commands: list[list[str]] = []

    def _run(
        self, argv: Sequence[str], text: str = "", more: Optional[Mapping[str, str]] = None
    ) -> Union[Finished, Unknown]:
        self.commands.append(list(argv))
        output, errors = io.StringIO(), io.StringIO()
        stdin, sys.stdin = sys.stdin, io.StringIO(text)
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                status = fake.run(self.cluster, argv[0], list(argv[1:]))
        finally:
            sys.stdin = stdin
        return Finished(status, output.getvalue(), errors.getvalue())


@dataclass
class Site:
    """A login node with one model that is always to have one instance; time moves when told."""

    root: Path
    now: float = START
    healthy: bool = True
    silent: set[str] = field(default_factory=set)
    settings: dict[str, Any] = field(default_factory=dict)
    # What is edited in a record, or what lies in its place.
    record: Union[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("models.d", "jobs", "demand"):
            (self.root / name).mkdir()
        self.cluster = fake.Cluster(self.root / "slurm", lambda: self.now)
        self.cluster.install(nodes=["c1", "c2", "c3", "c4"], start_delay=1.0)
        self.slurm = InProcess(self.cluster)
        self.apply()
        self.start()

    def start(self) -> None:
        """Start a scheduler on what lies on the disk."""
        config = configuration(self.root, **self.settings)
        self.scheduler = Scheduler(
            config=config,
            slurm=self.slurm,
            states=StateFile(config.state_file),
            directories=JobDirectories(config.jobs_dir, config.port_range()),
            probe=lambda record, timeout: Health(
                "" if self.healthy and record.instance not in self.silent else "refused"
            ),
            clock=lambda: self.now,
        )
        self.scheduler.load()

    def apply(self, name: str = "m", **changes: Any) -> None:
        """Register a model."""
        entry = json.loads((GOLDEN / "model-entry.json").read_text())
        entry.update({"name": name, "min": 1, "max": 1, "burst": None, **changes})
        account = entry["slurm"].get("account")
        asked = f"#SBATCH --account={account}\n" if account else ""
        (self.root / f"models.d/{name}.sbatch").write_text(f"#!/bin/bash\n{asked}true\n")
        (self.root / f"models.d/{name}.json").write_text(json.dumps(entry))

    def tick(self, seconds: float = 5.0, times: int = 1) -> None:
        """Let time pass, let running jobs publish their records, and tick."""
        for _ in range(times):
            self.now += seconds
            self.publish()
            self.scheduler.tick()

    def publish(self) -> None:
        """Write the records of running jobs."""
        record = json.loads((GOLDEN / "job-record.json").read_text())
        for job in self.cluster.alive():
            folder = Path(job["directory"])
            instance, path = folder.name, folder / "record.json"
            if job["state"] == "RUNNING" and folder.parent == self.root / "jobs":
                said = {"instance": instance, "nonce": instance[-8:], "job_id": job["id"]}
                started = {"started": job["started"], "host": job["nodes"][0], "port": 20001}
                changes = self.record
                whole = (
                    changes
                    if isinstance(changes, str)
                    else json.dumps({**record, **said, **started, **changes})
                )
                path.write_text(whole)

    def up(self) -> str:
        """Bring the model to ready; return its job's id."""
        self.tick(times=3)
        assert list(self.routed().values()) == ["ready"]
        return str(self.cluster.alive()[-1]["id"])

    def table(self) -> RoutingTable:
        """Return the published routing table."""
        return RoutingTable.parse(read_json(self.root / "routing.json"))

    def routed(self) -> dict[str, str]:
        """Return the routed instances with their states."""
        table = self.table()
        return {one.id: one.state for model in table.models.values() for one in model.instances}

    def instance(self, job_id: str) -> Instance:
        """Return the instance of a job."""
        return next(one for one in self.scheduler.state.instances.values() if one.job_id == job_id)

    def submitted(self) -> int:
        """Return how many jobs Slurm took."""
        return len(self.cluster.jobs())

    def failures(self) -> int:
        """Return how many failed starts in a row count against the model."""
        return self.scheduler.state.memory["m"].failures


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give a site; entries count as settled at once, and nothing is synced to a disk that nobody reads."""
    monkeypatch.setattr("sluice.scheduler.models.catalogue.STILL_CHANGING", 0.0)
    monkeypatch.setattr("sluice.contracts.files.os.fsync", lambda _: None)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield Site(tmp_path)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("reason", ["JobHeldAdmin", "JobHeldUser"])
def test_a_job_that_a_person_holds_is_left_alone_and_not_replaced(site: Site, reason: str) -> None:
    site.tick()
    site.cluster.alter("1", "PENDING", reason)
    site.tick(600, times=5)
    assert (site.submitted(), site.failures()) == (1, 0)
    assert site.instance("1").reason == reason
    site.cluster.alter("1", "PENDING", "None", eligible=site.now)
    site.tick(times=3)
    assert list(site.routed().values()) == ["ready"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("PENDING", "launch failed requeued held"),
        ("PENDING", "launch failure limit exceeded requeued held"),
        ("PENDING", "user env retrieval failed requeued held"),
        ("PENDING", "job requeued in held state"),
        ("PENDING", "BadConstraints"),
        ("PENDING", "JobHoldMaxRequeue"),
        ("PENDING", "ReservationDeleted"),
        ("PENDING", "Reservation chat was deleted"),
        ("REQUEUE_HOLD", "job requeued in held state"),
        ("RESV_DEL_HOLD", "Reservation chat was deleted"),
        ("SPECIAL_EXIT", "job requeued in special exit state"),
    ],
)
def test_a_job_that_slurm_holds_for_good_is_cancelled_and_replaced(
    site: Site, state: str, reason: str
) -> None:
    site.tick()
    site.cluster.alter("1", state, reason)
    site.tick()
    assert reason in site.scheduler.state.memory["m"].message
    assert site.cluster.jobs()[0]["state"] == "CANCELLED"
    assert site.failures() == 1
    site.tick(30, times=3)
    assert site.submitted() == 2 and list(site.routed().values()) == ["ready"]


@pytest.mark.parametrize("reason", ["InvalidAccount", "InvalidQOS", "QOSMaxGRESPerJob", "a later word"])
def test_a_job_that_waits_for_what_may_never_come_is_told_and_given_up(site: Site, reason: str) -> None:
    site.tick()
    site.cluster.alter("1", "PENDING", reason)
    site.tick()
    assert site.scheduler.state.memory["m"].obstacle == f"job 1 waits in Slurm's queue: {reason}"
    site.tick(300, times=6)
    # What was repaired meanwhile does not count.
    site.cluster.alter("1", "PENDING", "Priority")
    site.tick()
    assert site.scheduler.state.memory["m"].obstacle == ""
    site.cluster.alter("1", "PENDING", reason)
    site.tick(300, times=11)
    site.start()
    assert (site.submitted(), site.failures()) == (1, 0)
    site.tick(300, times=2)
    assert (site.cluster.jobs()[0]["state"], site.failures()) == ("CANCELLED", 1)
    assert site.scheduler.state.memory["m"].message.endswith(f"3600 s in Slurm's queue: {reason}")
    site.tick(30, times=3)
    assert list(site.routed().values()) == ["ready"]


@pytest.mark.parametrize(
    "reason", ["AssocGrpGRES", "PartitionDown", "ReqNodeNotAvail, Reserved for maintenance"]
)
def test_a_job_that_waits_for_others_is_told_and_never_given_up(site: Site, reason: str) -> None:
    site.tick()
    site.cluster.alter("1", "PENDING", reason)
    site.tick(3600, times=30)
    assert (site.submitted(), site.failures()) == (1, 0)
    assert reason in site.scheduler.state.memory["m"].obstacle


def test_a_restart_order_replaces_a_held_job(site: Site) -> None:
    site.tick()
    site.cluster.alter("1", "PENDING", "JobHeldAdmin")
    site.tick(60, times=2)
    orders.change(
        site.scheduler.config.models_dir, "m", lambda found: replace(found, restart=site.now, by="root")
    )
    site.tick(times=4)
    assert [job["state"] for job in site.cluster.jobs()] == ["CANCELLED", "RUNNING"]
    assert (list(site.routed().values()), site.failures()) == (["ready"], 0)


def test_a_requeue_on_another_node_under_the_same_id_is_not_found_by_the_old_record(site: Site) -> None:
    job_id = site.up()
    (first,) = site.instance(job_id).nodes
    old = (site.root / "jobs" / site.instance(job_id).id / "record.json").read_text()
    site.cluster.requeue(job_id)
    site.cluster.configure(nodes=["c9"])
    # Between two ticks: only the start and the node differ.
    site.now += 60
    site.cluster.jobs()
    site.scheduler.tick()
    assert site.instance(job_id).nodes == ("c9",) != (first,)
    assert site.routed() == {}
    (site.root / "jobs" / site.instance(job_id).id / "record.json").write_text(old)
    site.scheduler.tick()
    assert site.routed() == {}
    site.tick(times=2)
    table = RoutingTable.parse(read_json(site.root / "routing.json"))
    assert table.models["m"].instances[0].host == "c9"
    assert (site.submitted(), site.failures()) == (1, 0)


HOSTILE = {
    "another host": {"host": "login.example.org"},
    "a port outside the site's range": {"port": 22},
    "a path for a host": {"host": "/var/run/docker.sock"},
    "another instance": {"instance": "other-00000001"},
    "a field of its own": {"command": "rm -rf /"},
    "a megabyte": {"padding": "x" * (1 << 20)},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_job_record_is_refused_and_its_job_fails(site: Site, changes: dict[str, Any]) -> None:
    site.record = changes
    site.tick(times=3)
    assert site.routed() == {}
    site.tick(20, times=5)
    assert site.cluster.jobs()[0]["state"] == "CANCELLED"
    assert site.failures() >= 1
    assert "record" in site.scheduler.state.memory["m"].message


EDITED: dict[str, tuple[Union[str, dict[str, Any]], str]] = {
    "no JSON": ('{"version": 1, "host":', "JSON"),
    "an empty file": ("", "JSON"),
    "a list": ("[]", "object"),
    "another version": ({"version": 2}, "version"),
    "no version": ({"version": None}, "version"),
    "an unknown field": ({"comment": "moved to c9"}, "comment"),
    "a text for a number": ({"port": "20001"}, "port"),
    "another instance's name": ({"instance": "m-00000001"}, "instance"),
    "another submission's nonce": ({"nonce": "00000001"}, "instance"),
    "another job's id": ({"job_id": "999"}, "job_id"),
    "a host that is not the job's": ({"host": "c9"}, "c9 is not among the job's nodes"),
    "a port outside the site's range": ({"port": 8000}, "8000 is not in the site's range"),
    "a broken certificate": ({"certificate": "x"}, "certificate"),
    "a megabyte": ("x" * (1 << 20), "larger than"),
}
# Nothing tells it from a front's own before that has answered.
PLAUSIBLE = {"another port of the range": ({"port": 20002}, "not the one that the front published")}


def told(site: Site, caplog: pytest.LogCaptureFixture) -> tuple[list[str], str]:
    """Return what the log says of job records, and what `sluice status` says of the one instance."""
    logged = [vars(one)["problem"] for one in caplog.records if "job record" in one.getMessage()]
    (instance,) = read_overview(site.scheduler.config).document()["models"]["m"]["instances"]
    return logged, instance["reason"]


@pytest.mark.parametrize(("edit", "words"), EDITED.values(), ids=EDITED)
def test_a_record_edited_before_its_instance_is_ready_is_told_once(
    site: Site, caplog: pytest.LogCaptureFixture, edit: Union[str, dict[str, Any]], words: str
) -> None:
    site.record = edit
    site.tick(times=6)
    logged, reason = told(site, caplog)
    assert len(logged) == 1 and words in logged[0]
    assert reason == f"its record.json is refused: {logged[0]}"
    site.record = {}
    site.tick(times=2)
    assert list(site.routed().values()) == ["ready"]
    assert "record" not in told(site, caplog)[1]


@pytest.mark.parametrize(("edit", "words"), {**EDITED, **PLAUSIBLE}.values(), ids=[*EDITED, *PLAUSIBLE])
def test_a_record_edited_after_its_instance_is_ready_changes_nothing_and_is_told_once(
    site: Site, caplog: pytest.LogCaptureFixture, edit: Union[str, dict[str, Any]], words: str
) -> None:
    job = site.up()
    before = site.table().models["m"].instances
    site.record = edit
    site.tick(times=4)
    site.start()
    site.tick(20, times=5)
    logged, reason = told(site, caplog)
    assert len(logged) == 1 and words in logged[0]
    assert reason == f"its record.json was changed, the one read first stays valid: {logged[0]}"
    assert site.table().models["m"].instances == before
    assert [one["id"] for one in site.cluster.alive()] == [job], "it serves on"
    site.record = {}
    site.tick(times=2)
    assert told(site, caplog) == (logged, "None")


def test_a_record_that_cannot_be_seen_for_a_while_is_nobodys_edit(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.up()
    (path,) = site.root.glob("jobs/*/record.json")
    path.unlink()
    monkeypatch.setattr(site, "publish", lambda: None)
    site.tick(times=5)
    assert told(site, caplog) == ([], "None")
    assert list(site.routed().values()) == ["ready"]


def test_a_record_refused_for_a_moment_is_nobodys_failure(site: Site) -> None:
    site.record = {"host": "c9"}
    site.tick(times=3)
    site.record = {}
    site.tick(20, times=5)
    assert (list(site.routed().values()), site.submitted(), site.failures()) == (["ready"], 1, 0)


def excluded(site: Site) -> dict[str, float]:
    """Return the nodes that are left out, with the time until when."""
    rule = node_failures.ExclusionRule(
        site.scheduler.config.node_failures, site.scheduler.config.node_exclude
    )
    memory = site.scheduler.state.memory
    digest = memory["m"].digest if "m" in memory else ""
    return node_failures.excluded(site.scheduler.state.nodes, rule, site.now, digest)


def test_a_node_that_kills_every_job_at_once_is_left_out_for_a_while(site: Site) -> None:
    site.cluster.configure(broken_nodes=["c1"])
    site.tick(60, times=8)
    assert list(excluded(site)) == ["c1"]
    jobs = site.cluster.jobs()
    assert [job["state"] for job in jobs] == ["FAILED", "FAILED", "RUNNING"]
    assert jobs[2]["options"]["exclude"] == "c1" and jobs[2]["nodes"] == ["c2"]
    assert list(site.routed().values()) == ["ready"]
    # Kept over a restart, and over once its time is.
    site.start()
    assert list(excluded(site)) == ["c1"]
    site.now += 3600
    assert excluded(site) == {}


def test_a_wrong_definition_shuts_no_node_out_for_other_models(site: Site) -> None:
    wrong = json.loads((GOLDEN / "model-entry.json").read_text())["environment"]
    site.up()
    site.apply("wrong", environment={**wrong, "MODE": "wrong"})
    site.cluster.configure(broken_names=["sluice:wrong-"], nodes=["c1", "c2"])
    for _ in range(40):
        site.tick(90)
        assert not any(
            job["options"].get("exclude") for job in site.cluster.jobs() if "m-" in job["name"][:9]
        )
        assert (
            node_failures.excluded(
                site.scheduler.state.nodes, node_failures.ExclusionRule(2, 3600.0), site.now
            )
            == {}
        )
    assert site.scheduler.state.memory["wrong"].failures >= 5
    site.apply("o")
    site.tick(times=4)
    assert "ready" in [one.state for one in site.table().models["o"].instances]


def test_a_model_that_is_broken_on_every_node_shuts_none_out(site: Site) -> None:
    site.cluster.configure(broken_nodes=["c1", "c2", "c3", "c4"])
    site.tick(700, times=14)
    assert site.failures() >= 5
    assert excluded(site) == {}


def test_the_only_node_is_taken_back_when_slurm_has_no_other(site: Site) -> None:
    site.cluster.configure(nodes=["c1"], broken_nodes=["c1"])
    for _ in range(8):
        if excluded(site):
            break
        site.tick(60)
    assert list(excluded(site)) == ["c1"]
    jobs = site.submitted()
    site.tick(60, times=6)
    # Refused once with the node left out, then submitted without.
    assert site.submitted() > jobs
    assert "exclude" not in site.cluster.jobs()[jobs]["options"]


def test_jobs_that_wait_for_a_maintenance_are_neither_failed_nor_doubled(site: Site) -> None:
    site.tick()
    begin = site.now + 7200
    site.cluster.alter("1", "PENDING", "ReqNodeNotAvail, Reserved for maintenance", estimate=begin)
    site.tick(300, times=6)
    assert (site.submitted(), site.failures()) == (1, 0)
    assert site.instance("1").reason == "ReqNodeNotAvail, Reserved for maintenance"
    assert site.instance("1").expected_start == begin


def test_a_job_whose_nodes_boot_has_not_begun_to_run(site: Site) -> None:
    site.tick()
    site.cluster.alter("1", "CONFIGURING", "None", nodes=["c1"], started=site.now)
    site.tick(400, times=5)
    assert (site.submitted(), site.failures()) == (1, 0)
    site.cluster.alter("1", "RUNNING", started=site.now)
    site.tick(times=2)
    assert list(site.routed().values()) == ["ready"]


def test_a_completing_job_takes_no_requests_and_is_replaced(site: Site) -> None:
    job_id = site.up()
    site.now += 600
    site.cluster.alter(job_id, "COMPLETING", epilog=True)
    site.scheduler.tick()
    assert site.routed() == {}
    site.tick(times=3)
    assert site.submitted() == 2 and list(site.routed().values()) == ["ready"]


@pytest.mark.parametrize("state", ["COMPLETING", "STAGE_OUT"])
def test_jobs_stuck_in_completing_take_gpus_but_not_their_models_places(site: Site, state: str) -> None:
    entry = json.loads((GOLDEN / "model-entry.json").read_text())["slurm"]
    site.apply(min=2, max=2, slurm={**entry, "gpus": 1, "gres": "", "nodes": 1})
    site.tick(times=5)
    assert list(site.routed().values()) == ["ready", "ready"]
    site.now += 600
    for job in site.cluster.alive():
        site.cluster.alter(job["id"], state, epilog=True)
    site.tick(times=2)
    # Their fronts still answer: one beyond max at most.
    assert site.submitted() == 3
    site.silent = {str(job["name"]).partition(":")[2] for job in site.cluster.alive()[:2]}
    site.tick(times=30)
    assert list(site.routed().values()) == ["ready", "ready"]
    assert (site.submitted(), site.failures()) == (4, 0)
    assert [job["state"] for job in site.cluster.alive()].count(state) == 2
    present = bounds.remaining(
        policy.SiteSettings(max_instances=9, max_gpus=9), site.scheduler.state.instances.values()
    )
    assert present.gpus == 9 - 4
    # A bound on GPUs holds: what is stuck still has them.
    site.settings = {"max_gpus": 4}
    site.start()
    site.cluster.end(site.cluster.alive()[-1]["id"], "NODE_FAIL")
    site.tick(times=20)
    assert [job["state"] for job in site.cluster.alive()].count("RUNNING") == 2
    site.cluster.alter(site.cluster.alive()[-1]["id"], state, epilog=True)
    site.silent = {
        str(job["name"]).partition(":")[2] for job in site.cluster.alive() if job["state"] == state
    }
    jobs = site.submitted()
    site.tick(times=30)
    assert site.submitted() == jobs
    assert "max_gpus" in site.scheduler.state.memory["m"].obstacle


def test_a_job_that_vanishes_after_min_job_age_is_replaced_once(site: Site) -> None:
    job_id = site.up()
    site.now += 600
    site.cluster.lose(job_id)
    site.tick(times=4)
    assert list(site.routed().values()) == ["ready"], "its front still answers"
    site.healthy = False
    site.tick()
    site.healthy = True
    site.tick(times=3)
    assert [job["id"] for job in site.cluster.alive()] == ["2"]
    assert list(site.routed().values()) == ["ready"]


LIMIT = (
    "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
    "accounting/QOS policy (job submit limit, user's size and/or time limits)\n"
)
PLUGIN = "sbatch: error: not on a Friday\nsbatch: error: Batch job submission failed: Unspecified error\n"


@pytest.mark.parametrize("words", [LIMIT, PLUGIN])
def test_a_refusal_by_a_limit_or_a_plugin_is_no_failure_of_the_model(site: Site, words: str) -> None:
    site.cluster.configure(refusal=words)
    site.tick(20, times=20)
    assert site.submitted() == 0 and site.failures() == 0
    assert 2 <= site.cluster.calls("sbatch") <= 8
    site.cluster.configure(refusal="")
    site.tick(300, times=4)
    assert site.submitted() == 1


@pytest.mark.parametrize(
    "limit",
    [
        "AssocMaxSubmitJobLimit",
        "AssocGrpSubmitJobsLimit",
        "QOSMaxSubmitJobPerUserLimit",
        "QOSGrpSubmitJobsLimit",
        "MaxSubmitJobsPerAccount",
    ],
)
def test_one_accounts_submit_limit_holds_up_no_model_of_another(site: Site, limit: str) -> None:
    limited(site, limit)
    accounts = [job["account"] for job in site.cluster.alive()]
    assert sorted(accounts) == ["chat-a", "chat-b"]
    assert limit in site.scheduler.state.memory["m"].obstacle
    assert site.scheduler.state.memory["n"].obstacle == ""
    # Kept over a restart of the scheduler.
    site.start()
    (scope,) = site.scheduler.state.scope_backoffs
    assert "account=chat-a" in scope


def test_models_at_their_accounts_limit_ask_seldom_and_take_turns(site: Site) -> None:
    limited(site, "AssocMaxSubmitJobLimit")
    calls = site.cluster.calls("sbatch")
    site.tick(30, times=120)
    assert site.cluster.calls("sbatch") - calls <= 16
    # Kept over a restart of the scheduler.
    site.start()
    (scope,) = site.scheduler.state.scope_backoffs
    assert "account=chat-a" in scope
    # With a place for one more the two take turns, whatever their priorities.
    site.cluster.configure(submit_limits={"chat-a": 2})
    site.tick(30, times=80)
    site.cluster.configure(submit_limits={"chat-a": 3})
    site.tick(30, times=80)
    models = sorted(str(job["name"]).partition(":")[2][0] for job in site.cluster.alive())
    assert models == ["m", "m", "n", "o"]


def limited(site: Site, limit: str) -> None:
    """Have two models of an account in which one job may be, and one of another account, for four ticks."""
    asked = json.loads((GOLDEN / "model-entry.json").read_text())["slurm"]
    site.cluster.configure(submit_limits={"chat-a": 1}, submit_limit=limit)
    site.apply("m", min=2, max=2, priority=10, slurm={**asked, "account": "chat-a"})
    site.apply("n", min=1, max=1, priority=0, slurm={**asked, "account": "chat-b"})
    site.apply("o", min=1, max=1, priority=-1, slurm={**asked, "account": "chat-a"})
    site.tick(times=4)


TOO_LARGE = (
    "sbatch: error: CPU count per node can not be satisfied\n"
    "sbatch: error: Batch job submission failed: Requested node configuration is not available\n"
)
RUDE = "sbatch: error: \x1b[2Jgo \u202eaway\nsbatch: error: Batch job submission failed: Unspecified error\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (TOO_LARGE, "Requested node configuration is not available"),
        (LIMIT, "QOSMaxSubmitJobPerUserLimit"),
        (RUDE, "?[2Jgo ?away"),
        (
            "sbatch: error: Batch job submission failed: Invalid qos specification\n",
            "Invalid qos specification",
        ),
        ("sbatch: error: what no version says\n", "what no version says"),
    ],
)
def test_sbatchs_own_refusal_stands_in_status_and_models_show_from_the_next_tick_on(
    site: Site, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    config = site.root / "scheduler.json"
    config.write_text(json.dumps({"version": 1, **dataclasses.asdict(site.scheduler.config)}))
    site.cluster.configure(refusal=words)
    site.tick()
    for seconds in (5, 5, 60, 60, 600):
        site.tick(seconds)
        for command in (["status"], ["models", "show", "m"], ["models", "list"]):
            place = ["--config", str(config)]
            assert main([command[0], *place, *command[1:]]) == 0
            assert said in capsys.readouterr().out


def test_foreign_jobs_and_arrays_under_our_prefix_are_left_alone(site: Site) -> None:
    site.cluster.foreign(name="sluice:m-0000000a", array="1-4")
    site.cluster.foreign(name="sluice:nonsense")
    site.cluster.foreign(name="train|it", comment="a|b|c")
    job_id = site.up()
    site.tick(600, times=3)
    assert [one.job_id for one in site.scheduler.state.instances.values()] == [job_id]
    assert [job["state"] for job in site.cluster.jobs()[:3]] == ["RUNNING"] * 3


HOSTILE_TEXTS = {
    "a line end": "moved by ops\nticket 12",
    "a tab and bars": "a\tb|c|d",
    "a line of squeue": "x\n1|CANCELLED|N/A|N/A|N/A||None|x|sluice:m-00000001",
    "an override of the direction": "\u202egnp\u2066",
    "64 kB": "x" * 65_536,
    "64 kB of line ends": "\n" * 65_536,
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_no_name_or_comment_of_any_job_blinds_the_scheduler(site: Site, text: str) -> None:
    for fields in ({"name": text}, {"comment": text}, {"name": f"sluice:{text}"}, {"reason": text}):
        site.cluster.foreign(**fields)
    job_id = site.up()
    assert site.scheduler.state.queue_failures == 0
    site.cluster.end(job_id, "FAILED")
    site.tick(30, times=4)
    assert [job["id"] for job in site.cluster.alive()] != [job_id]
    assert list(site.routed().values()) == ["ready"]
    assert [job["state"] for job in site.cluster.jobs()[:4]] == ["RUNNING"] * 4


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
@pytest.mark.parametrize("where", [("name",), ("comment",), ("name", "comment")])
def test_an_own_job_is_followed_by_its_id_whatever_text_others_give_it(
    site: Site, where: tuple[str, ...], text: str
) -> None:
    job_id = site.up()
    site.cluster.alter(job_id, "RUNNING", **dict.fromkeys(where, text))
    site.tick(30, times=5)
    assert list(site.routed().values()) == ["ready"] and site.submitted() == 1
    # Its state is followed, and it is ended when that is decided.
    site.cluster.alter(job_id, "PENDING", "launch failed requeued held")
    site.tick()
    assert site.cluster.jobs()[0]["state"] == "CANCELLED"
    site.tick(30, times=3)
    assert site.submitted() == 2 and list(site.routed().values()) == ["ready"]


def test_a_job_whose_id_was_lost_is_found_by_its_folder_where_it_was_renamed(site: Site) -> None:
    site.cluster.fault("sbatch", "accept-fail", 1)
    site.tick()
    site.cluster.alter("1", "RUNNING", name="moved by ops", started=site.now, nodes=["c1"])
    (instance,) = site.scheduler.state.instances.values()
    assert instance.job_id == ""
    site.tick(10, times=4)
    assert [one.job_id for one in site.scheduler.state.instances.values()] == ["1"]
    assert site.submitted() == 1


def test_an_id_that_came_to_a_job_of_another_name_and_folder_is_neither_ended_nor_replaced(
    site: Site,
) -> None:
    job_id = site.up()
    site.cluster.alter(job_id, "RUNNING", name="train", directory="/home/x")
    site.tick(30, times=5)
    assert (site.submitted(), list(site.routed().values())) == (1, ["ready"])
    assert [argv[0] for argv in site.slurm.commands].count("scancel") == 0


def test_one_job_that_is_not_understood_stays_as_it_was_and_the_others_are_followed(site: Site) -> None:
    site.apply("other")
    site.tick(times=3)
    first, second = (str(job["id"]) for job in site.cluster.alive())
    site.cluster.alter(first, "not a state")
    site.cluster.end(second, "FAILED")
    site.tick(30, times=4)
    assert site.scheduler.state.queue_failures == 0
    assert site.instance(first).job_state == "RUNNING" and not site.instance(first).absent
    assert site.submitted() == 3
    site.cluster.alter(first, "COMPLETED", ended=site.now)
    site.tick()
    assert all(one.job_id != first for one in site.scheduler.state.instances.values())


def test_a_wrapper_that_prints_more_than_jobs_makes_nobody_missing(site: Site) -> None:
    job_id = site.up()
    site.cluster.configure(banner="Maintenance on Tuesday\n")
    site.cluster.foreign(name="train")
    site.cluster.lose(job_id)
    site.healthy = False
    site.tick(30, times=6)
    assert not site.instance(job_id).absent
    site.cluster.configure(banner="")
    site.tick(30, times=3)
    assert all(one.job_id != job_id for one in site.scheduler.state.instances.values())


@pytest.mark.parametrize(("limit", "lasts"), [("1-00:00:00", 86_400.0), ("2:30:00", 9_000.0)])
def test_a_day_long_time_is_followed_to_its_end(site: Site, limit: str, lasts: float) -> None:
    (site.root / "models.d/m.sbatch").write_text(f"#!/bin/bash\n#SBATCH --time={limit}\ntrue\n")
    job_id = site.up()
    found = site.instance(job_id)
    assert found.ends == (found.started or 0.0) + lasts


def test_an_unlimited_job_has_no_end_and_needs_no_successor(site: Site) -> None:
    (site.root / "models.d/m.sbatch").write_text("#!/bin/bash\n#SBATCH --time=UNLIMITED\ntrue\n")
    job_id = site.up()
    assert site.instance(job_id).ends is None
    site.tick(86_400, times=5)
    assert site.submitted() == 1
    shown = site.slurm.show(job_id)
    assert not isinstance(shown, Unknown) and shown.value is not None and shown.value.ends is None


@pytest.mark.parametrize("state", ["SUSPENDED", "STOPPED"])
def test_a_stopped_job_is_not_routed_and_goes_on_where_it_was(site: Site, state: str) -> None:
    job_id = site.up()
    before = site.instance(job_id)
    site.cluster.alter(job_id, state)
    site.scheduler.tick()
    assert site.routed() == {}
    site.cluster.alter(job_id, "RUNNING")
    site.tick()
    after = site.instance(job_id)
    assert (after.record, after.nodes, after.started) == (before.record, before.nodes, before.started)
    assert site.routed()[after.id] == "ready"
    assert site.failures() == 0


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"])
def test_an_end_that_is_not_the_models_is_replaced_at_once_and_not_counted(site: Site, state: str) -> None:
    site.tick(times=2)
    site.cluster.end("1", state)
    site.tick(times=4)
    assert site.failures() == 0
    assert site.submitted() == 2 and list(site.routed().values()) == ["ready"]


@pytest.mark.parametrize("state", ["FAILED", "OUT_OF_MEMORY", "TIMEOUT", "COMPLETED"])
def test_an_end_before_readiness_counts_as_a_failed_start(site: Site, state: str) -> None:
    site.healthy = False
    site.tick(times=2)
    site.cluster.end("1", state)
    site.tick()
    assert site.failures() == 1


def test_a_special_exit_is_cancelled_like_any_job_that_nobody_releases(site: Site) -> None:
    site.tick()
    site.cluster.alter("1", "SPECIAL_EXIT", "job requeued in special exit state", started=None)
    site.tick()
    assert site.cluster.jobs()[0]["state"] == "CANCELLED"


def test_an_end_brought_forward_is_a_notice_of_preemption(site: Site) -> None:
    job_id = site.up()
    site.cluster.alter(job_id, "RUNNING", ends=site.now + 30)
    site.scheduler.tick()
    assert site.instance(job_id).leaving == "preempted"


def test_a_federated_answer_names_the_job_alone_and_the_queue_is_asked_locally(site: Site) -> None:
    site.up()
    answers = [argv for argv in site.slurm.commands if argv[0] == "squeue"]
    assert all("--local" in argv for argv in answers)


def test_jobs_that_land_on_another_cluster_are_cancelled_there_told_and_tried_ever_more_seldom(
    site: Site,
) -> None:
    site.cluster.configure(lands_on="other")
    for _ in range(6 * 60):
        site.tick(60)
        assert site.cluster.elsewhere() == []
    assert site.failures() > 3
    assert site.cluster.calls("sbatch") <= 40
    assert "submitted to cluster other" in site.scheduler.state.memory["m"].message
    site.cluster.configure(lands_on="")
    site.tick(60, times=14)
    assert list(site.routed().values()) == ["ready"]


def test_a_job_that_another_cluster_of_a_federation_took_is_ended_there(site: Site) -> None:
    job_id = site.up()
    site.cluster.end(job_id, "REVOKED")
    site.tick(times=3)
    ended = [argv for argv in site.slurm.commands if argv[0] == "scancel"]
    assert [argv[-1] for argv in ended] == [job_id]
    site.tick(times=2)
    assert site.submitted() == 2 and list(site.routed().values()) == ["ready"]


def test_a_job_on_another_cluster_that_cannot_be_cancelled_yet_is_remembered_and_stays_the_only_one(
    site: Site,
) -> None:
    site.cluster.configure(lands_on="other")
    site.cluster.fault("scancel", "fail")
    site.tick(60, times=30)
    assert site.cluster.elsewhere() == ["1;other"]
    # What another process finds in the state.
    site.start()
    site.tick(60, times=5)
    assert site.cluster.elsewhere() == ["1;other"] and site.cluster.calls("sbatch") == 1
    site.cluster.heal()
    site.tick(60)
    assert site.cluster.elsewhere() == []


@pytest.mark.parametrize("kind", ["fail", "garbage", "empty"])
def test_a_queue_that_cannot_be_told_changes_nothing(site: Site, kind: str) -> None:
    site.up()
    before = site.routed()
    site.cluster.fault("squeue", kind)
    site.tick(20, times=10)
    assert (site.routed(), site.submitted()) == (before, 1)
    assert [argv[0] for argv in site.slurm.commands].count("scancel") == 0
    site.cluster.heal()
    site.tick()
    assert (site.routed(), site.submitted()) == (before, 1)


def test_at_rest_one_squeue_is_asked_each_tick_and_nothing_else(site: Site) -> None:
    site.up()
    site.tick(60, times=2)
    site.slurm.commands.clear()
    site.tick(30, times=4)
    assert [argv[0] for argv in site.slurm.commands] == ["squeue"] * 4
    assert site.scheduler.interval() == 30.0


def test_the_document_has_a_row_for_each_situation() -> None:
    text = DOCUMENT.read_text().partition("## Slurm as it is")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (?!---|situation)", text)
    assert len(rows) >= 18
