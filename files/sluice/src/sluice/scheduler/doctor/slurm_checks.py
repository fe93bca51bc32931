"""What Sluice assumes about a site's Slurm: commands, partitions, accounting, settings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from sluice.contracts.models import ModelEntry, SlurmRequest
from sluice.scheduler.doctor.findings import (
    ASSOCIATION_CAPS,
    ASSOCIATION_COLUMNS,
    OK,
    QOS_COLUMNS,
    WARNING,
    WRONG,
    Facts,
    Finding,
    minutes,
    records,
    seconds,
    setting,
    table,
)

OLDEST_SLURM, NEWEST_SLURM = (20, 11), (25, 5)
# After SIGTERM, the front and the job's script need so many seconds to let running answers end.
KILL_WAIT = 30.0
BURST_FIELDS = ("partition", "account", "qos", "reservation", "time", "time_min", "nice")


def check_commands(facts: Facts) -> list[Finding]:
    """Slurm's commands are installed and answer, and the controller answers squeue in time."""
    findings = []
    limit = facts.settings.command_timeout
    for name, answer in sorted(facts.commands.items()):
        if answer.status != 0:
            remedy = f"set scheduler_slurm_bin (now {facts.settings.slurm_bin}) and scheduler_slurm_conf"
            findings.append(Finding("commands", WRONG, f"{name}: {answer.words() or 'no answer'}", remedy))
    if facts.queue.status != 0:
        problem = f"squeue: {facts.queue.words() or f'no answer within {limit:g} s'}"
        findings.append(
            Finding("controller", WRONG, problem, "see scontrol ping; until then nothing is started or ended")
        )
    elif facts.queue.seconds > limit / 2:
        problem = f"squeue took {facts.queue.seconds:.1f} s of the {limit:g} s allowed"
        findings.append(Finding("controller", WARNING, problem, "raise scheduler_command_timeout"))
    else:
        findings.append(Finding("controller", OK, f"squeue answered in {facts.queue.seconds:.1f} s"))
    return findings


def check_version(facts: Facts) -> list[Finding]:
    """Slurm's version is one that Sluice supports."""
    said = facts.commands["squeue"].output if "squeue" in facts.commands else ""
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None:
        return [Finding("version", WARNING, "Slurm's version is unknown", "see squeue --version")]
    version = int(found[1]), int(found[2])
    words = f"Slurm {version[0]}.{version[1]:02}"
    if version < OLDEST_SLURM:
        return [Finding("version", WRONG, f"{words} is older than 20.11", "upgrade Slurm")]
    if version > NEWEST_SLURM:
        remedy = "check sluice status after the first jobs, and tell the project the result"
        return [Finding("version", WARNING, f"{words} is newer than all tested versions (25.05)", remedy)]
    return [Finding("version", OK, words)]


def check_settings(facts: Facts) -> list[Finding]:
    """Slurm shows ended jobs long enough, and gives ending jobs enough time."""
    findings = []
    config = facts.slurm_config.output
    age, wait = seconds(setting(config, "MinJobAge")), seconds(setting(config, "KillWait"))
    wanted = 2 * facts.settings.tick_interval
    if age is not None and age < wanted:
        problem = f"MinJobAge is {age:g} s: Slurm may forget why a job ended before the scheduler sees it"
        remedy = f"set it to {wanted:g} or more in slurm.conf, or lower scheduler_tick_interval"
        findings.append(Finding("settings", WARNING, problem, remedy))
    if wait is not None and wait < KILL_WAIT:
        problem = f"KillWait is {wait:g} s: an ending instance has no time to finish its answers"
        remedy = f"set it to {KILL_WAIT:g} or more in slurm.conf"
        findings.append(Finding("settings", WARNING, problem, remedy))
    return findings or [Finding("settings", OK, "MinJobAge and KillWait are long enough")]


def check_reservations(facts: Facts) -> list[Finding]:
    """Reservations that models name exist."""
    named = [(where, asked) for where, asked in requests(facts.models) if asked.reservation]
    if not named:
        return []
    if facts.reservations.status != 0:
        words = facts.reservations.words() or "no answer"
        return [Finding("reservation", WARNING, f"scontrol show reservation: {words}", "see scontrol ping")]
    known = sorted({one.get("ReservationName", "") for one in records(facts.reservations.output)} - {""})
    findings = []
    for where, asked in named:
        missing = [name for name in asked.reservation.split(",") if name not in known]
        if missing:
            remedy = f"ask the centre for it, or correct {where}; there are: {', '.join(known) or 'none'}"
            problem = f"{where}: the reservation {', '.join(missing)} does not exist"
            findings.append(Finding("reservation", WRONG, problem, remedy))
    return findings or [Finding("reservation", OK, "each reservation in model entries exists")]


