"""What Sluice assumes about a site, each assumption as a pure check over gathered facts. Pure.

A check returns findings: `ok`, `warning` (it works, but a safeguard is absent or cannot be seen) or `wrong`,
the last two with what helps. `site_facts` gathers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional

from sluice.records import ModelEntry
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.slurm import parse_time

OK, WARNING, WRONG = "ok", "warning", "wrong"
OLDEST_PYTHON = (3, 9)
MAX_TICK_AGE = 120.0
MAX_SKEW = 5.0
SHARED_FILE_SYSTEMS = frozenset(
    (
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "fuseblk",
        "gfs2",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "ocfs2",
        "panfs",
        "pvfs2",
        "smb3",
        "virtiofs",
        "wekafs",
    )
)
GROUP_WRITES, OTHERS_WRITE, OTHERS_READ = 0o020, 0o002, 0o004


@dataclass(frozen=True)
class Answer:
    """What a command said; `status` is None when it could not be run or did not answer in time."""

    status: Optional[int]
    output: str = ""
    errors: str = ""
    seconds: float = 0.0

    def words(self) -> str:
        """Return one line of what was said, for people."""
        return " ".join((self.errors or self.output).split())[:300]


@dataclass(frozen=True)
class PathFacts:
    """A file or folder: owner and group ids, permission bits, the type of its file system."""

    owner: int
    group: int
    mode: int
    file_system: str = ""


@dataclass(frozen=True)
class Facts:
    """All that is looked at. None stands for what could not be found out; times in seconds since the epoch.

    `paths` has None for what does not exist. `commands` are Slurm's programs by name, asked for their
    version; `tests` the answers of `sbatch --test-only` by model. `associations` and `qos` are None without
    sacctmgr. `local_ports` are those that this host's kernel gives out.
    """

    settings: SchedulerConfig
    now: float
    host: str
    account: str
    account_id: int
    python: tuple[int, int]
    commands: Mapping[str, Answer] = field(default_factory=dict)
    queue: Answer = field(default_factory=lambda: Answer(None))
    partitions: Answer = field(default_factory=lambda: Answer(None))
    slurm_config: Answer = field(default_factory=lambda: Answer(None))
    associations: Optional[Answer] = None
    qos: Optional[Answer] = None
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, Answer] = field(default_factory=dict)
    paths: Mapping[str, Optional[PathFacts]] = field(default_factory=dict)
    last_tick: Optional[float] = None
    lease_host: str = ""
    lease_time: float = 0.0
    local_ports: Optional[range] = None
    cron_runs: bool = False
    crontab: str = ""
    kills_user_processes: Optional[bool] = None
    lingers: bool = False
    closed: bool = False
    probe: Optional[Answer] = None


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: what it is about, `ok`, `warning` or `wrong`, what was seen, what helps."""

    check: str
    level: str
    message: str
    remedy: str = ""


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Return the findings of every check, in a fixed order."""
    return tuple(finding for check in CHECKS for finding in check(facts))


def check_python(facts: Facts) -> list[Finding]:
    """The login node's Python is new enough."""
    words = ".".join(map(str, facts.python))
    if facts.python >= OLDEST_PYTHON:
        return [Finding("python", OK, f"Python {words}")]
    return [Finding("python", WRONG, f"Python {words} is older than 3.9", "set sluice_python to a newer one")]


def check_commands(facts: Facts) -> list[Finding]:
    """Slurm's commands are there and answer, and the controller answers squeue in time."""
    findings = []
    limit = facts.settings.command_timeout
    for name, answer in sorted(facts.commands.items()):
        if answer.status != 0:
            remedy = f"set scheduler_slurm_bin (now {facts.settings.slurm_bin}) and scheduler_slurm_conf"
            findings.append(Finding("commands", WRONG, f"{name}: {answer.words() or 'no answer'}", remedy))
    if facts.queue.status != 0:
        problem = f"squeue: {facts.queue.words() or f'no answer within {limit:g} s'}"
        findings.append(
            Finding("controller", WRONG, problem, "see scontrol ping; nothing is started or ended")
        )
    elif facts.queue.seconds > limit / 2:
        problem = f"squeue took {facts.queue.seconds:.1f} s of the {limit:g} s that it has"
        findings.append(Finding("controller", WARNING, problem, "raise scheduler_command_timeout"))
    else:
        findings.append(Finding("controller", OK, f"squeue answered in {facts.queue.seconds:.1f} s"))
    return findings


