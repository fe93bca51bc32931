"""What Sluice assumes about a site: each assumption is a pure check over gathered facts.

A check returns findings: `ok`, `warning` (it works, but a safeguard is missing or unknown) or `wrong`; the
last two with a remedy. `facts` gathers the facts; `slurm_checks` has the checks of Slurm itself.
"""

from __future__ import annotations

from typing import Callable

from sluice.scheduler.doctor import slurm_checks
from sluice.scheduler.doctor.findings import (
    OK,
    WARNING,
    WRONG,
    Facts,
    Finding,
    PathFacts,
    controller_time,
    setting,
    slurm_ports,
    state_folder,
)

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
SCRONTAB_MARK = "# BEGIN sluice"
USUAL_STATE = "/var/lib/sluice/"
NO_SHELLS = ("/nologin", "/false")
GROUP_WRITES, OTHERS_WRITE, OTHERS_READ = 0o020, 0o002, 0o004


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Return the findings of every check, in a fixed order."""
    return tuple(finding for check in CHECKS for finding in check(facts))


def check_python(facts: Facts) -> list[Finding]:
    """The login node's Python is new enough."""
    words = ".".join(map(str, facts.python))
    if facts.python >= OLDEST_PYTHON:
        return [Finding("python", OK, f"Python {words}")]
    return [Finding("python", WRONG, f"Python {words} is older than 3.9", "set sluice_python to a newer one")]


def check_shared(facts: Facts) -> list[Finding]:
    """The job directories are there, and compute nodes see them."""
    folder = facts.paths.get(facts.settings.jobs_dir)
    if folder is None:
        problem = f"{facts.settings.jobs_dir} does not exist"
        return [
            Finding("shared folder", WRONG, problem, "run the login playbook; is the file system mounted?")
        ]
    if folder.owner != facts.account_id:
        problem = f"{facts.settings.jobs_dir} does not belong to {facts.account}"
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
    """The port range is large enough, and nothing else uses its ports."""
    ports, findings = facts.settings.port_range(), []
    remedy = "choose another scheduler_ports"
    if len(ports) < facts.settings.max_instances:
        problem = f"{len(ports)} ports for up to {facts.settings.max_instances} instances on one node"
        findings.append(Finding("ports", WARNING, problem, remedy))
    if facts.local_ports is not None and _overlap(ports, facts.local_ports):
        problem = f"{facts.settings.ports} overlaps with net.ipv4.ip_local_port_range of this host"
        findings.append(
            Finding("ports", WARNING, problem, remedy + ", or narrow that range on compute nodes")
        )
    for key, taken in slurm_ports(facts.slurm_config.output).items():
        if _overlap(ports, taken):
            findings.append(
                Finding("ports", WRONG, (f"{facts.settings.ports} overlaps with Slurm's {key}"), remedy)
            )
    if facts.unreached:
        problem = f"this host does not reach a job's port: {facts.unreached}"
        opened = f"open {facts.settings.ports} from login nodes to compute nodes in the site's firewall"
        findings.append(Finding("ports", WRONG, problem, opened))
    reached = "" if facts.unreached is None else ", and this host reached a job's port"
    return findings or [Finding("ports", OK, facts.settings.ports + reached)]


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def check_launcher(facts: Facts) -> list[Finding]:
    """The scheduler ticks on this host only, and its launcher is set up."""
    findings = []
    remedy = "see the launcher below, and journalctl -t sluice-scheduler"
    if facts.last_tick is None:
        findings.append(Finding("launcher", WRONG, "the scheduler has never ticked", remedy))
    elif facts.now - facts.last_tick > MAX_TICK_AGE:
        problem = f"the last tick was {facts.now - facts.last_tick:.0f} s ago"
        findings.append(Finding("launcher", WRONG, problem, remedy))
    else:
        age = max(0.0, facts.now - facts.last_tick)
        findings.append(Finding("launcher", OK, f"the last tick was {age:.0f} s ago"))
    kind = facts.settings.launcher
    elsewhere = facts.lease_host not in ("", facts.host) and kind != "scrontab"
    if elsewhere and facts.now - facts.lease_time < facts.settings.lease:
        problem = f"the scheduler runs on {facts.lease_host}, this is {facts.host}"
        findings.append(
            Finding("launcher", WRONG, problem, "leave one host of the cluster in group scheduler")
        )
    others = [name for name in facts.launchers if name != kind]
    if others:
        problem = f"{' and '.join(others)} would start the scheduler too, in addition to {kind}"
        findings.append(Finding("launcher", WARNING, problem, "run the login playbook"))
    return findings + LAUNCHERS[kind](facts)


def _cron(facts: Facts) -> list[Finding]:
    findings = []
    if not facts.cron_runs:
        findings.append(
            Finding("launcher", WRONG, "cron does not run here", "systemctl enable --now cron (or crond)")
        )
    crontab = facts.paths.get(facts.crontab)
    if crontab is None:
        findings.append(
            Finding("launcher", WRONG, f"{facts.crontab} does not exist", "run the login playbook")
        )
    elif crontab.owner != 0 or crontab.mode & (GROUP_WRITES | OTHERS_WRITE):
        problem = f"cron ignores {facts.crontab}: root must own it, and nobody else may write it"
        findings.append(Finding("launcher", WRONG, problem, "run the login playbook"))
    return findings