def check_preemption(facts: Facts) -> list[Finding]:
    """If models have burst instances, Slurm may preempt these, and signals them first."""
    bursting = {name: entry for name, entry in facts.models.items() if entry.burst is not None}
    config = facts.slurm_config.output
    if not bursting or facts.slurm_config.status != 0:
        return []
    kind = setting(config, "PreemptType")
    if kind in ("", "preempt/none"):
        problem = (
            f"PreemptType is {kind or 'not set'}: burst instances keep resources for which other jobs wait"
        )
        remedy = (
            "set PreemptType in slurm.conf (preempt/partition_prio or preempt/qos), or remove burst from "
            "the entries"
        )
        return [Finding("preemption", WARNING, problem, remedy)]
    known = {one.get("PartitionName", ""): one for one in records(facts.partitions.output)}
    findings: list[Finding] = []
    for name, entry in sorted(bursting.items()):
        findings += _preemption(name, entry, kind, known, config)
    return findings or [Finding("preemption", OK, f"{kind}, PreemptMode {setting(config, 'PreemptMode')}")]


def _preemption(
    name: str, entry: ModelEntry, kind: str, known: Mapping[str, Mapping[str, str]], config: str
) -> Iterator[Finding]:
    asked = burst_request(entry)
    for partition in asked.partition.split(","):
        fields = known.get(partition)
        if fields is None:
            continue
        grace = seconds(fields.get("GraceTime", "0")) or 0.0
        if kind == "preempt/partition_prio" and not _below(fields, entry, known):
            problem = f"{name}: burst's partition {partition} has no lower PriorityTier than the model's own"
            yield Finding("preemption", WARNING, problem, "give burst a partition of a lower PriorityTier")
        if fields.get("PreemptMode", "").upper() == "OFF":
            problem = f"{name}: burst's partition {partition} has PreemptMode=OFF"
            yield Finding("preemption", WARNING, problem, "set its PreemptMode to REQUEUE or CANCEL")
        elif grace and "preempt_send_user_signal" not in setting(config, "SlurmctldParameters"):
            problem = f"{name}: {partition} gives {grace:g} s of grace, but Slurm does not signal batch jobs"
            remedy = "add preempt_send_user_signal to SlurmctldParameters in slurm.conf"
            yield Finding("preemption", WARNING, problem, remedy)