def check_models(facts: Facts) -> list[Finding]:
    """Each entry can be used, and Slurm would take its script."""
    findings = [
        Finding("model", WRONG, f"{name}: {problem}", "run the models playbook again")
        for name, problem in sorted(facts.held.items())
    ]
    for name, answer in sorted(facts.tests.items()):
        if answer.status == 0:
            findings.append(Finding("model", OK, f"{name}: sbatch would take it"))
        else:
            remedy = "mend the model's slurm field in the inventory, or ask the cluster's administrators"
            problem = f"{name}: sbatch --test-only: {answer.words() or 'no answer'}"
            findings.append(Finding("model", WRONG, problem, remedy))
    return findings


def check_partitions(facts: Facts) -> list[Finding]:
    """Each model's partitions exist, are up, and take jobs of its length, account and QOS."""
    if facts.partitions.status != 0:
        words = facts.partitions.words() or "no answer"
        return [Finding("partition", WARNING, f"scontrol show partition: {words}", "see scontrol ping")]
    known = {fields.get("PartitionName", ""): fields for fields in records(facts.partitions.output)}
    findings = []
    for name, entry in sorted(facts.models.items()):
        for partition in entry.slurm.partition.split(","):
            problem = _partition_problem(known.get(partition), entry)
            if problem:
                remedy = f"mend {name}'s slurm field; there are: {', '.join(sorted(known))}"
                findings.append(Finding("partition", WRONG, f"{name}: {partition} {problem}", remedy))
    return findings or [Finding("partition", OK, f"{len(facts.models)} models ask for partitions that exist")]


def _partition_problem(fields: Optional[Mapping[str, str]], entry: ModelEntry) -> str:
    if fields is None:
        return "is no partition"
    if fields.get("State", "UP") != "UP":
        return f"is {fields['State']}"
    longest = minutes(fields.get("MaxTime", ""))
    if longest is not None and entry.slurm.time > longest:
        return f"allows {longest:g} minutes, the model asks for {entry.slurm.time}"
    for key, asked in (("AllowAccounts", entry.slurm.account), ("AllowQos", entry.slurm.qos)):
        allowed = fields.get(key, "ALL")
        if asked and allowed not in ("ALL", "") and asked not in allowed.split(","):
            return f"has {key}={allowed}, the model asks for {asked}"
    return ""


def check_accounting(facts: Facts) -> list[Finding]:
    """The account may use what its models ask for, and the centre caps what it may take."""
    remedy = (
        "ask the centre to cap the account by association or QOS (GrpTRES, GrpJobs, MaxJobs, GrpSubmitJobs)"
    )
    if facts.associations is None or facts.associations.status != 0:
        why = (
            "there is no sacctmgr"
            if facts.associations is None
            else facts.associations.words() or "no answer"
        )
        return [Finding("caps", WARNING, f"caps on {facts.account} cannot be seen: {why}", remedy)]
    rows = table(facts.associations.output, ASSOCIATION_COLUMNS)
    if not rows:
        problem = f"{facts.account} has no association"
        return [Finding("account", WRONG, problem, f"sacctmgr add user {facts.account} account=ACCOUNT")]
    return [*_unusable(facts, rows), *_caps(facts, rows, remedy)]


def _unusable(facts: Facts, rows: Sequence[Mapping[str, str]]) -> list[Finding]:
    accounts = {row["account"] for row in rows}
    qos = {word for row in rows for word in row["qos"].split(",") if word}
    findings = []
    for name, entry in sorted(facts.models.items()):
        if entry.slurm.account and entry.slurm.account not in accounts:
            problem = f"{name}: {facts.account} is not in the account {entry.slurm.account}"
            findings.append(Finding("account", WRONG, problem, f"it is in: {', '.join(sorted(accounts))}"))
        if entry.slurm.qos and entry.slurm.qos not in qos:
            problem = f"{name}: {facts.account} may not use the QOS {entry.slurm.qos}"
            findings.append(
                Finding("account", WRONG, problem, f"it may use: {', '.join(sorted(qos)) or 'none'}")
            )
    return findings or [Finding("account", OK, f"{facts.account} is in {', '.join(sorted(accounts))}")]


