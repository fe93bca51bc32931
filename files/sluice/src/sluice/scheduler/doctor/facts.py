"""Gathers what `sluice doctor` checks: files, processes and Slurm's answers. Changes nothing.

If it runs as root, it asks Slurm as the scheduler's account, because root may do what the account may not.
Every command has the configured time-out.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shlex
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from sluice.contracts.files import read_json
from sluice.contracts.models import ModelEntry
from sluice.contracts.routing import RoutingTable
from sluice.errors import RecordError, SluiceError
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.doctor.findings import (
    ASSOCIATION_COLUMNS,
    QOS_COLUMNS,
    CommandOutput,
    Facts,
    PathFacts,
    state_folder,
)
from sluice.scheduler.instances.instance import BURST
from sluice.scheduler.models import weights
from sluice.scheduler.models.catalogue import Allowed, Catalogue, Listed, read_catalogue
from sluice.scheduler.slurm import programs
from sluice.scheduler.slurm.client import SUBMITTED, cancel_command
from sluice.scheduler.slurm.submission import options
from sluice.scheduler.state import State, StateFile

PROGRAMS = ("sbatch", "scancel", "scontrol", "squeue")
CRONTAB = "/etc/cron.d/sluice"
CODE = ("/opt/sluice", "/opt/sluice/sluice.pyz", "/usr/local/libexec/sluice/scheduler")
LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
LINGER = Path("/var/lib/systemd/linger")
MOUNTS = Path("/proc/self/mounts")
TIMER = "/etc/systemd/system/sluice-scheduler.timer"
CRONS = ("cron", "crond")
# Programs on login nodes that end, stop or slow users' processes, by their names in /proc/<pid>/comm.
REAPERS = ("arbiter", "arbiter.py", "arbiter2", "cgrulesengd", "earlyoom", "nohang", "oomd", "systemd-oomd")
TIMER_STATE = ("systemctl", "is-active", "sluice-scheduler.timer")
SSHD_SETTINGS = ("/usr/sbin/sshd", "-T")
KILLS_USER_PROCESSES = (
    "busctl",
    "get-property",
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
    "KillUserProcesses",
)
PROBE_EVERY = 2.0
PROBE_NAME = "sluice-doctor"
# How long the probe's job listens, and how long this host tries to reach it.
PROBE_LISTENS = 60
PROBE_CONNECT = 5.0
PROBE_LINE = re.compile(r"(ok|failed) (\d+) (yes|no) (yes|no) ([A-Za-z0-9.-]+) ([^\t]*)\t([^\t]*)\n")
# Binds a port of the range, writes what it saw as one line, by rename, and accepts one connection.
PROBE_PROGRAM = """\
import os, socket, sys
first, last, state, result, word, boxes, host, said, box = sys.argv[1:]
said, box = (" ".join(words.split())[:300] for words in (said, box))
with socket.socket() as listener:
    listener.settimeout(LISTENS)
    for port in range(int(first), int(last) + 1):
        try:
            listener.bind(("", port))
            break
        except OSError:
            continue
    else:
        port = 0
    listener.listen(1)
    with open(result + ".new", "w") as stream:
        sees = "yes" if os.path.exists(state) else "no"
        stream.write(f"{word} {port} {sees} {boxes} {host} {said}\\t{box}\\n")
    os.rename(result + ".new", result)
    if port:
        listener.accept()[0].close()
"""


@dataclass(frozen=True)
class ProbeResult:
    """What a probe's job reported; None for what is unknown.

    `answer`: its line. `unreached`: why this host did not reach its port, "" if it did. `sees_state`: whether
    it sees the state folder. `box`: why its node cannot create a box, "" if it can.
    """

    answer: CommandOutput
    unreached: Optional[str] = None
    sees_state: Optional[bool] = None
    box: Optional[str] = None


def read_probe(answer: CommandOutput) -> ProbeResult:
    """Read a probe's line and connect to the port that its job listens on."""
    found = PROBE_LINE.fullmatch(answer.output)
    if found is None:
        return ProbeResult(answer)
    word, port, sees, boxes, host, said, box = found.groups()
    told = CommandOutput(answer.status, f"{host}: {'' if word == 'ok' else 'failed: '}{said}", answer.errors)
    problem = _connect(host, int(port)) if int(port) else "no port in the range was free on the node"
    return ProbeResult(told, problem, sees == "yes", "" if boxes == "yes" else f"{host}: {box}")


