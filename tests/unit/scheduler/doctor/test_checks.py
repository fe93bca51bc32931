"""Each assumption about a site, met and broken; and the whole of it over the fake Slurm."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.cli import main
from sluice.contracts.models import Burst, ModelEntry
from sluice.scheduler.doctor import checks as doctor
from sluice.scheduler.doctor import facts as site_facts
from sluice.scheduler.doctor import findings, slurm_checks
from sluice.scheduler.doctor.findings import OK, WARNING, WRONG, CommandOutput, Facts, Finding, PathFacts
from tests.fakes.slurm.slurm import Cluster
from tests.unit.scheduler.test_config import GOOD

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts"
NOW = 1_795_000_000.0
ENTRY = ModelEntry.parse(
    {
        **json.loads((GOLDEN / "model-entry.json").read_text()),
        "burst": None,
        "slurm": {
            "partition": "gpu",
            "time": 600,
            "cpus": 1,
            "memory_mb": 1,
            "account": "llm",
            "qos": "service",
        },
    }
)
ROOTS = PathFacts(0, 0, 0o755, "ext4")
OURS = PathFacts(990, 990, 0o700, "ext4")
PARTITION_OF = (
    "PartitionName={} AllowAccounts=ALL AllowQos=ALL GraceTime={} MaxTime=1-00:00:00 PreemptMode=REQUEUE"
    " PriorityTier=1 State=UP\n"
)
PARTITION = PARTITION_OF.format("gpu", 0).replace("PriorityTier=1", "PriorityTier=10")
CONFIG = (
    "Configuration data as of 2026-11-18T11:06:40\nSlurmctldPort           = 6817\nSrunPortRange = 0-0\n"
    "MinJobAge               = 300 sec\nKillWait                = 30 sec\nPreemptMode             = REQUEUE\n"
    "PreemptType             = preempt/partition_prio\nSlurmctldParameters     = (null)\n"
    "ScronParameters         = (null)\n"
)
BURSTING = replace(ENTRY, burst=Burst(2, partition="spare"))
SPARE = PARTITION_OF.format("spare", 0)
OWN_DISK = (GOOD.routing_table, "/var/lib/sluice/state")
SYSTEMD = replace(GOOD, launcher="systemd")
SCRONTAB = replace(GOOD, launcher="scrontab")
SCRON_CONFIG = CommandOutput(
    0, CONFIG.replace("ScronParameters         = (null)", "ScronParameters         = enable")
)
ELSEWHERE = replace(
    GOOD, state_file="/login-shared/state/state.json", routing_table="/login-shared/routing.json"
)
GOOD_FACTS = Facts(
    settings=GOOD,
    now=NOW,
    host="login1",
    account="sluice",
    account_id=990,
    python=(3, 9),
    commands={name: CommandOutput(0, "slurm-wlm 22.05.8") for name in site_facts.PROGRAMS},
    queue=CommandOutput(0, "", "", 0.1),
    partitions=CommandOutput(0, PARTITION),
    slurm_config=CommandOutput(0, CONFIG),
    associations=CommandOutput(0, "llm|service|gres/gpu=8|||||\n"),
    qos=CommandOutput(0, "service||||||\n"),
    models={"m": ENTRY},
    tests={"m": CommandOutput(0)},
    paths={
        "/etc/sluice": ROOTS,
        GOOD.models_dir: ROOTS,
        GOOD.jobs_dir: replace(OURS, file_system="nfs4"),
        GOOD.demand_dir: PathFacts(991, 990, 0o2750),
        "/var/lib/sluice/state": OURS,
        "/etc/sluice/scheduler.json": replace(ROOTS, mode=0o640),
        GOOD.routing_table: PathFacts(990, 991, 0o640, "ext4"),
        site_facts.CRONTAB: replace(ROOTS, mode=0o644),
    },
    last_tick=NOW - 10,
    lease_host="login1",
    lease_time=NOW - 10,
    local_ports=range(32768, 61000),
    cron_runs=True,
    crontab=site_facts.CRONTAB,
    sshd=CommandOutput(0, "port 22\nmaxstartups 10:30:100\npersourcemaxstartups 8\n"),
    login_shell="/usr/sbin/nologin",
)


def with_slurm(**changes: Any) -> ModelEntry:
    """Return the entry with some fields of its `slurm` changed."""
    return replace(ENTRY, slurm=replace(ENTRY.slurm, **changes))


def with_path(path: str, **changes: Any) -> dict[str, Any]:
    """Return the change of facts that alters one path's."""
    found = GOOD_FACTS.paths[path]
    assert found is not None
    return {"paths": {**GOOD_FACTS.paths, path: replace(found, **changes)}}