def _below(fields: Mapping[str, str], entry: ModelEntry, known: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a partition's PriorityTier is below those of the model's own partitions."""
    own = [known[name] for name in entry.slurm.partition.split(",") if name in known]
    tiers = [int(one.get("PriorityTier", "1")) for one in own]
    return not tiers or int(fields.get("PriorityTier", "1")) < min(tiers)


def check_weights(facts: Facts) -> list[Finding]:
    """Each model's weights have a manifest, and the entry has that manifest's SHA-256."""
    findings = []
    for name, problem in sorted(facts.weights.items()):
        if problem:
            level = WRONG if facts.models[name].manifest else WARNING
            remedy = f"sluice weights make {facts.models[name].weights}, and name its SHA-256 in the entry"
            findings.append(Finding("weights", level, f"{name}: {problem}", remedy))
    return findings or [Finding("weights", OK, f"{len(facts.weights)} models' weights have their manifests")]


def requests(models: Mapping[str, ModelEntry]) -> Iterator[tuple[str, SlurmRequest]]:
    """Yield what each model's base and burst instances ask for, with `name` or `name (burst)`."""
    for name, entry in sorted(models.items()):
        yield name, entry.slurm
        if entry.burst is not None:
            yield f"{name} (burst)", burst_request(entry)


def burst_request(entry: ModelEntry) -> SlurmRequest:
    """Return what a burst instance asks for: fields that `burst` does not set come from `slurm`."""
    burst = entry.burst
    if burst is None:
        return entry.slurm
    given = {key: getattr(burst, key) for key in BURST_FIELDS if getattr(burst, key)}
    return replace(entry.slurm, **given, requeue=burst.requeue)


def check_models(facts: Facts) -> list[Finding]:
    """Each entry can be used, and Slurm would accept its script."""
    findings = [
        Finding("model", WRONG, f"{name}: {problem}", "run the models playbook again")
        for name, problem in sorted(facts.unusable.items())
    ]
    for name, answer in sorted(facts.tests.items()):
        if answer.status == 0:
            findings.append(Finding("model", OK, f"{name}: sbatch would accept it"))
        else:
            remedy = "correct the model's slurm field in the inventory, or ask the cluster's administrators"
            problem = f"{name}: sbatch --test-only: {answer.words() or 'no answer'}"
            findings.append(Finding("model", WRONG, problem, remedy))
    return findings


def check_partitions(facts: Facts) -> list[Finding]:
    """Each model's partitions exist, are up, and accept jobs with its time, account and QOS."""
    if facts.partitions.status != 0:
        words = facts.partitions.words() or "no answer"
        return [Finding("partition", WARNING, f"scontrol show partition: {words}", "see scontrol ping")]
    known = {fields.get("PartitionName", ""): fields for fields in records(facts.partitions.output)}
    findings = []
    for name, asked in requests(facts.models):
        for partition in asked.partition.split(","):
            problem = _partition_problem(known.get(partition), asked)
            if problem:
                remedy = f"correct {name}'s slurm field; there are: {', '.join(sorted(known))}"
                findings.append(Finding("partition", WRONG, f"{name}: {partition} {problem}", remedy))
    return findings or [Finding("partition", OK, f"the partitions of {len(facts.models)} models exist")]


def _partition_problem(fields: Optional[Mapping[str, str]], wanted: SlurmRequest) -> str:
    if fields is None:
        return "does not exist"
    if fields.get("State", "UP") != "UP":
        return f"is {fields['State']}"
    longest = minutes(fields.get("MaxTime", ""))
    if longest is not None and (wanted.time_min or wanted.time) > longest:
        return f"allows {longest:g} minutes, the model asks for {wanted.time_min or wanted.time}"
    for key, asked in (("AllowAccounts", wanted.account), ("AllowQos", wanted.qos)):
        allowed = fields.get(key, "ALL")
        if asked and allowed not in ("ALL", "") and asked not in allowed.split(","):
            return f"has {key}={allowed}, the model asks for {asked}"
    return ""


def check_accounting(facts: Facts) -> list[Finding]:
    """The account may use what its models ask for, and has a cap in Slurm's accounting."""
    remedy = (
        "ask the centre to cap the account by association or QOS (GrpTRES, GrpJobs, MaxJobs, GrpSubmitJobs)"
    )
    if facts.associations is None or facts.associations.status != 0:
        why = (
            "sacctmgr is missing" if facts.associations is None else facts.associations.words() or "no answer"
        )
        return [Finding("caps", WARNING, f"caps on {facts.account} are unknown: {why}", remedy)]
    rows = table(facts.associations.output, ASSOCIATION_COLUMNS)
    if not rows:
        problem = f"{facts.account} has no association"
        return [Finding("account", WRONG, problem, f"sacctmgr add user {facts.account} account=ACCOUNT")]
    return [*_unusable(facts, rows), *_caps(facts, rows, remedy)]


def _unusable(facts: Facts, rows: Sequence[Mapping[str, str]]) -> list[Finding]:
    accounts = {row["account"] for row in rows}
    qos = {word for row in rows for word in row["qos"].split(",") if word}
    findings = []
    for name, asked in requests(facts.models):
        if asked.account and asked.account not in accounts:
            problem = f"{name}: {facts.account} is not in the account {asked.account}"
            findings.append(Finding("account", WRONG, problem, f"it is in: {', '.join(sorted(accounts))}"))
        if asked.qos and not _exists(facts, asked.qos):
            problem = f"{name}: the QOS {asked.qos} does not exist"
            findings.append(Finding("account", WRONG, problem, "see sacctmgr show qos"))
        elif asked.qos and asked.qos not in qos:
            problem = f"{name}: {facts.account} may not use the QOS {asked.qos}"
            findings.append(
                Finding("account", WRONG, problem, f"it may use: {', '.join(sorted(qos)) or 'none'}")
            )
    return findings or [Finding("account", OK, f"{facts.account} is in {', '.join(sorted(accounts))}")]


def _exists(facts: Facts, name: str) -> bool:
    """Whether there is such a QOS; True too if that is not known."""
    if facts.qos is None or facts.qos.status != 0:
        return True
    rows = table(facts.qos.output, QOS_COLUMNS)
    return not rows or any(row["name"] == name for row in rows)


def _caps(facts: Facts, rows: Sequence[Mapping[str, str]], remedy: str) -> list[Finding]:
    own = [row for row in rows if any(row[key] for key in ASSOCIATION_CAPS)]
    named = {word for row in rows for word in row["qos"].split(",")}
    known = [] if facts.qos is None or facts.qos.status != 0 else table(facts.qos.output, QOS_COLUMNS)
    by_qos = [row for row in known if row["name"] in named and any(row[key] for key in QOS_COLUMNS[1:])]
    # An association without a cap that has a QOS without one gets around all other caps.
    open_ways = [
        row["account"]
        for row in rows
        if row not in own and not set(row["qos"].split(",")) <= {one["name"] for one in by_qos}
    ]
    if open_ways:
        problem = f"{facts.account} has no cap in {', '.join(sorted(set(open_ways)))}"
        return [Finding("caps", WARNING, problem, remedy)]
    return [Finding("caps", OK, f"{facts.account} has a cap")]