def _connect(host: str, port: int) -> str:
    """Return why a port cannot be reached, "" if it can."""
    try:
        socket.create_connection((host, port), PROBE_CONNECT).close()
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    return ""


class SchedulerAccount:
    """The owner of the state folder; asks Slurm as this account, with the settings' paths and time-out."""

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
    def name(self) -> str:
        """The account's name, or its id if it has no name."""
        return str(self.account_id) if self._entry is None else self._entry.pw_name

    @property
    def shell(self) -> str:
        """The account's login shell, "" if it has no entry in passwd."""
        return "" if self._entry is None else self._entry.pw_shell

    def keys(self) -> tuple[str, ...]:
        """Return the authorized_keys files in the account's home that exist."""
        home = "" if self._entry is None else self._entry.pw_dir
        if home in ("", "/") or self.account_id == 0:
            return ()
        names = ("authorized_keys", "authorized_keys2")
        return tuple(f"{home}/.ssh/{name}" for name in names if path_facts(f"{home}/.ssh/{name}") is not None)

    def ask(self, argv: Sequence[str], text: str = "") -> CommandOutput:
        """Run one of Slurm's commands with `text` as its input."""
        began = time.monotonic()
        try:
            variables = programs.environment(self.settings.slurm_bin, self.settings.slurm_conf)
            words = [str(Path(self.settings.slurm_bin) / argv[0]), *argv[1:]]
            found = programs.run(words, text, variables, self.settings.command_timeout, **self._identity())
        except LookupError as error:
            return CommandOutput(None, errors=f"{argv[0]}: {error.args[0]}")
        except OSError as error:
            return CommandOutput(None, errors=f"{argv[0]}: {error.strerror}")
        seconds = time.monotonic() - began
        if isinstance(found, programs.Unknown):
            return CommandOutput(None, errors=found.reason, seconds=seconds)
        return CommandOutput(found.status, found.output, found.errors, seconds)

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0 or self._entry is None or self.account_id == 0:
            return {}
        groups = os.getgrouplist(self._entry.pw_name, self._entry.pw_gid)
        return {"user": self.account_id, "group": self._entry.pw_gid, "extra_groups": groups}

    def accounting(self, argv: Sequence[str]) -> Optional[CommandOutput]:
        """Ask sacctmgr; None if it is not installed."""
        if not (Path(self.settings.slurm_bin) / "sacctmgr").exists():
            return None
        return self.ask(["sacctmgr", "--noheader", "--parsable2", *argv])

    def probe(self, entry: ModelEntry, seconds: float) -> ProbeResult:
        """Run a tiny job that tests shared folder, Python and program; cancel it after `seconds` at most."""
        folder = f"{self.settings.jobs_dir}/doctor-{secrets.token_hex(4)}"
        # Programs that run as the account do this: root may not write there (root_squash), and must not
        # follow the account's links.
        made = self.ask(["/bin/mkdir", "-m", "0700", "--", folder])
        if made.status != 0:
            return ProbeResult(CommandOutput(1, errors=made.words() or "mkdir: no answer"))
        submitted: Optional[re.Match[str]] = None
        try:
            script = probe_script(self.settings, f"{folder}/result")
            answer = self.ask(probe_command(entry, folder), script)
            if answer.status != 0:
                return ProbeResult(CommandOutput(1, errors=answer.words() or "sbatch: no answer"))
            submitted = SUBMITTED.fullmatch(answer.output.strip())
            if submitted is None:
                return ProbeResult(CommandOutput(1, errors=f"sbatch answered {answer.output[:80]!r}"))
            return read_probe(self._await(submitted[1], f"{folder}/result", seconds))
        finally:
            if submitted is not None:
                self.ask(cancel_command(submitted[1], PROBE_NAME, submitted[2] or "", self.account_id))
            self.ask(["/bin/rm", "-rf", "--", folder])

    def _await(self, job_id: str, result: str, seconds: float) -> CommandOutput:
        """Wait until the job has written its line; return it, or why there is none."""
        deadline = time.monotonic() + seconds
        asked = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T %r"]
        state = ""
        while time.monotonic() < deadline:
            # Listing the folder makes a caching file system show new files.
            self.ask(["/bin/ls", "--", str(Path(result).parent)])
            text = self.ask(["/usr/bin/head", "-c", "500", "--", result]).output
            if text.endswith("\n"):
                return CommandOutput(0 if text.startswith("ok ") else 1, text)
            state = self.ask(asked).words()
            time.sleep(min(PROBE_EVERY, seconds))
        return CommandOutput(1, errors=f"it did not report within {seconds:g} s (job {job_id}: {state})")