def _systemd(facts: Facts) -> list[Finding]:
    if facts.timer == "active":
        return []
    problem = f"systemd's timer sluice-scheduler.timer is {facts.timer or 'unknown'}"
    remedy = "systemctl enable --now sluice-scheduler.timer, or run the login playbook"
    return [Finding("launcher", WRONG, problem, remedy)]


def _scrontab(facts: Facts) -> list[Finding]:
    findings = []
    if facts.slurm_config.status == 0:
        words = setting(facts.slurm_config.output, "ScronParameters")
        if "enable" not in words.split(","):
            problem = f"ScronParameters is {words or 'not set'}: Slurm has no scrontab"
            remedy = "set ScronParameters=enable in slurm.conf, or another scheduler_launcher"
            findings.append(Finding("launcher", WRONG, problem, remedy))
    held = facts.scrontab
    if held is None or held.status != 0 or SCRONTAB_MARK not in held.output:
        words = "no answer" if held is None else held.words() or "it has no entry of Sluice"
        problem = f"{facts.account}'s scrontab does not start the scheduler: {words}"
        findings.append(Finding("launcher", WRONG, problem, "run the login playbook"))
    return findings


LAUNCHERS: dict[str, Callable[[Facts], list[Finding]]] = {
    "cron": _cron,
    "systemd": _systemd,
    "scrontab": _scrontab,
}


def check_clock(facts: Facts) -> list[Finding]:
    """No file is from the future, and the clock of Slurm's controller agrees with ours."""
    findings = []
    for what, time in (("the routing table", facts.last_tick), ("the lease", facts.lease_time)):
        if time is not None and time > facts.now + MAX_SKEW:
            problem = f"{what} was written {time - facts.now:.0f} s in the future"
            findings.append(Finding("clock", WRONG, problem, "set this host's clock (chronyc tracking)"))
    theirs = controller_time(facts.slurm_config.output)
    if theirs is None:
        return findings or [
            Finding("clock", WARNING, "the controller's time is unknown", "see scontrol ping")
        ]
    skew = theirs - facts.now
    if abs(skew) > facts.slurm_config.seconds + MAX_SKEW:
        problem = f"the controller's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        findings.append(Finding("clock", WRONG, problem, "synchronise both hosts (chronyc tracking)"))
    return findings or [Finding("clock", OK, f"{abs(skew):.0f} s from the controller's")]


def check_reapers(facts: Facts) -> list[Finding]:
    """Nothing on the login node ends the scheduler's processes."""
    findings = [
        Finding(
            "reapers",
            WARNING,
            f"{name} runs here and may end or slow the scheduler and the relays",
            f"exempt {facts.account} and the relay's account from it",
        )
        for name in facts.reapers
    ]
    # KillUserProcesses affects login sessions: not system units (systemd), and not jobs (scrontab).
    if facts.kills_user_processes and not facts.lingers and facts.settings.launcher == "cron":
        remedy = f"loginctl enable-linger {facts.account}, or scheduler_launcher: systemd"
        findings.append(Finding("reapers", WARNING, "logind has KillUserProcesses=yes", remedy))
    return findings or [Finding("reapers", OK, "nothing here ends the account's processes, as far as known")]


def check_permissions(facts: Facts) -> list[Finding]:
    """Only root can write code and configuration, and jobs cannot see state and routing table."""
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
            problem = f"{path}: accounts other than root may write it (mode {found.mode:04o})"
            findings.append(Finding("permissions", WRONG, problem, "run the login playbook"))
    for path in (state_folder(settings), settings.demand_dir, settings.models_dir):
        if facts.paths.get(path) is None:
            findings.append(Finding("permissions", WRONG, f"{path} does not exist", "run the login playbook"))
    findings += _routing_table(facts)
    demand = facts.paths.get(settings.demand_dir)
    if demand is not None and demand.mode & OTHERS_WRITE:
        problem = f"{settings.demand_dir}: anybody may write it"
        findings.append(Finding("permissions", WRONG, problem, "run the login playbook"))
    return findings or [
        Finding("permissions", OK, ("root owns code and configuration, and the state is private"))
    ]


def _state(facts: Facts, path: str, found: PathFacts) -> list[Finding]:
    findings = []
    if found.owner != facts.account_id or found.mode & 0o077:
        problem = f"{path}: only {facts.account} may have access (mode {found.mode:04o})"
        findings.append(Finding("permissions", WRONG, problem, "run the login playbook"))
    return findings + _shared(facts, path, found, "keep the state on this host's own disk")


