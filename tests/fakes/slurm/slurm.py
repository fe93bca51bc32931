#!/usr/bin/env python3
"""A stateful fake Slurm: sbatch, squeue, scancel, scontrol and sacctmgr, one program that looks at its name.

`Cluster(directory).install()` puts the commands into `<directory>/bin` (sacctmgr only if `associations` are
given). Their state is in `<directory>/state`, with a lock, so that any number of processes can use them at
the same time. No daemon runs: each command first updates the jobs. With `run` set, a job really runs its
script, in its own process group, until it ends or is cancelled.

Faults: for example `Cluster.fault("squeue", "hang")`, for the next `count` calls. `hang` never answers,
`fail` answers with an error, `garbage` with nonsense, `empty` with no output and success. For sbatch,
`accept-hang` and `accept-fail` accept the job and lose the answer. Output and errors are those of Slurm
22.05. `Cluster.alter` puts a job into any of Slurm's states, with its reason.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol")
FINAL: tuple[str, ...] = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL")
FINAL += ("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT")
DEFAULTS: dict[str, Any] = {
    "run": False,
    "start_delay": 0.0,
    "nodes": ["localhost"],
    "jobs_per_node": 100,
    "partitions": [],
    "min_job_age": 300.0,
    "kill_wait": 3.0,
    "time_limit": 60,
    # Variables of the account's login profile, which Slurm reads for every --export except ALL and NIL.
    "profile": {},
    "partition_limits": "MaxTime=UNLIMITED State=UP AllowAccounts=ALL AllowQos=ALL",
    "clock_ahead": 0.0,
    "associations": "",
    "qos": "",
    # Nodes on which every job fails at once, and the error with which sbatch refuses every job.
    "broken_nodes": [],
    # The prefix of names of jobs that fail at once on any node.
    "broken_names": [],
    "refusal": "",
    # What a site's wrapper of squeue prints before the jobs.
    "banner": "",
    # The name of this cluster, and that of the one on which jobs land ("": sbatch names none).
    "cluster": "fake",
    "lands_on": "",
    # How many unfinished jobs an account may have, and the limit's name in sbatch's error.
    "submit_limits": {},
    "submit_limit": "AssocMaxSubmitJobLimit",
}
HANG = 3600


class Cluster:
    """The fake cluster in `directory`; every method may be called from any process."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.bin = directory / "bin"
        self.state = directory / "state"
        self.clock = clock

    # --- for tests -----------------------------------------------------------------------------------

    def install(self, **settings: Any) -> Cluster:
        """Install the commands, with `settings` in place of DEFAULTS."""
        self.bin.mkdir(parents=True)
        self.state.mkdir()
        program = Path(__file__).resolve()
        for name in (*PROGRAMS, "sacctmgr") if settings.get("associations") else PROGRAMS:
            # A wrapper, not a link: the tree may be on a file system without execute permission.
            wrapper = self.bin / name
            wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/env python3 -S "{program}" "$0" "$@"\n')
            wrapper.chmod(0o755)
        self._write("settings.json", {**DEFAULTS, **settings})
        self._write("jobs.json", {"next": 1, "jobs": {}})
        return self

    def configure(self, **settings: Any) -> None:
        """Change settings."""
        self._write("settings.json", {**self.settings(), **settings})

    def fault(self, program: str, kind: str, count: int = 1_000_000) -> None:
        """Let the next `count` calls of a program fail in this way."""
        with self._lock():
            self._write(f"fault.{program}", {"kind": kind, "count": count})

    def heal(self) -> None:
        """Remove all faults."""
        with self._lock():
            for path in self.state.glob("fault.*"):
                path.unlink(missing_ok=True)

    def calls(self, program: str) -> int:
        """Return how often a program was called."""
        try:
            return (self.state / f"calls.{program}").stat().st_size
        except FileNotFoundError:
            return 0

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs after an update, the oldest first."""
        with self.locked() as table:
            return [dict(job) for job in table["jobs"].values()]

    def elsewhere(self) -> list[str]:
        """Return the jobs that live on other clusters, as `id;cluster`."""
        with self.locked() as table:
            return list(table.get("elsewhere", {}))

    def alive(self) -> list[dict[str, Any]]:
        """Return the jobs that have not ended."""
        return [job for job in self.jobs() if job["state"] not in FINAL]

    def end(self, job_id: str, state: str) -> None:
        """End a job from outside: FAILED, NODE_FAIL, TIMEOUT, CANCELLED, …"""
        with self.locked() as table:
            self.finish(table["jobs"][job_id], state)

    def requeue(self, job_id: str) -> None:
        """Preempt a job: it ends and waits again with the same id."""
        with self.locked() as table:
            job = table["jobs"][job_id]
            self.kill(job)
            job.update(state="PENDING", started=None, nodes=[], pid=None, restarts=job["restarts"] + 1)
            job["eligible"] = self.clock() + self.settings()["start_delay"]

    def alter(self, job_id: str, state: str, reason: str = "None", **fields: Any) -> None:
        """Put a job into a state that only Slurm, or a person, puts it into; its process is not touched.

        One that is held, or CONFIGURING, is not started.
        """
        with self.locked() as table:
            job = table["jobs"][job_id]
            waits: dict[str, Any] = {"started": None, "nodes": [], "pid": None, "eligible": float("inf")}
            job.update({**(waits if state == "PENDING" else {}), "state": state, "reason": reason, **fields})

    def foreign(self, **fields: Any) -> str:
        """Add a job of this account that nobody here submitted; return its id."""
        with self.locked() as table:
            job = new_job(self, table, {}, {})
            job.update(state="RUNNING", nodes=["localhost"], started=self.clock(), **fields)
            return str(job["id"])

    def lose(self, job_id: str) -> None:
        """Let Slurm forget a job completely (its process, if any, continues)."""
        with self.locked() as table:
            del table["jobs"][job_id]

    def stop(self) -> None:
        """End all processes of jobs."""
        with self.locked() as table:
            for job in table["jobs"].values():
                self.kill(job)

    # --- state ---------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return the settings."""
        found: dict[str, Any] = json.loads((self.state / "settings.json").read_text())
        return found

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.state / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def locked(self) -> Iterator[dict[str, Any]]:
        """Lock the state; update its table, yield it and write it back."""
        with self._lock():
            table = json.loads((self.state / "jobs.json").read_text())
            self._advance(table)
            yield table
            self._write("jobs.json", table)

    def _write(self, name: str, document: object) -> None:
        temporary = self.state / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps(document))
        temporary.replace(self.state / name)

    def take_fault(self, program: str) -> str:
        """Return the fault for this call, or ""."""
        path = self.state / f"fault.{program}"
        with (self.state / f"calls.{program}").open("a") as calls:
            calls.write(".")
        with self._lock():
            if not path.exists():
                return ""
            fault = json.loads(path.read_text())
            fault["count"] -= 1
            if fault["count"] > 0:
                self._write(path.name, fault)
            else:
                path.unlink()
            return str(fault["kind"])

    # --- life of a job -------------------------------------------------------------------------------

    def _advance(self, table: dict[str, Any]) -> None:
        settings = self.settings()
        for job in table["jobs"].values():
            if job["state"] in ("RUNNING", "COMPLETING"):
                self._look(job, settings)
        for job in table["jobs"].values():
            if job["state"] == "PENDING" and self.clock() >= job["eligible"]:
                self._start(job, table, settings)

    def _start(self, job: dict[str, Any], table: dict[str, Any], settings: dict[str, Any]) -> None:
        running = [one for one in table["jobs"].values() if one["started"] and one["state"] not in FINAL]
        busy = [node for other in running for node in other["nodes"]]
        nodes = [node for node in settings["nodes"] if node not in job["exclude"]]
        free = [node for node in nodes if busy.count(node) < settings["jobs_per_node"]]
        if not free:
            job["reason"] = "Resources"
            return
        node = min(free, key=busy.count)
        job.update(state="RUNNING", reason="None", started=float(int(self.clock())), nodes=[node])
        broken = any(str(job["name"]).startswith(name) for name in settings["broken_names"])
        if broken or node in settings["broken_nodes"]:
            self._close(job, "FAILED")
            return
        if settings["run"]:
            job["pid"] = self._spawn(job, settings)

    def _spawn(self, job: dict[str, Any], settings: dict[str, Any]) -> int:
        environment = {
            **job["environment"],
            "SLURM_JOB_ID": job["id"],
            "SLURM_JOB_NAME": job["name"],
            "SLURMD_NODENAME": job["nodes"][0],
            "SLURM_JOB_NODELIST": job["nodes"][0],
            "SLURM_RESTART_COUNT": str(job["restarts"]),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
        (self.state / f"exit.{job['id']}").unlink(missing_ok=True)
        runner = [sys.executable, "-S", str(Path(__file__).resolve()), "runner", str(self.state), job["id"]]
        started = subprocess.run(
            [*runner, job["output"], job["directory"], str(settings["kill_wait"])],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        return int(started.stdout)

    def _look(self, job: dict[str, Any], settings: dict[str, Any]) -> None:
        if job.get("epilog"):
            # Its node does not answer, or its epilog hangs.
            return
        if job["pid"] is None:
            if job["state"] == "COMPLETING":
                self._close(job, job["final"])
            return
        exit_file = self.state / f"exit.{job['id']}"
        if exit_file.exists():
            status = int(exit_file.read_text() or "1")
            self._close(job, job["final"] or ("COMPLETED" if status == 0 else "FAILED"))
        elif not running(job["pid"]):
            self._close(job, job["final"] or "NODE_FAIL")
        elif job["started"] and self.clock() > job["started"] + 60 * job["limit"]:
            self.finish(job, "TIMEOUT")

    def _close(self, job: dict[str, Any], state: str) -> None:
        # Slurm shows where and when a job ran as long as it shows the job.
        job.update(state=state, ended=self.clock(), pid=None)

    def finish(self, job: dict[str, Any], state: str) -> None:
        """Begin to end a job; one with a process is COMPLETING until that has gone."""
        if job["state"] in FINAL:
            return
        if job["pid"] is None:
            self._close(job, state)
            return
        job.update(state="COMPLETING", final=state)
        if running(job["pid"]):
            os.kill(job["pid"], signal.SIGTERM)

    def kill(self, job: dict[str, Any]) -> None:
        """Kill a job's processes at once."""
        if job["pid"] is not None and running(job["pid"]):
            os.killpg(job["pid"], signal.SIGKILL)
            group = self.state / f"group.{job['id']}"
            if group.exists():
                kill_group(int(group.read_text()), signal.SIGKILL)


def running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def kill_group(group: int, number: int) -> None:
    """Send a signal to a process group that may have gone."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


# --- the runner: one per running job ------------------------------------------------------------------


def detach(state: Path, job_id: str, output: str, directory: str, kill_wait: float) -> int:
    """Start a detached runner and print its process id."""
    child = os.fork()
    if child:
        print(child)
        return 0
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os._exit(run_job(state, job_id, output, directory, kill_wait))


def run_job(state: Path, job_id: str, output: str, directory: str, kill_wait: float) -> int:
    """Run a job's script and write its exit status; TERM ends it, after `kill_wait` seconds by force."""
    with Path(output).open("ab") as stream:
        process = subprocess.Popen(
            ["/bin/bash", str(state / f"script.{job_id}")],
            cwd=directory,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (state / f"group.{job_id}").write_text(str(process.pid))

    def terminate(*_: Any) -> None:
        kill_group(process.pid, signal.SIGTERM)
        signal.alarm(max(1, int(kill_wait)))

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGALRM, lambda *_: kill_group(process.pid, signal.SIGKILL))
    status = process.wait()
    kill_group(process.pid, signal.SIGKILL)
    (state / f".exit.{job_id}").write_text(str(status))
    (state / f".exit.{job_id}").replace(state / f"exit.{job_id}")
    return 0


# --- the commands -------------------------------------------------------------------------------------


def options(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split `--name=value` and `--flag` from the rest."""
    found, rest = {}, []
    for argument in arguments:
        if argument.startswith("--"):
            name, _, value = argument[2:].partition("=")
            found[name] = value
        else:
            rest.append(argument)
    return found, rest


def sbatch(cluster: Cluster, arguments: list[str], fault: str) -> int:
    """Accept a job from a file or standard input."""
    found, rest = options(arguments)
    script = Path(rest[0]).read_text() if rest else sys.stdin.read()
    if not script.startswith("#!"):
        return refuse("sbatch: error: This does not look like a batch script.  The first\n")
    directives = dict(re.findall(r"(?m)^#SBATCH +--([a-z-]+)=(\S+)", script))
    directives.update({name: found[name] for name in ("partition", "time", "account") if name in found})
    settings = cluster.settings()
    partitions = settings["partitions"]
    if settings["refusal"]:
        return refuse(settings["refusal"])
    if set(settings["nodes"]) <= set(filter(None, found.get("exclude", "").split(","))):
        return refuse(
            "sbatch: error: Batch job submission failed: Requested node configuration is not available\n"
        )
    if partitions and directives.get("partition") not in partitions:
        return refuse(
            f"sbatch: error: invalid partition specified: {directives.get('partition')}\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
        )
    if "test-only" in found:
        start = stamp(cluster.clock())
        sys.stderr.write(f"sbatch: Job 1 to start at {start} using 1 processors on nodes c1\n")
        return 0
    with cluster.locked() as table:
        if full(table, settings, directives.get("account", "")):
            return refuse(
                f"sbatch: error: {settings['submit_limit']}\n"
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
                "(job submit limit, user's size and/or time limits)\n"
            )
        job = new_job(cluster, table, found, directives)
        (cluster.state / f"script.{job['id']}").write_text(script)
        landed = settings["lands_on"]
        if landed and landed != settings["cluster"]:
            # The job exists, but is not visible here.
            table.setdefault("elsewhere", {})[f"{job['id']};{landed}"] = table["jobs"].pop(job["id"])
    if fault == "accept-hang":
        time.sleep(HANG)
    if fault == "accept-fail":
        return refuse("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n")
    words = {True: f"{job['id']}{';' if landed else ''}{landed}", False: f"Submitted batch job {job['id']}"}
    print(words["parsable" in found])
    return 0


def exported(asked: str, profile: dict[str, str]) -> dict[str, str]:
    """Return a job's environment: sbatch's own for ALL, otherwise the login profile's and named variables."""
    if asked == "ALL":
        return dict(os.environ)
    pairs = [pair.partition("=") for pair in asked.split(",") if "=" in pair]
    return {**profile, **{name: value for name, _, value in pairs}}


def full(table: dict[str, Any], settings: dict[str, Any], account: str) -> bool:
    """Whether an account has reached its limit of jobs."""
    most = settings["submit_limits"].get(account)
    mine = [job for job in table["jobs"].values() if job["account"] == account and job["state"] not in FINAL]
    return most is not None and len(mine) >= most


def new_job(
    cluster: Cluster, table: dict[str, Any], found: dict[str, str], directives: dict[str, str]
) -> dict[str, Any]:
    """Add a job to the table."""
    job_id = str(table["next"])
    table["next"] += 1
    settings = cluster.settings()
    now = cluster.clock()
    job = {
        "id": job_id,
        "name": found.get("job-name", "sbatch"),
        "comment": found.get("comment", ""),
        "account": directives.get("account", ""),
        "state": "PENDING",
        "final": "",
        "reason": "Priority",
        "submitted": now,
        "eligible": now + settings["start_delay"],
        "started": None,
        "ended": None,
        "limit": minutes(directives.get("time", str(settings["time_limit"]))),
        "exclude": list(filter(None, found.get("exclude", "").split(","))),
        "array": "",
        "nodes": [],
        "restarts": 0,
        "pid": None,
        "directory": found.get("chdir", "/"),
        "output": found.get("output", os.devnull),
        "environment": exported(found.get("export", "ALL"), settings["profile"]),
        "options": found,
    }
    table["jobs"][job_id] = job
    return job


def minutes(text: str) -> float:
    """Return a time limit as sbatch takes it, in minutes: 90, 1:30 (minutes:seconds), 2:00:00, 1-12:00:00."""
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return float("inf")
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minute, second = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minute, second = parts
    else:
        hours, (minute, second) = 0, (*parts, 0)[:2]
    return 1440.0 * int(days or 0) + 60 * hours + minute + second / 60


def squeue(cluster: Cluster, arguments: list[str]) -> int:
    """Print jobs by a format."""
    found, _ = options(arguments)
    shape = found.get("format", "%i|%j|%T")
    everything = found.get("states") == "all"
    age = cluster.settings()["min_job_age"]
    print(cluster.settings()["banner"], end="")
    for job in cluster.jobs():
        if job["state"] in FINAL and (not everything or cluster.clock() - job["ended"] > age):
            continue
        print(line_of(job, shape))
    return 0


def line_of(job: dict[str, Any], shape: str) -> str:
    """Return a job's line by a format."""
    return re.sub(r"%(\d*)([a-zA-Z])", lambda match: cut(column(job, match[2]), match[1]), shape)


def cut(text: str, width: str) -> str:
    """Return a column as squeue prints it: raw, and with a width that many bytes, cut or padded."""
    raw = text.encode("utf-8", "surrogateescape")
    return (raw[: int(width)].ljust(int(width)) if width else raw).decode("utf-8", "replace")


def column(job: dict[str, Any], letter: str) -> str:
    """Return one column of squeue."""
    ends, unlimited = job["ended"], job["limit"] == float("inf")
    if ends is None and job["started"] is not None:
        ends = job.get("ends") or (None if unlimited else job["started"] + 60 * job["limit"])
    return {
        "A": job["id"],
        "i": f"{job['id']}_[{job['array']}]" if job["array"] else job["id"],
        "T": job["state"],
        "V": stamp(job["submitted"]),
        "S": stamp(job["started"] or job.get("estimate")),
        "e": "NONE" if unlimited and ends is None and job["started"] is not None else stamp(ends),
        "N": ",".join(job["nodes"]),
        "r": job["reason"],
        "k": job["comment"] or "(null)",
        "j": job["name"],
        "Z": job["directory"],
    }[letter]


def stamp(moment: Optional[float]) -> str:
    """Return a time as Slurm prints it, in the client's time zone."""
    return "N/A" if moment is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))


def scontrol(cluster: Cluster, arguments: list[str]) -> int:
    """Show one job, the partitions or the configuration."""
    _, rest = options(arguments)
    settings = cluster.settings()
    if rest[:2] == ["show", "partition"]:
        for name in settings["partitions"]:
            print(f"PartitionName={name} {settings['partition_limits']}")
        return 0
    if rest[:2] == ["show", "config"]:
        print(f"Configuration data as of {stamp(cluster.clock() + settings['clock_ahead'])}")
        print(f"ClusterName             = {settings['cluster']}")
        print("SlurmctldPort           = 6817\nSlurmdPort              = 6818\nSrunPortRange           = 0-0")
        return 0
    job = next((one for one in cluster.jobs() if one["id"] == rest[-1]), None)
    if rest[:2] != ["show", "job"] or job is None:
        return refuse("slurm_load_jobs error: Invalid job id specified\n")
    print(
        f"JobId={job['id']} JobName={job['name']} UserId=user(1) JobState={job['state']} "
        f"Reason={job['reason'].replace(' ', '_')} SubmitTime={stamp(job['submitted'])} "
        f"StartTime={stamp(job['started'])} EndTime={column(job, 'e').replace('NONE', 'Unknown')} "
        f"NodeList={','.join(job['nodes']) or '(null)'} WorkDir={job['directory']} Comment={job['comment']}"
    )
    return 0


def scancel(cluster: Cluster, arguments: list[str]) -> int:
    """Cancel jobs by id if their name is the given one."""
    found, rest = options(arguments)
    status = 0
    with cluster.locked() as table:
        for job_id in rest:
            if "clusters" in found:
                status = status or cancel_elsewhere(table, f"{job_id};{found['clusters']}", found.get("name"))
                continue
            job = table["jobs"].get(job_id)
            if job is None:
                message = f"scancel: error: Kill job error on job id {job_id}: Invalid job id specified\n"
                status = refuse(message)
            elif found.get("name", job["name"]) == job["name"]:
                cluster.finish(job, "CANCELLED")
    return status


def cancel_elsewhere(table: dict[str, Any], job: str, name: Optional[str]) -> int:
    """Cancel a job that landed on another cluster."""
    elsewhere = table.get("elsewhere", {})
    if job not in elsewhere:
        message = f"scancel: error: Kill job error on job id {job.partition(';')[0]}: "
        return refuse(f"{message}Invalid job id specified\n")
    if name in (None, elsewhere[job]["name"]):
        del elsewhere[job]
    return 0


def sacctmgr(cluster: Cluster, arguments: list[str]) -> int:
    """Print the associations or the QOS that the settings hold, as they stand."""
    _, rest = options(arguments)
    print(cluster.settings()["qos" if rest[1] == "qos" else "associations"])
    return 0


def refuse(message: str) -> int:
    """Print an error as Slurm does."""
    sys.stderr.write(message)
    return 1


def main(arguments: list[str]) -> int:
    """Run the command with the name under which the program was started."""
    if arguments[0] == "runner":
        state, job_id, output, directory, kill_wait = arguments[1:]
        return detach(Path(state), job_id, output, directory, float(kill_wait))
    called = Path(arguments[0])
    return run(Cluster(called.resolve().parent.parent), called.name, arguments[1:])


def run(cluster: Cluster, program: str, arguments: list[str]) -> int:
    """Run one of Slurm's commands."""
    fault = cluster.take_fault(program)
    if fault == "hang":
        time.sleep(HANG)
    if fault == "fail":
        return refuse(f"{program}: error: Unable to contact slurm controller (connect failure)\n")
    if fault == "garbage":
        print("\N{SNOWMAN} slurm_load: 17|what")
        return 0
    if fault == "empty":
        return 0
    if arguments == ["--version"]:
        print("slurm-wlm 22.05.8")
        return 0
    if program == "sbatch":
        return sbatch(cluster, arguments, fault)
    programs = {"squeue": squeue, "scancel": scancel, "scontrol": scontrol, "sacctmgr": sacctmgr}
    return programs[program](cluster, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