def probe_command(entry: ModelEntry, folder: str) -> list[str]:
    """Return the argv of the probe's sbatch."""
    wanted = (
        ("partition", entry.slurm.partition),
        ("account", entry.slurm.account),
        ("qos", entry.slurm.qos),
    )
    given = [f"--{key}={value}" for key, value in wanted if value]
    fixed = [f"--job-name={PROBE_NAME}", "--time=2", f"--chdir={folder}", f"--output={folder}/output"]
    return ["sbatch", "--parsable", "--export=ALL", *fixed, *given]


def probe_script(settings: SchedulerConfig, result: str) -> str:
    """Return the probe's script, which runs the program with the jobs' Python and writes one line."""
    python, ports = shlex.quote(settings.python), settings.port_range()
    words = [str(ports.start), str(ports.stop - 1), settings.state_file, result]
    program = PROBE_PROGRAM.replace("LISTENS", str(PROBE_LISTENS))
    return (
        "#!/bin/bash\n"
        f"said=$({python} -I -S {shlex.quote(settings.zipapp)} --version 2>&1) && word=ok || word=failed\n"
        f"box=$({python} -I -S {shlex.quote(settings.zipapp)} box --check 2>&1) && boxes=yes || boxes=no\n"
        f"{python} -I -S -c {shlex.quote(program)} {shlex.join(words)} "
        '"$word" "$boxes" "${SLURMD_NODENAME:-$(hostname)}" "$said" "$box"\n'
    )


def gather(settings: SchedulerConfig, config_path: str, probe_seconds: float = 0.0) -> Facts:
    """Return all facts; with `probe_seconds` above 0 also those that a probe's job finds within that time."""
    account = SchedulerAccount(settings)
    now = time.time()
    try:
        catalogue = read_catalogue(settings.models_dir, now, Allowed.from_config(settings))
        state = StateFile(settings.state_file).peek() or State()
    except OSError as error:
        catalogue, state = Catalogue(unusable={"models": f"{error.filename}: {error.strerror}"}), State()
    entries = {name: listed.entry for name, listed in catalogue.listed.items()}
    probed = _probed(account, next(iter(entries.values()), None), probe_seconds)
    associations = account.accounting(
        ["show", "assoc", "where", f"user={account.name}", f"format={','.join(ASSOCIATION_COLUMNS)}"]
    )
    return Facts(
        settings=settings,
        now=time.time(),
        host=socket.gethostname(),
        account=account.name,
        account_id=account.account_id,
        python=sys.version_info[:2],
        commands={name: account.ask([name, "--version"]) for name in PROGRAMS},
        queue=account.ask(["squeue", "--noheader", f"--user={account.account_id}", "--format=%A"]),
        partitions=account.ask(["scontrol", "--oneliner", "show", "partition"]),
        slurm_config=account.ask(["scontrol", "show", "config"]),
        associations=associations,
        qos=account.accounting(["show", "qos", f"format={','.join(QOS_COLUMNS)}"]),
        models=entries,
        unusable=catalogue.unusable,
        tests=_tests(account, catalogue.listed),
        paths={path: path_facts(path) for path in watched_paths(settings, config_path)},
        last_tick=_last_tick(settings),
        lease_host=state.lease.host,
        lease_time=state.lease.time,
        local_ports=_local_ports(),
        cron_runs=_cron_runs(),
        crontab=CRONTAB,
        kills_user_processes=_kills_user_processes(),
        lingers=(LINGER / account.name).exists(),
        closed=Path(config_path).with_name("closed").exists(),
        probe=None if probed is None else probed.answer,
        reservations=account.ask(["scontrol", "--oneliner", "show", "reservation"]),
        launchers=tuple(name for name, path in launcher_files(settings) if Path(path).exists()),
        timer=_timer() if settings.launcher == "systemd" else "",
        scrontab=account.ask(["scrontab", "-l"]) if settings.launcher == "scrontab" else None,
        reapers=_reapers(),
        weights={name: _weights(entry) for name, entry in entries.items()},
        unreached=None if probed is None else probed.unreached,
        job_sees_state=None if probed is None else probed.sees_state,
        sshd=_sshd(),
        box=None if probed is None else probed.box,
        login_shell=account.shell,
        keys=account.keys(),
    )