def _caps(facts: Facts, rows: Sequence[Mapping[str, str]], remedy: str) -> list[Finding]:
    own = [row for row in rows if any(row[key] for key in ASSOCIATION_CAPS)]
    named = {word for row in rows for word in row["qos"].split(",")}
    known = [] if facts.qos is None or facts.qos.status != 0 else table(facts.qos.output, QOS_COLUMNS)
    by_qos = [row for row in known if row["name"] in named and any(row[key] for key in QOS_COLUMNS[1:])]
    # An association without a cap, with a QOS without one, is a way around every other one.
    open_ways = [
        row["account"]
        for row in rows
        if row not in own and not set(row["qos"].split(",")) <= {one["name"] for one in by_qos}
    ]
    if open_ways:
        problem = f"nothing caps {facts.account} in {', '.join(sorted(set(open_ways)))}"
        return [Finding("caps", WARNING, problem, remedy)]
    return [Finding("caps", OK, f"{facts.account} is capped")]


def check_shared(facts: Facts) -> list[Finding]:
    """The job directories are there, and compute nodes see them."""
    folder = facts.paths.get(facts.settings.jobs_dir)
    if folder is None:
        problem = f"{facts.settings.jobs_dir} does not exist"
        return [
            Finding("shared folder", WRONG, problem, "run the login playbook; is the file system mounted?")
        ]
    if folder.owner != facts.account_id:
        problem = f"{facts.settings.jobs_dir} is not {facts.account}'s"
        return [Finding("shared folder", WRONG, problem, "run the login playbook")]
    if facts.probe is None:
        if folder.file_system in SHARED_FILE_SYSTEMS:
            return [Finding("shared folder", OK, f"{facts.settings.jobs_dir} is on {folder.file_system}")]
        problem = f"{facts.settings.jobs_dir} is on {folder.file_system or 'an unknown file system'}"
        return [Finding("shared folder", WARNING, problem, "try it: sluice doctor --with-job")]
    if facts.probe.status == 0:
        return [Finding("shared folder", OK, f"a job saw it and runs the program: {facts.probe.words()}")]
    remedy = "compute nodes need sluice_shared at the same path, and scheduler_job_python"
    return [Finding("shared folder", WRONG, f"the probe's job: {facts.probe.words()}", remedy)]


def check_ports(facts: Facts) -> list[Finding]:
    """The range has room, and nobody else is given its ports."""
    ports, findings = facts.settings.port_range(), []
    remedy = "choose another scheduler_ports"
    if len(ports) < facts.settings.max_instances:
        problem = f"{len(ports)} ports for up to {facts.settings.max_instances} instances of one node"
        findings.append(Finding("ports", WARNING, problem, remedy))
    if facts.local_ports is not None and _overlap(ports, facts.local_ports):
        problem = f"{facts.settings.ports} lies in net.ipv4.ip_local_port_range of this host"
        findings.append(
            Finding("ports", WARNING, problem, remedy + ", or narrow that range on compute nodes")
        )
    for key, taken in slurm_ports(facts.slurm_config.output).items():
        if _overlap(ports, taken):
            findings.append(Finding("ports", WRONG, f"{facts.settings.ports} meets Slurm's {key}", remedy))
    return findings or [Finding("ports", OK, facts.settings.ports)]


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def check_launcher(facts: Facts) -> list[Finding]:
    """The scheduler ticks, here and nowhere else, and something starts it."""
    findings = []
    remedy = "see whether cron runs, and journalctl -t sluice-scheduler"
    if facts.last_tick is None:
        findings.append(Finding("launcher", WRONG, "the scheduler has never ticked", remedy))
    elif facts.now - facts.last_tick > MAX_TICK_AGE:
        problem = f"the last tick was {facts.now - facts.last_tick:.0f} s ago"
        findings.append(Finding("launcher", WRONG, problem, remedy))
    else:
        age = max(0.0, facts.now - facts.last_tick)
        findings.append(Finding("launcher", OK, f"the last tick was {age:.0f} s ago"))
    if facts.lease_host not in ("", facts.host) and facts.now - facts.lease_time < facts.settings.lease:
        problem = f"the scheduler runs on {facts.lease_host}, this is {facts.host}"
        findings.append(
            Finding("launcher", WRONG, problem, "leave one host of the cluster in group scheduler")
        )
    if not facts.cron_runs:
        findings.append(
            Finding("launcher", WRONG, "no cron runs here", "systemctl enable --now cron (or crond)")
        )
    crontab = facts.paths.get(facts.crontab)
    if crontab is None:
        findings.append(
            Finding("launcher", WRONG, f"{facts.crontab} does not exist", "run the login playbook")
        )
    elif crontab.owner != 0 or crontab.mode & (GROUP_WRITES | OTHERS_WRITE):
        problem = f"cron ignores {facts.crontab}: root must own it and nobody else write it"
        findings.append(Finding("launcher", WRONG, problem, "run the login playbook"))
    return findings


