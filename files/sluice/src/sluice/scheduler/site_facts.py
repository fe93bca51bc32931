"""Gathers what `sluice doctor` judges: files, processes and Slurm's answers. Changes nothing.

Slurm is asked as the scheduler's account where that is possible (as root), since root may do what the
account may not. Every command is bounded by the configured time-out.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shlex
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from sluice.errors import RecordError
from sluice.records import JOB_ID, ModelEntry, RoutingTable, read_json
from sluice.scheduler.catalogue import Catalogue, read_catalogue
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.doctor import ASSOCIATION_COLUMNS, QOS_COLUMNS, Answer, Facts, PathFacts, state_folder
from sluice.scheduler.slurm import command_environment
from sluice.scheduler.state import State, StateFile

PROGRAMS = ("sbatch", "scancel", "scontrol", "squeue")
CRONTAB = "/etc/cron.d/sluice"
CODE = ("/opt/sluice", "/opt/sluice/sluice.pyz", "/usr/local/libexec/sluice/scheduler")
LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
LINGER = Path("/var/lib/systemd/linger")
MOUNTS = Path("/proc/self/mounts")
CRONS = ("cron", "crond")
KILLS_USER_PROCESSES = (
    "busctl",
    "get-property",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    "KillUserProcesses",
)
PROBE_EVERY = 2.0
MAX_ANSWER = 8 * 1024 * 1024


class Clinic:
    """Asks Slurm with the settings' paths and time-out, as the account that owns the state folder."""

    def __init__(self, settings: SchedulerConfig) -> None:
        self.settings = settings
        try:
            self.account_id = Path(state_folder(settings)).stat().st_uid
        except OSError:
            self.account_id = os.geteuid()
        try:
            self._entry: Optional[pwd.struct_passwd] = pwd.getpwuid(self.account_id)
        except KeyError:
            self._entry = None

    @property
    def account(self) -> str:
        """The scheduler's account, or its id where it has no name."""
        return str(self.account_id) if self._entry is None else self._entry.pw_name

    def ask(self, argv: Sequence[str], text: str = "") -> Answer:
        """Run one of Slurm's commands with `text` as its input."""
        began = time.monotonic()
        try:
            finished = subprocess.run(
                [str(Path(self.settings.slurm_bin) / argv[0]), *argv[1:]],
                input=text.encode(),
                capture_output=True,
                timeout=self.settings.command_timeout,
                env=command_environment(self.settings.slurm_bin, self.settings.slurm_conf),
                cwd="/",
                check=False,
                **self._identity(),
            )
        except OSError as error:
            return Answer(None, errors=f"{argv[0]}: {error.strerror}")
        except subprocess.TimeoutExpired:
            waited = self.settings.command_timeout
            return Answer(None, errors=f"{argv[0]}: no answer within {waited:g} s", seconds=waited)
        output, errors = (
            raw[:MAX_ANSWER].decode("utf-8", "replace") for raw in (finished.stdout, finished.stderr)
        )
        return Answer(finished.returncode, output, errors, time.monotonic() - began)

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0 or self._entry is None or self.account_id == 0:
            return {}
        groups = os.getgrouplist(self._entry.pw_name, self._entry.pw_gid)
        return {"user": self.account_id, "group": self._entry.pw_gid, "extra_groups": groups}

    def accounting(self, argv: Sequence[str]) -> Optional[Answer]:
        """Ask sacctmgr; None where there is none."""
        if not (Path(self.settings.slurm_bin) / "sacctmgr").exists():
            return None
        return self.ask(["sacctmgr", "--noheader", "--parsable2", *argv])

    def probe(self, entry: ModelEntry, seconds: float) -> Answer:
        """Let one tiny job look at shared folder, Python and program; it is cancelled at the end."""
        folder = f"{self.settings.jobs_dir}/doctor-{secrets.token_hex(4)}"
        # By programs that run as the account: root may not write there (root_squash), and follows no link so.
        made = self.ask(["/bin/mkdir", "-m", "0700", "--", folder])
        if made.status != 0:
            return Answer(1, errors=made.words() or "mkdir: no answer")
        submitted = ""
        try:
            script = probe_script(self.settings, f"{folder}/result")
            answer = self.ask(probe_command(entry, folder), script)
            if answer.status != 0:
                return Answer(1, errors=answer.words() or "sbatch: no answer")
            submitted = answer.output.strip().split(";")[0]
            return self._await(submitted, f"{folder}/result", seconds)
        finally:
            if JOB_ID.fullmatch(submitted):
                self.ask(["scancel", submitted])
            self.ask(["/bin/rm", "-rf", "--", folder])

    def _await(self, job_id: str, result: str, seconds: float) -> Answer:
        """Wait until the job has said something."""
        deadline = time.monotonic() + seconds
        asked = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T %r"]
        state = ""
        while time.monotonic() < deadline:
            # A folder that is listed anew is seen anew on file systems that cache.
            self.ask(["/bin/ls", "--", str(Path(result).parent)])
            text = self.ask(["/bin/cat", "--", result]).output[:500]
            if text.endswith("\n"):
                return Answer(0 if text.startswith("ok ") else 1, text)
            state = self.ask(asked).words()
            time.sleep(min(PROBE_EVERY, seconds))
        return Answer(1, errors=f"nothing was seen of it within {seconds:g} s (job {job_id}: {state})")