def _probed(account: SchedulerAccount, entry: Optional[ModelEntry], seconds: float) -> Optional[ProbeResult]:
    if seconds <= 0:
        return None
    if entry is None:
        return ProbeResult(CommandOutput(1, errors="no model entry names a partition for it"))
    return account.probe(entry, seconds)


def _tests(account: SchedulerAccount, models: Mapping[str, Listed]) -> dict[str, CommandOutput]:
    """Ask whether Slurm would take each model's script, as a base and as a burst instance."""
    test = ["sbatch", "--test-only", "--export=ALL"]
    answers = {}
    for name, listed in models.items():
        answers[name] = account.ask(test, listed.script)
        if listed.entry.burst is not None:
            answers[f"{name} (burst)"] = account.ask([*test, *options(listed.entry, BURST)], listed.script)
    return answers


def launcher_files(settings: SchedulerConfig) -> tuple[tuple[str, str], ...]:
    """Return each launcher with the file that starts the scheduler."""
    folder = Path(settings.zipapp).parent
    return ("cron", CRONTAB), ("systemd", TIMER), ("scrontab", f"{folder}/scheduler/launch")


def _timer() -> str:
    """Return the timer's state by systemctl is-active, "" if it does not answer."""
    try:
        answer = subprocess.run(TIMER_STATE, capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace").strip()[:40]


def _weights(entry: ModelEntry) -> str:
    """Return what is wrong with a model's manifest, "" if nothing is."""
    try:
        manifest = weights.Weights.at(Path(entry.weights)).manifest
        found = weights.digest(manifest)
    except SluiceError as error:
        return error.message[:300]
    if entry.manifest and found != entry.manifest:
        return f"{manifest} is not the manifest in the entry ({entry.manifest[:12]}…)"
    return "" if entry.manifest else "the entry has no manifest: its weights are not checked"


def watched_paths(settings: SchedulerConfig, config_path: str) -> tuple[str, ...]:
    """Return the paths whose owner and mode matter."""
    folders = (str(Path(config_path).parent), settings.models_dir, settings.jobs_dir, settings.demand_dir)
    files = (config_path, settings.routing_table, settings.zipapp, CRONTAB, *CODE)
    return (*folders, state_folder(settings), *files)


def path_facts(path: str) -> Optional[PathFacts]:
    """Return the facts of a path; None if it does not exist or cannot be seen."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return PathFacts(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), file_system(path, _mounts()))


def file_system(path: str, mounts: str) -> str:
    """Return the type of the file system of `path`, by the text of /proc/self/mounts; "" if none matches."""
    best, found = -1, ""
    resolved = os.path.realpath(path)
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].encode().decode("unicode_escape").rstrip("/")
        # Of several on one mount point the last counts: it hides the others.
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
    return any(name in CRONS for name in _processes())


def _reapers() -> tuple[str, ...]:
    return tuple(sorted({name for name in _processes() if name in REAPERS}))


def _processes() -> Iterator[str]:
    """Yield the name of each process of this host."""
    for process in Path("/proc").glob("[0-9]*/comm"):
        try:
            yield process.read_text().strip()
        except OSError:
            continue


def _kills_user_processes() -> Optional[bool]:
    """Return logind's KillUserProcesses; None if logind does not answer."""
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


def _sshd() -> CommandOutput:
    """Return sshd's settings; only root gets them, because sshd reads its host keys for that."""
    try:
        answer = subprocess.run(SSHD_SETTINGS, capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return CommandOutput(None)
    return CommandOutput(answer.returncode, answer.stdout.decode("utf-8", "replace"))