def without_path(path: str) -> dict[str, Any]:
    """Return the change of facts that takes one path away."""
    return {"paths": {**GOOD_FACTS.paths, path: None}}


def test_a_site_as_it_should_be_has_nothing_wrong() -> None:
    found = doctor.examine(replace(GOOD_FACTS, now=findings.controller_time(CONFIG) or 0.0, last_tick=None))
    assert {one.level for one in found if one.check not in ("launcher", "clock")} == {OK}
    assert {one.check for one in found} >= {"python", "controller", "model", "account", "caps", "closed"}


BROKEN: list[tuple[dict[str, Any], str, str, str]] = [
    ({"python": (3, 6)}, "python", WRONG, "older than 3.9"),
    (
        {"commands": {"sbatch": CommandOutput(None, "", "sbatch: No such file")}},
        "commands",
        WRONG,
        "No such file",
    ),
    ({"queue": CommandOutput(None)}, "controller", WRONG, "no answer within 20 s"),
    ({"queue": CommandOutput(1, "", "Unable to contact slurm controller")}, "controller", WRONG, "Unable"),
    ({"queue": CommandOutput(0, "", "", 11.0)}, "controller", WARNING, "11.0 s of the 20 s"),
    ({"unusable": {"m": "min: must not be above max"}}, "model", WRONG, "above max"),
    ({"tests": {"m": CommandOutput(1, "", "Invalid qos")}}, "model", WRONG, "Invalid qos"),
    ({"partitions": CommandOutput(None)}, "partition", WARNING, "no answer"),
    (
        {"partitions": CommandOutput(0, "PartitionName=cpu State=UP\n")},
        "partition",
        WRONG,
        "gpu does not exist",
    ),
    ({"partitions": CommandOutput(0, PARTITION.replace("UP", "DRAIN"))}, "partition", WRONG, "is DRAIN"),
    ({"partitions": CommandOutput(0, PARTITION.replace("1-", "0-"))}, "partition", WRONG, "allows 0 minutes"),
    (
        {"partitions": CommandOutput(0, PARTITION.replace("AllowAccounts=ALL", "AllowAccounts=a,b"))},
        "partition",
        WRONG,
        "AllowAccounts=a,b",
    ),
    (
        {"partitions": CommandOutput(0, PARTITION.replace("AllowQos=ALL", "AllowQos=normal"))},
        "partition",
        WRONG,
        "AllowQos=normal",
    ),
    ({"associations": None}, "caps", WARNING, "sacctmgr is missing"),
    ({"associations": CommandOutput(1, "", "not running with accounting")}, "caps", WARNING, "accounting"),
    ({"associations": CommandOutput(0, "")}, "account", WRONG, "has no association"),
    (
        {"associations": CommandOutput(0, "other|service|x|||||\n")},
        "account",
        WRONG,
        "not in the account llm",
    ),
    (
        {"associations": CommandOutput(0, "llm|normal|x|||||\n")},
        "account",
        WRONG,
        "may not use the QOS service",
    ),
    ({"associations": CommandOutput(0, "llm|service||||||\n")}, "caps", WARNING, "has no cap in llm"),
    (without_path(GOOD.jobs_dir), "shared folder", WRONG, "does not exist"),
    (with_path(GOOD.jobs_dir, owner=0), "shared folder", WRONG, "does not belong to sluice"),
    (with_path(GOOD.jobs_dir, file_system="ext4"), "shared folder", WARNING, "is on ext4"),
    ({"probe": CommandOutput(1, "", "nothing was seen")}, "shared folder", WRONG, "nothing was seen"),
    ({"box": "c1: this node has no bubblewrap"}, "box", WRONG, "no bubblewrap"),
    ({"models": {"m": replace(ENTRY, box="none")}}, "box", WARNING, "without a box: m"),
    ({"login_shell": "/bin/bash"}, "login", WARNING, "has the shell /bin/bash"),
    ({"keys": ("/home/sluice/.ssh/authorized_keys",)}, "login", WARNING, "log in as sluice"),
    ({"settings": replace(GOOD, ports="20000-20003")}, "ports", WARNING, "4 ports"),
    ({"settings": replace(GOOD, ports="40000-41000")}, "ports", WARNING, "ip_local_port_range"),
    ({"settings": replace(GOOD, ports="6000-7000")}, "ports", WRONG, "SlurmctldPort"),
    (
        {"slurm_config": CommandOutput(0, CONFIG.replace("0-0", "20500-20600"))},
        "ports",
        WRONG,
        "SrunPortRange",
    ),
    ({"last_tick": None}, "launcher", WRONG, "never ticked"),
    ({"last_tick": NOW - 121}, "launcher", WRONG, "121 s ago"),
    ({"lease_host": "login2"}, "launcher", WRONG, "runs on login2"),
    ({"cron_runs": False}, "launcher", WRONG, "cron does not run"),
    (without_path(site_facts.CRONTAB), "launcher", WRONG, "does not exist"),
    (with_path(site_facts.CRONTAB, mode=0o664), "launcher", WRONG, "cron ignores"),
    ({"last_tick": NOW + 60}, "clock", WRONG, "60 s in the future"),
    ({"now": NOW + 1000}, "clock", WRONG, "behind"),
    ({"slurm_config": CommandOutput(None)}, "clock", WARNING, "unknown"),
    ({"kills_user_processes": True}, "reapers", WARNING, "KillUserProcesses"),
    (with_path("/etc/sluice/scheduler.json", owner=990), "permissions", WRONG, "other than root"),
    (with_path(GOOD.models_dir, mode=0o775), "permissions", WRONG, "other than root"),
    (with_path("/var/lib/sluice/state", mode=0o755), "permissions", WRONG, "only sluice may have access"),
    (with_path("/var/lib/sluice/state", file_system="lustre"), "permissions", WRONG, "on lustre"),
    (with_path(GOOD.routing_table, mode=0o644), "permissions", WRONG, "jobs' keys"),
    (with_path(GOOD.routing_table, file_system="nfs"), "permissions", WRONG, "on nfs"),
    (without_path(GOOD.demand_dir), "permissions", WRONG, "does not exist"),
    (with_path(GOOD.demand_dir, mode=0o777), "permissions", WRONG, "anybody"),
    ({"closed": True}, "closed", WARNING, "the gate is closed"),
    ({"sshd": CommandOutput(None)}, "sshd", WARNING, "cannot be read"),
    ({"sshd": CommandOutput(0, "maxstartups 10:30:100\n")}, "sshd", WARNING, "(MaxStartups 10:30:100)"),
    (
        {"sshd": CommandOutput(0, "maxstartups 9:3:10\npersourcemaxstartups none\n")},
        "sshd",
        WARNING,
        "MaxStartups 9:3:10",
    ),
    (
        {"commands": {"squeue": CommandOutput(0, "slurm 20.02.7")}},
        "version",
        WRONG,
        "20.02 is older than 20.11",
    ),
    ({"commands": {"squeue": CommandOutput(0, "slurm-wlm 25.11.0")}}, "version", WARNING, "newer than all"),
    ({"commands": {"squeue": CommandOutput(1)}}, "version", WARNING, "unknown"),
    (
        {"slurm_config": CommandOutput(0, CONFIG.replace("300 sec", "10 sec"))},
        "settings",
        WARNING,
        "MinJobAge is 10",
    ),
    (
        {"slurm_config": CommandOutput(0, CONFIG.replace("= 30 sec", "= 5 sec"))},
        "settings",
        WARNING,
        "KillWait is 5",
    ),
    ({"models": {"m": with_slurm(reservation="ai")}}, "reservation", WARNING, "no answer"),
    (
        {
            "models": {"m": with_slurm(reservation="ai")},
            "reservations": CommandOutput(0, "ReservationName=maint Nodes=c1\n"),
        },
        "reservation",
        WRONG,
        "m: the reservation ai does not exist",
    ),
    (
        {"associations": CommandOutput(0, "llm|service|x|||||\n"), "qos": CommandOutput(0, "normal||||||\n")},
        "account",
        WRONG,
        "does not exist",
    ),
    ({"models": {"m": BURSTING}}, "partition", WRONG, "m (burst): spare does not exist"),
    (
        {"models": {"m": replace(ENTRY, burst=Burst(1, account="free"))}},
        "account",
        WRONG,
        "m (burst): sluice is not in the account free",
    ),
    (
        {
            "models": {"m": BURSTING},
            "slurm_config": CommandOutput(0, CONFIG.replace("preempt/partition_prio", "preempt/none")),
        },
        "preemption",
        WARNING,
        "PreemptType is preempt/none",
    ),
    (
        {"models": {"m": replace(ENTRY, burst=Burst(1))}},
        "preemption",
        WARNING,
        "gpu has no lower PriorityTier",
    ),
    (
        {
            "models": {"m": BURSTING},
            "partitions": CommandOutput(0, PARTITION + PARTITION_OF.format("spare", 60)),
        },
        "preemption",
        WARNING,
        "gives 60 s of grace, but Slurm does not signal batch jobs",
    ),
    (
        {
            "models": {"m": BURSTING},
            "partitions": CommandOutput(0, PARTITION + SPARE.replace("REQUEUE", "OFF")),
        },
        "preemption",
        WARNING,
        "PreemptMode=OFF",
    ),
    ({"weights": {"m": "no SHA256SUMS"}}, "weights", WARNING, "m: no SHA256SUMS"),
    (
        {"weights": {"m": "is not the one"}, "models": {"m": replace(ENTRY, manifest="a" * 64)}},
        "weights",
        WRONG,
        "is not the one",
    ),
    ({"launchers": ("cron", "systemd")}, "launcher", WARNING, "systemd would start the scheduler too"),
    ({"settings": SYSTEMD, "timer": "inactive"}, "launcher", WRONG, "timer is inactive"),
    ({"settings": SYSTEMD}, "launcher", WRONG, "unknown"),
    ({"settings": SCRONTAB}, "launcher", WRONG, "ScronParameters is not set"),
    (
        {
            "settings": SCRONTAB,
            "slurm_config": SCRON_CONFIG,
            "scrontab": CommandOutput(1, "", "no crontab for sluice"),
        },
        "launcher",
        WRONG,
        "does not start the scheduler: no crontab",
    ),
    ({"reapers": ("arbiter2",)}, "reapers", WARNING, "arbiter2 runs here"),
    ({"unreached": "c1:20000: timed out"}, "ports", WRONG, "c1:20000: timed out"),
    (
        {"settings": ELSEWHERE, "paths": {"/login-shared/routing.json": PathFacts(990, 991, 0o640, "nfs4")}},
        "permissions",
        WARNING,
        "jobs may be able to see it",
    ),
    (
        {
            "settings": ELSEWHERE,
            "paths": {"/login-shared/routing.json": PathFacts(990, 991, 0o640, "nfs4")},
            "job_sees_state": True,
        },
        "permissions",
        WRONG,
        "a job can see it",
    ),
]


