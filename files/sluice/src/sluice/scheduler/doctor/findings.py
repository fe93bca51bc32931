"""The facts and findings of `sluice doctor`, and how it reads Slurm's output. Pure; `facts` gathers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from sluice.contracts.models import ModelEntry
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.slurm.squeue import parse_time

OK, WARNING, WRONG = "ok", "warning", "wrong"


@dataclass(frozen=True)
class CommandOutput:
    """What a command printed; `status` is None if it could not be run or did not answer in time."""

    status: Optional[int]
    output: str = ""
    errors: str = ""
    seconds: float = 0.0

    def words(self) -> str:
        """Return its output as one line for people, at most 300 characters."""
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
    """Everything that is checked. None means that a fact is not known; times in seconds since the epoch.

    `paths` has None for a path that does not exist. `commands`: the answers of Slurm's programs to
    --version. `tests`: the answers of `sbatch --test-only` by model, and by model and " (burst)".
    `associations` and `qos` are None without sacctmgr. `local_ports`: the range of this host's ephemeral
    ports. `launchers`: those whose files exist. `timer`: the state of the systemd timer. `scrontab`: the
    account's scrontab. `reapers`: programs on this host that end other users' processes. `weights`: what is
    wrong with each model's weights. From a probe's job: `job_sees_state`, whether it sees the state folder;
    `unreached`, why this host did not reach its port, "" if it did; `box`, why its node cannot create a box,
    "" if it can. `login_shell`: the account's. `keys`: its authorized_keys files. `sshd`: sshd's settings.
    """

    settings: SchedulerConfig
    now: float
    host: str
    account: str
    account_id: int
    python: tuple[int, int]
    commands: Mapping[str, CommandOutput] = field(default_factory=dict)
    queue: CommandOutput = field(default_factory=lambda: CommandOutput(None))
    partitions: CommandOutput = field(default_factory=lambda: CommandOutput(None))
    slurm_config: CommandOutput = field(default_factory=lambda: CommandOutput(None))
    associations: Optional[CommandOutput] = None
    qos: Optional[CommandOutput] = None
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    tests: Mapping[str, CommandOutput] = field(default_factory=dict)
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
    probe: Optional[CommandOutput] = None
    reservations: CommandOutput = field(default_factory=lambda: CommandOutput(None))
    launchers: tuple[str, ...] = ()
    timer: str = ""
    scrontab: Optional[CommandOutput] = None
    reapers: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    unreached: Optional[str] = None
    job_sees_state: Optional[bool] = None
    sshd: CommandOutput = field(default_factory=lambda: CommandOutput(None))
    box: Optional[str] = None
    login_shell: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """The result of a check: its subject, its level (`ok`, `warning`, `wrong`), the finding, and a remedy."""

    check: str
    level: str
    message: str
    remedy: str = ""


# --- reading what Slurm prints -----------------------------------------------------------------------------

ASSOCIATION_CAPS = ("grptres", "grpjobs", "grpsubmit", "maxjobs", "maxsubmit", "maxtresperjob")
ASSOCIATION_COLUMNS = ("account", "qos", *ASSOCIATION_CAPS)
QOS_COLUMNS = ("name", "grptres", "grpjobs", "grpsubmit", "maxjobspu", "maxsubmitpu", "maxtrespu")


def records(text: str) -> list[dict[str, str]]:
    """Read the output of `scontrol --oneliner show`: one record per line, in words of the form key=value."""
    lines = (line.split() for line in text.splitlines() if line.strip())
    return [dict(word.partition("=")[::2] for word in words if "=" in word) for words in lines]


def table(text: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read the output of `sacctmgr --parsable2 --noheader`: one row per line. Other lines are left out."""
    rows = (line.split("|") for line in text.splitlines())
    return [dict(zip(columns, row)) for row in rows if len(row) == len(columns)]


def minutes(text: str) -> Optional[float]:
    """Return the minutes of a limit such as 1-00:00:00; None if it is not of that form."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if found is None:
        return None
    days, hours, rest, seconds = (int(word or 0) for word in found.groups())
    return days * 1440 + hours * 60 + rest + seconds / 60


def setting(text: str, key: str) -> str:
    """Return one value from `scontrol show config`, "" if it is missing or not set."""
    found = re.search(rf"^{re.escape(key)}\s*=[^\S\n]*(.*?)\s*$", text, re.MULTILINE)
    return "" if found is None or found[1] in ("(null)", "N/A") else found[1]


def seconds(text: str) -> Optional[float]:
    """Return the seconds in a text such as `30 sec`; None if it is not understood."""
    found = re.fullmatch(r"(\d+)(?: sec)?", text)
    return None if found is None else float(found[1])


def controller_time(text: str) -> Optional[float]:
    """Return the controller's time from the first line of `scontrol show config`, asked with TZ=UTC."""
    found = re.search(r"^Configuration data as of (\S+)", text, re.MULTILINE)
    try:
        return None if found is None else parse_time(found[1])
    except ValueError:
        return None


def slurm_ports(text: str) -> dict[str, range]:
    """Return the ports that Slurm itself uses, by setting, from `scontrol show config`."""
    found = re.findall(
        r"^(Slurm\w*Port|SrunPortRange|SlurmctldPort)\s*=\s*(\d+)(?:-(\d+))?\s*$", text, re.MULTILINE
    )
    return {key: range(int(first), int(last or first) + 1) for key, first, last in found if int(first)}


def state_folder(settings: SchedulerConfig) -> str:
    """Return the folder of the scheduler's state."""
    return settings.state_file.rpartition("/")[0]