def _routing_table(facts: Facts) -> list[Finding]:
    path = facts.settings.routing_table
    found = facts.paths.get(path)
    if found is None:
        return []
    findings = []
    if found.owner != facts.account_id or found.mode & (GROUP_WRITES | OTHERS_WRITE | OTHERS_READ):
        problem = (
            f"{path} contains the jobs' keys: only {facts.account} may write it, and only its group may "
            "read it"
        )
        remedy = (
            f"chown {facts.account} {path}; if others could read it: chmod 0640, and sluice models restart"
        )
        findings.append(Finding("permissions", WRONG, problem, remedy))
    return findings + _shared(facts, path, found, "keep it on this host's own disk")


def _shared(facts: Facts, path: str, found: PathFacts, remedy: str) -> list[Finding]:
    """A path that jobs must not see is not on a file system that they mount.

    If the state folder is not the usual one (login nodes share a folder, or the scheduler runs in a job),
    only a job can tell whether jobs see it.
    """
    if found.file_system not in SHARED_FILE_SYSTEMS or facts.job_sees_state is False:
        return []
    problem = f"{path} is on {found.file_system}, where jobs may be able to see it"
    if path.startswith(USUAL_STATE):
        return [Finding("permissions", WRONG, problem, remedy)]
    if facts.job_sees_state and facts.settings.launcher != "scrontab":
        return [Finding("permissions", WRONG, f"{path}: a job can see it", remedy)]
    return [Finding("permissions", WARNING, problem, "to find out, run sluice doctor --with-job")]


def check_sshd(facts: Facts) -> list[Finding]:
    """Silent connections from one address cannot keep the gateways out."""
    if facts.sshd.status != 0:
        return [Finding("sshd", WARNING, "sshd's settings cannot be read", "run sluice doctor as root")]
    settings = dict(line.partition(" ")[::2] for line in facts.sshd.output.splitlines())
    bound = settings.get("persourcemaxstartups", "")
    if bound.isdigit():
        return [Finding("sshd", OK, f"one address has at most {bound} connections that have not signed in")]
    problem = (
        f"silent connections of one address can keep gateways out (MaxStartups {settings.get('maxstartups')})"
    )
    remedy = "set relay_startups_per_source and run the login playbook"
    if not bound:
        remedy = (
            "this sshd has no PerSourceMaxStartups (OpenSSH 8.5): bound the connections of each "
            "address with a firewall, raise MaxStartups, lower LoginGraceTime"
        )
    return [Finding("sshd", WARNING, problem, remedy)]


def check_boxes(facts: Facts) -> list[Finding]:
    """Engines run in boxes, and a node can create one."""
    findings = []
    open_ones = sorted(name for name, entry in facts.models.items() if entry.box == "none")
    if open_ones:
        problem = f"engines without a box: {', '.join(open_ones)}"
        findings.append(
            Finding("box", WARNING, problem, ('docs/engines.md, "The box", says what they can reach'))
        )
    if not any(entry.box == "bubblewrap" for entry in facts.models.values()):
        return findings or [Finding("box", OK, "no engine needs a box")]
    if facts.box:
        remedy = "install bubblewrap on every node of the models' partitions; engines do not start without it"
        return [*findings, Finding("box", WRONG, facts.box, remedy)]
    seen = (
        "a job's node can create a box"
        if facts.box == ""
        else ("to check whether a node can create a box, add --with-job")
    )
    return [*findings, Finding("box", OK, seen)]


def check_account(facts: Facts) -> list[Finding]:
    """Nobody can log in as the scheduler's account."""
    findings = []
    if facts.login_shell and not facts.login_shell.endswith(NO_SHELLS):
        problem = f"{facts.account} has the shell {facts.login_shell}, which Slurm and cron do not need"
        remedy = f"usermod --shell /usr/sbin/nologin {facts.account}, unless relays run as it too"
        findings.append(Finding("login", WARNING, problem, remedy))
    for path in facts.keys:
        problem = (
            f"anybody with a key in {path} can log in as {facts.account}, and a job that can write "
            "this file can add a key"
        )
        findings.append(
            Finding("login", WARNING, problem, f"remove {path}, unless the gateway itself needs it")
        )
    return findings or [Finding("login", OK, f"nobody can log in as {facts.account}")]


def check_closed(facts: Facts) -> list[Finding]:
    """The gate is open."""
    if facts.closed:
        return [
            Finding(
                "closed",
                WARNING,
                "the gate is closed: relays refuse all requests",
                "remove /etc/sluice/closed to open it",
            )
        ]
    return [Finding("closed", OK, "the gate is open")]


CHECKS: tuple[Callable[[Facts], list[Finding]], ...] = (
    check_python,
    slurm_checks.check_commands,
    slurm_checks.check_version,
    check_launcher,
    check_clock,
    slurm_checks.check_models,
    slurm_checks.check_weights,
    slurm_checks.check_partitions,
    slurm_checks.check_reservations,
    slurm_checks.check_accounting,
    slurm_checks.check_preemption,
    slurm_checks.check_settings,
    check_shared,
    check_ports,
    check_permissions,
    check_reapers,
    check_sshd,
    check_boxes,
    check_account,
    check_closed,
)