@pytest.mark.parametrize(("change", "check", "level", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_assumption_is_found_with_its_remedy(
    change: dict[str, Any], check: str, level: str, words: str
) -> None:
    told = doctor.examine(replace(GOOD_FACTS, **change))
    (found, *_) = [one for one in told if one.check == check and words in one.message]
    assert found.level == level
    assert found.remedy


@pytest.mark.parametrize(
    ("check", "change"),
    [
        (doctor.check_launcher, {"settings": SYSTEMD, "timer": "active"}),
        (
            doctor.check_launcher,
            {
                "settings": SCRONTAB,
                "slurm_config": SCRON_CONFIG,
                "scrontab": CommandOutput(0, "# BEGIN sluice\n"),
                # The last run was on another node, and the next one may be.
                "lease_host": "login2",
            },
        ),
        (slurm_checks.check_version, {"commands": {"squeue": CommandOutput(0, "slurm 24.11.5")}}),
        (
            slurm_checks.check_preemption,
            {"models": {"m": BURSTING}, "partitions": CommandOutput(0, PARTITION + SPARE)},
        ),
        (
            slurm_checks.check_preemption,
            {
                "models": {"m": BURSTING},
                "partitions": CommandOutput(0, PARTITION + PARTITION_OF.format("spare", 60)),
                "slurm_config": CommandOutput(
                    0,
                    CONFIG.replace(
                        "SlurmctldParameters     = (null)", "SlurmctldParameters = preempt_send_user_signal"
                    ),
                ),
            },
        ),
        (
            slurm_checks.check_reservations,
            {
                "models": {"m": with_slurm(reservation="ai")},
                "reservations": CommandOutput(0, "ReservationName=ai Nodes=c1\n"),
            },
        ),
        (slurm_checks.check_settings, {}),
        (doctor.check_ports, {"unreached": ""}),
    ],
)
def test_a_site_that_is_right_is_called_so(
    check: Callable[[Facts], list[Finding]], change: dict[str, Any]
) -> None:
    assert [one.level for one in check(replace(GOOD_FACTS, **change))] == [OK]


def test_a_job_that_does_not_see_the_shared_state_proves_it() -> None:
    kept = {path: one for path, one in GOOD_FACTS.paths.items() if path not in OWN_DISK}
    paths = {**kept, ELSEWHERE.routing_table: PathFacts(990, 991, 0o640, "nfs4")}
    paths["/login-shared/state"] = replace(OURS, file_system="nfs4")
    told = doctor.check_permissions(
        replace(GOOD_FACTS, settings=ELSEWHERE, paths=paths, job_sees_state=False)
    )
    assert [one.level for one in told] == [OK]


def test_a_cap_on_every_qos_of_an_association_is_enough() -> None:
    facts = replace(
        GOOD_FACTS,
        associations=CommandOutput(0, "llm|service||||||\n"),
        qos=CommandOutput(0, "service|gres/gpu=8|||||\n"),
    )
    assert [one.level for one in slurm_checks.check_accounting(facts)] == [OK, OK]
    both = replace(facts, associations=CommandOutput(0, "llm|service,normal||||||\n"))
    assert [one.level for one in slurm_checks.check_accounting(both)] == [OK, WARNING]


def test_a_lingering_account_is_left_alone() -> None:
    facts = replace(GOOD_FACTS, kills_user_processes=True, lingers=True)
    assert [one.level for one in doctor.check_reapers(facts)] == [OK]


@pytest.mark.parametrize(
    ("text", "found"), [("1-00:00:00", 1440), ("00:30:00", 30), ("UNLIMITED", None), ("", None), ("x", None)]
)
def test_limits_are_read_as_slurm_prints_them(text: str, found: float | None) -> None:
    assert findings.minutes(text) == found


def test_what_is_no_row_of_a_table_is_left_out() -> None:
    assert findings.table("a|b\nsacctmgr: error\nc|d|e\n", ("x", "y")) == [{"x": "a", "y": "b"}]
    assert findings.controller_time("Configuration data as of yesterday") is None


def test_the_file_system_of_a_path_is_that_of_its_nearest_mount() -> None:
    mounts = "a / ext4 rw 0 0\nb /shared nfs4 rw 0 0\nc /shared/x\\040y lustre rw 0 0\nbroken\n"
    assert site_facts.file_system("/shared/jobs", mounts) == "nfs4"
    assert site_facts.file_system("/shared/x y/z", mounts) == "lustre"
    assert site_facts.file_system("/sharedelse", mounts) == "ext4"
    assert site_facts.file_system("/", "") == ""


# --- over the fake Slurm -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Patient:
    """A login node below `root`, with a fake Slurm, as `sluice doctor` sees it."""

    root: Path
    cluster: Cluster
    capsys: pytest.CaptureFixture[str]

    def doctor(self, *words: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
        """Return the exit status and the findings by check."""
        status = main(["doctor", "--config", f"{self.root}/etc/scheduler.json", "--json", *words])
        findings: dict[str, list[dict[str, str]]] = {}
        for one in json.loads(self.capsys.readouterr().out)["findings"]:
            findings.setdefault(one["check"], []).append(one)
        return status, findings


@pytest.fixture
def patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Patient]:
    """Give a login node with one model, whose jobs run on this machine."""
    cluster = Cluster(tmp_path / "slurm").install(
        run=True, partitions=["gpu"], associations="llm|service|gres/gpu=8|||||", qos="service||||||"
    )
    for name in ("etc/models.d", "jobs", "state", "demand"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    (tmp_path / "program").write_text("print('sluice 1')\n")
    settings = {
        **dataclasses.asdict(GOOD),
        **{key: f"{tmp_path}/{key.partition('_')[0]}" for key in ("jobs_dir", "demand_dir")},
        "models_dir": f"{tmp_path}/etc/models.d",
        "state_file": f"{tmp_path}/state/state.json",
        "lock_file": f"{tmp_path}/state/lock",
        "routing_table": f"{tmp_path}/routing.json",
        "figures": f"{tmp_path}/figures.json",
        "zipapp": f"{tmp_path}/program",
        "python": os.path.realpath(sys.executable),
        "slurm_bin": str(cluster.bin),
        "command_timeout": 10.0,
    }
    (tmp_path / "etc/scheduler.json").write_text(json.dumps({"version": 1, **settings}))
    (tmp_path / "etc/models.d/m.json").write_text(json.dumps({**ENTRY.dump(), "name": "m"}))
    (tmp_path / "etc/models.d/m.sbatch").write_text("#!/bin/bash\n#SBATCH --partition=gpu\n")
    for path in (tmp_path / "etc/models.d").iterdir():
        os.utime(path, (time.time() - 60,) * 2)
    monkeypatch.setattr(site_facts, "PROBE_EVERY", 0.1)
    yield Patient(tmp_path, cluster, capsys)
    cluster.stop()


def levels(findings: dict[str, list[dict[str, str]]], check: str) -> list[str]:
    """Return the levels of one check's findings."""
    return [one["level"] for one in findings[check]]


def test_slurm_and_models_are_asked_and_nothing_is_submitted(patient: Patient) -> None:
    status, told = patient.doctor()
    assert status == 1
    assert "never ticked" in told["launcher"][0]["message"]
    for check in (
        "controller",
        "model",
        "partition",
        "account",
        "caps",
        "clock",
        "ports",
        "python",
        "closed",
    ):
        assert levels(told, check) == [OK], told[check]
    assert patient.cluster.jobs() == []


def test_slurm_that_says_no_is_told_with_its_words(patient: Patient) -> None:
    patient.cluster.configure(partitions=["cpu"], clock_ahead=900.0)
    (patient.root / "etc/closed").touch()
    _, told = patient.doctor()
    assert "invalid partition specified: gpu" in told["model"][0]["message"]
    assert "there are: cpu" in told["partition"][0]["remedy"]
    assert levels(told, "clock") == [WRONG] and "ahead" in told["clock"][0]["message"]
    assert levels(told, "closed") == [WARNING]
    patient.cluster.fault("squeue", "fail")
    assert "Unable to contact" in patient.doctor()[1]["controller"][0]["message"]


def test_a_job_looks_at_the_shared_folder_and_leaves_nothing(patient: Patient) -> None:
    _, told = patient.doctor("--with-job")
    (found,) = told["shared folder"]
    assert found["level"] == OK and "sluice 1" in found["message"]
    assert "this host reached a job's port" in told["ports"][0]["message"]
    assert list((patient.root / "jobs").iterdir()) == []
    (job,) = patient.cluster.jobs()
    assert job["name"] == "sluice-doctor" and job["options"]["partition"] == "gpu"


def test_a_job_that_cannot_run_the_program_or_never_runs_is_told(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (patient.root / "program").unlink()
    (found,) = patient.doctor("--with-job")[1]["shared folder"]
    assert found["level"] == WRONG and "failed" in found["message"]
    monkeypatch.setattr("sluice.scheduler.commands.doctor.PROBE_SECONDS", 0.5)
    patient.cluster.configure(start_delay=900.0)
    (found,) = patient.doctor("--with-job")[1]["shared folder"]
    assert found["level"] == WRONG and "within 0.5 s" in found["message"]
    assert patient.cluster.alive() == []
    assert list((patient.root / "jobs").iterdir()) == []


def test_the_table_is_for_people(patient: Patient) -> None:
    assert main(["doctor", "--config", f"{patient.root}/etc/scheduler.json"]) == 1
    text = patient.capsys.readouterr().out
    assert "CHECK" in text and "Remedy: " in text and " wrong, " in text
