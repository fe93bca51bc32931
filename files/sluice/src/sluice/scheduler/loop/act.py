"""Carries out decisions: saves them in the state first, then acts.

An intent is on disk before its sbatch, and a cancellation before its scancel. If the process is killed in
between, the next one finds out by the job's name in the queue what was done.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional

from sluice.contracts.models import ModelEntry
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.instances import node_failures
from sluice.scheduler.instances.instance import ABSENT_ANSWERS, BASE, Instance, gone, job_name
from sluice.scheduler.loop.observe import Observation
from sluice.scheduler.models.catalogue import Listed, gpus
from sluice.scheduler.outside.jobs import JobDirectories
from sluice.scheduler.policy import ledger, policy, refusal
from sluice.scheduler.slurm import submission
from sluice.scheduler.slurm.client import Astray, Slurm
from sluice.scheduler.slurm.programs import Unknown
from sluice.scheduler.state import REMEMBER_ENDED, Ended, FailedStart, State, StateFile

log = logging.getLogger(__name__)

# Causes for which every other submission of the same tick would be refused too.
FOR_EVERYBODY = (refusal.Cause.SITE, refusal.Cause.TRANSIENT)
# The state of a federated job that another cluster runs.
REVOKED = "REVOKED"
Scope = tuple[str, str]
EVERYBODY: Scope = ("everybody", "")
# sbatch's messages if no nodes remain besides the excluded ones, or if those no longer exist.
NO_OTHER_NODES = ("Requested node configuration is not available", "Invalid node name specified")


@dataclass
class Actor:
    """Carries out decisions; each method returns the new state, which is then on disk too.

    `clock` returns seconds since the epoch. Methods raise OSError if the state cannot be written: then
    nothing more may be done.
    """

    config: SchedulerConfig
    slurm: Slurm
    states: StateFile
    directories: JobDirectories
    clock: Callable[[], float]
    _dumped: dict[str, tuple[Listed, dict[str, Any]]] = field(default_factory=dict)
    _revoked: list[Instance] = field(default_factory=list)

    def write_down(self, state: State, decision: policy.Decision, seen: Observation) -> State:
        """Save everything that was decided, before any of it is done."""
        now = self.clock()
        instances, ended, nodes = dict(state.instances), dict(state.ended), dict(state.nodes)
        failed_starts = self._failed_starts(state, decision)
        for action in decision.actions:
            if isinstance(action, policy.Submit):
                continue
            instance = instances[action.instance]
            if isinstance(action, policy.Forget):
                if instance.job_state == REVOKED:
                    self._revoked.append(instance)
                del instances[instance.id]
                ended[instance.id] = Ended(instance.model, instance.digest, now)
                if node_failures.failed_early(instance, now):
                    nodes = self._blame(nodes, instance, now)
            else:
                instances[instance.id] = marked(instance, action, now)
            log_action(action, instance)
        entries, memory = self._entries(state, seen, instances), decision.memory
        if seen.queue_known:
            memory = {name: kept for name, kept in memory.items() if name in entries}
        return self._save(
            replace(
                state,
                instances=instances,
                ended={key: one for key, one in ended.items() if now - one.time < REMEMBER_ENDED},
                memory=memory,
                entries=entries,
                failed_starts={name: one for name, one in failed_starts.items() if name in memory},
                nodes=nodes,
                backoff=decision.backoff,
                scope_backoffs=decision.scope_backoffs,
            )
        )

    def carry_out(self, state: State, decision: policy.Decision, seen: Observation) -> State:
        """Cancel and submit in the decision's order; skip submissions that Slurm would refuse again."""
        while self._revoked:
            # In a federation, scancel ends the job on whichever cluster runs it.
            self._cancel(self._revoked.pop())
        for instance in state.instances.values():
            if instance.astray:
                state = self._cancel_astray(state, instance)
        blocked: set[Scope] = set()
        for action in decision.actions:
            if isinstance(action, policy.Cancel):
                self._cancel(state.instances[action.instance])
            elif isinstance(action, policy.Submit):
                listed = seen.catalogue.listed[action.model]
                scopes = _scopes(listed, action.kind)
                if EVERYBODY not in blocked and blocked.isdisjoint(scopes):
                    state, cause = self._submit(state, listed, action.kind)
                    blocked.update(_blocked(cause, scopes))
        return state

    def _entries(
        self, state: State, seen: Observation, instances: Mapping[str, Instance]
    ) -> dict[str, dict[str, Any]]:
        """Return the last good entry of each model that is listed, unusable, or still has instances."""
        needed = {instance.model for instance in instances.values()} | set(seen.catalogue.unusable)
        kept = {
            name: entry for name, entry in state.entries.items() if name in needed or not seen.queue_known
        }
        before, self._dumped = self._dumped, {}
        for name, listed in seen.catalogue.listed.items():
            # The same object for the same entry, so that unchanged entries are not encoded again.
            old = before.get(name)
            self._dumped[name] = (
                old if old is not None and old[0] is listed else (listed, listed.entry.dump())
            )
            kept[name] = self._dumped[name][1]
        return kept

    # --- ends ----------------------------------------------------------------------------------------

    def _failed_starts(self, state: State, decision: policy.Decision) -> dict[str, FailedStart]:
        """Return each model's last failed start, with the lines that its job wrote."""
        found = {
            name: one
            for name, one in state.failed_starts.items()
            if name in decision.memory and decision.memory[name].failures
        }
        for action in decision.actions:
            if not isinstance(action, (policy.Cancel, policy.Forget)):
                continue
            instance = state.instances[action.instance]
            memory = decision.memory.get(instance.model, policy.Memory())
            before = state.memory.get(instance.model, policy.Memory())
            if memory.failures and memory.failed_at != before.failed_at:
                lines = self.directories.first_lines(instance)
                found[instance.model] = FailedStart(instance.id, instance.job_id, instance.digest, lines)
        return found

    def _blame(
        self, nodes: node_failures.Nodes, instance: Instance, now: float
    ) -> dict[str, node_failures.Node]:
        """Return the nodes with one more failed start on those of a job that failed at once."""
        rule = self._exclusion_rule()
        digest, blamed = instance.digest, node_failures.failed(nodes, instance, now)
        everybodys = node_failures.excluded(blamed, rule, now)
        before = node_failures.excluded(nodes, rule, now, digest)
        for name in node_failures.excluded(blamed, rule, now, digest).keys() - before.keys():
            whose = (
                "all models"
                if name in everybodys
                else (f"{instance.model}, which was never ready on another node")
            )
            fields = {"node": name, "instance": instance.id, "seconds": rule.exclude, "for": whose}
            log.warning("jobs fail at once on a node: it is excluded", extra=fields)
        return blamed

    def _exclusion_rule(self) -> node_failures.ExclusionRule:
        return node_failures.ExclusionRule(self.config.node_failures, self.config.node_exclude)

    def _cancel(self, instance: Instance) -> None:
        result = self.slurm.cancel(instance.job_id, "" if instance.renamed else instance.name)
        if isinstance(result, Unknown):
            # The policy repeats it as long as the job is seen.
            log.warning(
                ("the result of scancel is unknown"),
                extra={"instance": instance.id, "problem": result.reason},
            )

    # --- submissions ---------------------------------------------------------------------------------

    def _submit(self, state: State, listed: Listed, kind: str) -> tuple[State, Optional[refusal.Cause]]:
        """Submit one job: create its directory, save the intent, call sbatch, save the job id.

        Returns the new state, and why Slurm refused the job (None if it did not).
        """
        now = self.clock()
        instance = _new(listed, kind, now)
        try:
            directory = self.directories.create(instance.id)
        except OSError as error:
            return self._not_submitted(state, listed, f"{self.config.jobs_dir}: {error.strerror}"), None
        account = state.ledger
        if not any(one.model == instance.model and not gone(one) for one in state.instances.values()):
            account = ledger.started(account, now)
        state = replace(state, submissions=state.submissions + 1, ledger=account)
        state = self._remember(state, instance)
        out = node_failures.excluded(state.nodes, self._exclusion_rule(), now, listed.digest)
        result = self.slurm.submit(self._submission(listed, instance, directory, out))
        fields = {"instance": instance.id, "model": instance.model, "kind": kind}
        if isinstance(result, Astray):
            fields = {**fields, "job": f"{result.job_id};{result.cluster}"}
            log.error("the job was submitted to another cluster; it is cancelled there", extra=fields)
            instance = replace(instance, astray=fields["job"], submit_error=_astray(result))
            return self._cancel_astray(self._remember(state, instance), instance), refusal.Cause.INVALID
        if not isinstance(result, Unknown):
            log.info("submitted", extra={**fields, "job_id": result.value})
            return self._remember(state, replace(instance, job_id=result.value)), None
        log.warning("the result of sbatch is unknown", extra={**fields, "problem": result.reason})
        if any(words in result.reason for words in NO_OTHER_NODES):
            state = replace(state, nodes=node_failures.allowed(state.nodes, out, listed.digest))
        state = self._remember(state, replace(instance, submit_error=result.reason))
        return state, refusal.parse_refusal(result.reason).cause

    def _cancel_astray(self, state: State, instance: Instance) -> State:
        """Cancel a job on the other cluster that took it; each tick tries again until that succeeds."""
        job_id, _, cluster = instance.astray.partition(";")
        result = self.slurm.cancel(job_id, instance.name, cluster)
        if isinstance(result, Unknown):
            fields = {"instance": instance.id, "job": instance.astray, "problem": result.reason}
            log.error("a job on another cluster cannot be cancelled yet", extra=fields)
            return state
        return self._remember(state, replace(instance, astray="", absent=ABSENT_ANSWERS))

    def _submission(
        self, listed: Listed, instance: Instance, directory: Path, out: Iterable[str]
    ) -> submission.Submission:
        return submission.Submission(
            name=job_name(instance.id),
            script=listed.script,
            comment=submission.comment(instance.model, instance.digest, instance.kind),
            directory=str(directory),
            environment=self._job_environment(instance, listed.entry, directory),
            options=submission.options(listed.entry, instance.kind, out),
        )

    def _not_submitted(self, state: State, listed: Listed, problem: str) -> State:
        log.error(
            ("the job's directory cannot be created"), extra={"model": listed.entry.name, "problem": problem}
        )
        memory = state.memory.get(listed.entry.name, policy.Memory())
        counted = policy.count_failure(memory, settings(self.config), self.clock(), problem)
        return self._save(replace(state, memory={**state.memory, listed.entry.name: counted}))

    def _job_environment(self, instance: Instance, entry: ModelEntry, directory: Path) -> dict[str, str]:
        return {
            "SLUICE_INSTANCE": instance.id,
            "SLUICE_MODEL": instance.model,
            "SLUICE_NONCE": instance.nonce,
            "SLUICE_JOB_DIR": str(directory),
            "SLUICE_ZIPAPP": self.config.zipapp,
            "SLUICE_PYTHON": self.config.python,
            "SLUICE_PORTS": self.config.ports,
            "SLUICE_CONCURRENCY": str(entry.concurrency),
            "SLUICE_MAX_BODY": str(self.config.max_body),
        }

    def _remember(self, state: State, instance: Instance) -> State:
        return self._save(replace(state, instances={**state.instances, instance.id: instance}))

    def _save(self, state: State) -> State:
        self.states.save(state)
        return state