def probe_command(entry: ModelEntry, folder: str) -> list[str]:
    """Return the argv of the probe's sbatch."""
    wanted = (
        ("partition", entry.slurm.partition),
        ("account", entry.slurm.account),
        ("qos", entry.slurm.qos),
    )
    given = [f"--{key}={value}" for key, value in wanted if value]
    fixed = ["--job-name=sluice-doctor", "--time=2", f"--chdir={folder}", f"--output={folder}/output"]
    return ["sbatch", "--parsable", "--export=NONE", *fixed, *given]


def probe_script(settings: SchedulerConfig, result: str) -> str:
    """Return the probe's script: it runs the program with the jobs' Python and writes one line, by rename."""
    run = f"{shlex.quote(settings.python)} -I -S {shlex.quote(settings.zipapp)} --version"
    return (
        "#!/bin/bash\n"
        f"if said=$({run} 2>&1); then word=ok; else word=failed; fi\n"
        f"echo \"$word $(hostname): $(echo $said | tr -d '\\n' | head -c 300)\" > {shlex.quote(result)}.new\n"
        f"mv {shlex.quote(result)}.new {shlex.quote(result)}\n"
    )


def gather(settings: SchedulerConfig, config_path: str, probe_seconds: float = 0.0) -> Facts:
    """Return everything; with `probe_seconds` a job looks at the shared folder for at most so long."""
    clinic = Clinic(settings)
    now = time.time()
    try:
        catalogue = read_catalogue(settings.models_dir, now)
        state = StateFile(settings.state_file).peek() or State()
    except OSError as error:
        catalogue, state = Catalogue(held={"models": f"{error.filename}: {error.strerror}"}), State()
    entries = {name: listed.entry for name, listed in catalogue.listed.items()}
    tests = {
        name: clinic.ask(["sbatch", "--test-only", "--export=NONE"], listed.script)
        for name, listed in catalogue.listed.items()
    }
    probe = None
    if probe_seconds > 0:
        entry = next(iter(entries.values()), None)
        probe = (
            Answer(1, errors="no model says where") if entry is None else clinic.probe(entry, probe_seconds)
        )
    associations = clinic.accounting(
        ["show", "assoc", "where", f"user={clinic.account}", f"format={','.join(ASSOCIATION_COLUMNS)}"]
    )
    return Facts(
        settings=settings,
        now=time.time(),
        host=socket.gethostname(),
        account=clinic.account,
        account_id=clinic.account_id,
        python=sys.version_info[:2],
        commands={name: clinic.ask([name, "--version"]) for name in PROGRAMS},
        queue=clinic.ask(["squeue", "--noheader", f"--user={clinic.account_id}", "--format=%A"]),
        partitions=clinic.ask(["scontrol", "--oneliner", "show", "partition"]),
        slurm_config=clinic.ask(["scontrol", "show", "config"]),
        associations=associations,
        qos=clinic.accounting(["show", "qos", f"format={','.join(QOS_COLUMNS)}"]),
        models=entries,
        held=catalogue.held,
        tests=tests,
        paths={path: path_facts(path) for path in watched_paths(settings, config_path)},
        last_tick=_last_tick(settings),
        lease_host=state.lease.host,
        lease_time=state.lease.time,
        local_ports=_local_ports(),
        cron_runs=_cron_runs(),
        crontab=CRONTAB,
        kills_user_processes=_kills_user_processes(),
        lingers=(LINGER / clinic.account).exists(),
        closed=Path(settings.models_dir).with_name("closed").exists(),
        probe=probe,
    )


def watched_paths(settings: SchedulerConfig, config_path: str) -> tuple[str, ...]:
    """Return the paths whose owner and mode matter."""
    folders = (str(Path(config_path).parent), settings.models_dir, settings.jobs_dir, settings.demand_dir)
    files = (config_path, settings.routing_table, settings.zipapp, CRONTAB, *CODE)
    return (*folders, state_folder(settings), *files)


def path_facts(path: str) -> Optional[PathFacts]:
    """Return what there is to know of a path; None where nothing can be seen of it."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return PathFacts(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), file_system(path, _mounts()))


def file_system(path: str, mounts: str) -> str:
    """Return the type of the file system that holds `path`, given /proc/self/mounts; "" if none does."""
    best, found = -1, ""
    resolved = os.path.realpath(path)
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].encode().decode("unicode_escape").rstrip("/")
        # The last of equals counts: it lies over the others.
        if (resolved + "/").startswith(point + "/") and len(point) >= best:
            best, found = len(point), words[2]
    return found


def _mounts() -> str:
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _last_tick(settings: SchedulerConfig) -> Optional[float]:
    try:
        return RoutingTable.parse(read_json(settings.routing_table)).written
    except (OSError, RecordError):
        return None


def _local_ports() -> Optional[range]:
    try:
        first, last = LOCAL_PORTS.read_text().split()
        return range(int(first), int(last) + 1)
    except (OSError, ValueError):
        return None


def _cron_runs() -> bool:
    for process in Path("/proc").glob("[0-9]*/comm"):
        try:
            if process.read_text().strip() in CRONS:
                return True
        except OSError:
            continue
    return False


def _kills_user_processes() -> Optional[bool]:
    """Ask logind; None where there is none."""
    try:
        answer = subprocess.run(
            KILLS_USER_PROCESSES,
            capture_output=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.split() == [b"b", b"true"] if answer.returncode == 0 else None