def check_clock(facts: Facts) -> list[Finding]:
    """What was written lies in the past, and Slurm's controller has our time."""
    findings = []
    for what, time in (("the routing table", facts.last_tick), ("the lease", facts.lease_time)):
        if time is not None and time > facts.now + MAX_SKEW:
            problem = f"{what} was written {time - facts.now:.0f} s in the future"
            findings.append(Finding("clock", WRONG, problem, "set this host's clock (chronyc tracking)"))
    theirs = controller_time(facts.slurm_config.output)
    if theirs is None:
        return findings or [
            Finding("clock", WARNING, "the controller's time cannot be seen", "see scontrol ping")
        ]
    skew = theirs - facts.now
    if abs(skew) > facts.slurm_config.seconds + MAX_SKEW:
        problem = f"the controller's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        findings.append(Finding("clock", WRONG, problem, "synchronise both hosts (chronyc tracking)"))
    return findings or [Finding("clock", OK, f"{abs(skew):.0f} s from the controller's")]


def check_reapers(facts: Facts) -> list[Finding]:
    """Nothing on the login node ends the scheduler's processes."""
    if facts.kills_user_processes is None:
        return [Finding("reapers", OK, "no systemd-logind here")]
    if facts.kills_user_processes and not facts.lingers:
        remedy = f"loginctl enable-linger {facts.account}"
        return [Finding("reapers", WARNING, "logind has KillUserProcesses=yes", remedy)]
    return [Finding("reapers", OK, "logind leaves the account's processes alone")]


def check_permissions(facts: Facts) -> list[Finding]:
    """Root alone writes code and configuration; state and routing table are where no job sees them."""
    settings = facts.settings
    findings = []
    for path in facts.paths:
        found = facts.paths[path]
        if found is None or path in (
            settings.jobs_dir,
            settings.demand_dir,
            settings.routing_table,
            facts.crontab,
        ):
            continue
        if path == state_folder(settings):
            findings += _state(facts, path, found)
        elif found.owner != 0 or found.mode & (GROUP_WRITES | OTHERS_WRITE):
            problem = f"{path}: others than root may write it (mode {found.mode:04o})"
            findings.append(Finding("permissions", WRONG, problem, "run the login playbook"))
    for path in (state_folder(settings), settings.demand_dir, settings.models_dir):
        if facts.paths.get(path) is None:
            findings.append(Finding("permissions", WRONG, f"{path} does not exist", "run the login playbook"))
    findings += _routing_table(facts)
    demand = facts.paths.get(settings.demand_dir)
    if demand is not None and demand.mode & OTHERS_WRITE:
        problem = f"{settings.demand_dir}: anybody may write it"
        findings.append(Finding("permissions", WRONG, problem, "run the login playbook"))
    return findings or [Finding("permissions", OK, "code and configuration are root's, the state is private")]