def _new(listed: Listed, kind: str, now: float) -> Instance:
    """Return the instance for a submission that is about to be made."""
    nonce = secrets.token_hex(4)
    entry = listed.entry
    return Instance(
        f"{entry.name}-{nonce}",
        entry.name,
        nonce,
        listed.digest,
        now,
        concurrency=entry.concurrency,
        kind=kind,
        gpus=gpus(entry.slurm),
        asked_nodes=entry.slurm.nodes,
        slurm_scope=submission.slurm_scope(entry.slurm) if kind == BASE else "",
    )


def _astray(found: Astray) -> str:
    return (
        f"the job was submitted to cluster {found.cluster} (as {found.job_id}) and is cancelled "
        "there: a plugin, a wrapper of sbatch or the script names other clusters"
    )


def _scopes(listed: Listed, kind: str) -> list[Scope]:
    """Return whose limits apply to a submission: its model's, and a base instance's scope of Slurm."""
    own = [("model", f"{listed.entry.name} {kind}")]
    return [*own, ("slurm", submission.slurm_scope(listed.entry.slurm))] if kind == BASE else own


def _blocked(cause: Optional[refusal.Cause], scopes: Sequence[Scope]) -> Sequence[Scope]:
    """Return the scopes for which nothing more is submitted in this tick: Slurm would refuse it again."""
    if cause is None:
        return ()
    if cause in FOR_EVERYBODY:
        return (EVERYBODY,)
    return scopes if cause is refusal.Cause.LIMIT else scopes[:1]