def _state(facts: Facts, path: str, found: PathFacts) -> list[Finding]:
    findings = []
    if found.owner != facts.account_id or found.mode & 0o077:
        problem = f"{path}: must be {facts.account}'s alone (mode {found.mode:04o})"
        findings.append(Finding("permissions", WRONG, problem, "run the login playbook"))
    return findings + _shared(path, found, "keep the state on this host's own disk")


def _routing_table(facts: Facts) -> list[Finding]:
    path = facts.settings.routing_table
    found = facts.paths.get(path)
    if found is None:
        return []
    findings = []
    if found.owner != facts.account_id or found.mode & (GROUP_WRITES | OTHERS_WRITE | OTHERS_READ):
        problem = f"{path} holds the jobs' keys: {facts.account} writes it, its group reads it, nobody else"
        findings.append(Finding("permissions", WRONG, problem, "remove it; the scheduler writes it anew"))
    return findings + _shared(path, found, "keep it on this host's own disk")


def _shared(path: str, found: PathFacts, remedy: str) -> list[Finding]:
    """What jobs must not see lies on no file system that they mount."""
    if found.file_system not in SHARED_FILE_SYSTEMS:
        return []
    problem = f"{path} is on {found.file_system}, where jobs may see it"
    return [Finding("permissions", WRONG, problem, remedy)]


def check_closed(facts: Facts) -> list[Finding]:
    """The circuit is not broken."""
    if facts.closed:
        return [
            Finding("closed", WARNING, "/etc/sluice/closed exists: relays refuse everything", "remove it")
        ]
    return [Finding("closed", OK, "relays are open")]


CHECKS: tuple[Callable[[Facts], list[Finding]], ...] = (
    check_python,
    check_commands,
    check_launcher,
    check_clock,
    check_models,
    check_partitions,
    check_accounting,
    check_shared,
    check_ports,
    check_permissions,
    check_reapers,
    check_closed,
)

# --- reading what Slurm prints -----------------------------------------------------------------------------

ASSOCIATION_CAPS = ("grptres", "grpjobs", "grpsubmit", "maxjobs", "maxsubmit", "maxtresperjob")
ASSOCIATION_COLUMNS = ("account", "qos", *ASSOCIATION_CAPS)
QOS_COLUMNS = ("name", "grptres", "grpjobs", "grpsubmit", "maxjobspu", "maxsubmitpu", "maxtrespu")


def records(text: str) -> list[dict[str, str]]:
    """Read `scontrol --oneliner show`: one record a line, words of the form key=value."""
    lines = (line.split() for line in text.splitlines() if line.strip())
    return [dict(word.partition("=")[::2] for word in words if "=" in word) for words in lines]


def table(text: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read `sacctmgr --parsable2 --noheader`: a row a line, parted by bars. Other lines are left out."""
    rows = (line.split("|") for line in text.splitlines())
    return [dict(zip(columns, row)) for row in rows if len(row) == len(columns)]


def minutes(text: str) -> Optional[float]:
    """Read a limit such as 1-00:00:00; None where there is none, or it is not understood."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if found is None:
        return None
    days, hours, rest, seconds = (int(word or 0) for word in found.groups())
    return days * 1440 + hours * 60 + rest + seconds / 60


def controller_time(text: str) -> Optional[float]:
    """Return the controller's time from the first line of `scontrol show config`, asked with TZ=UTC."""
    found = re.search(r"^Configuration data as of (\S+)", text, re.MULTILINE)
    try:
        return None if found is None else parse_time(found[1])
    except ValueError:
        return None


def slurm_ports(text: str) -> dict[str, range]:
    """Return the ports that `scontrol show config` says Slurm itself takes."""
    found = re.findall(
        r"^(Slurm\w*Port|SrunPortRange|SlurmctldPort)\s*=\s*(\d+)(?:-(\d+))?\s*$", text, re.MULTILINE
    )
    return {key: range(int(first), int(last or first) + 1) for key, first, last in found if int(first)}


def state_folder(settings: SchedulerConfig) -> str:
    """Return the folder of the scheduler's state."""
    return settings.state_file.rpartition("/")[0]