def settings(config: SchedulerConfig) -> policy.SiteSettings:
    """Return what the policy needs of the configuration."""
    return policy.SiteSettings(
        max_instances=config.max_instances,
        max_gpus=config.max_gpus,
        max_nodes=config.max_nodes,
        gpu_hours_per_day=config.gpu_hours_per_day,
        cold_starts_per_hour=config.cold_starts_per_hour,
        retry_backoff=config.retry_backoff,
        max_failures=config.max_failures,
        drain_timeout=config.drain_timeout,
        pending_patience=config.pending_patience,
    )


def marked(instance: Instance, action: policy.Action, now: float) -> Instance:
    """Return the instance after a drain, a resumption or a cancellation was decided."""
    if isinstance(action, policy.Drain):
        return replace(instance, draining_since=now, drain_reason=action.reason)
    if isinstance(action, policy.Resume):
        return replace(instance, draining_since=None, drain_reason="")
    if isinstance(action, policy.Cancel):
        return replace(instance, cancelled_at=now, cancel_reason=action.reason)
    raise TypeError(f"{action} changes no instance")


def log_action(action: policy.Action, instance: Instance) -> None:
    """Log what was decided about one instance."""
    fields = {"instance": instance.id, "job_id": instance.job_id, "job_state": instance.job_state}
    reason = getattr(action, "reason", "")
    log.info(type(action).__name__.lower(), extra={**fields, "reason": reason} if reason else fields)
