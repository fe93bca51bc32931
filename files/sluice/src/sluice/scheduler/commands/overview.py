"""Everything about models and instances, for people and playbooks. Reads files, changes none."""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional, cast

from sluice import terminal
from sluice.contracts.files import read_json
from sluice.contracts.metrics import MetricsSnapshot
from sluice.contracts.routing import RoutingTable
from sluice.errors import RecordError, SluiceError
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.instances import node_failures
from sluice.scheduler.instances.instance import SUSPENDED, Instance, gone, held_by_slurm, routable
from sluice.scheduler.models import orders
from sluice.scheduler.models.catalogue import Allowed, Catalogue, read_catalogue
from sluice.scheduler.outside.demand import read_demand
from sluice.scheduler.policy import ledger, policy
from sluice.scheduler.policy.memory import stalls
from sluice.scheduler.policy.policy import Memory, TotalDemand
from sluice.scheduler.publish.metrics import describe
from sluice.scheduler.state import State, StateFile

WANTED = "sluice_scheduler_model_wanted"


@dataclass(frozen=True)
class Overview:
    """Everything at one moment; `table` is None before the first tick. `now` in seconds since the epoch."""

    catalogue: Catalogue
    state: State
    table: Optional[RoutingTable]
    demand: dict[str, TotalDemand]
    wanted: dict[str, int]
    now: float
    settings: SchedulerConfig

    def document(self) -> dict[str, Any]:
        """Return everything for a JSON document, without secrets."""
        names = sorted(
            {*self.catalogue.listed, *self.catalogue.unusable, *(self.table.models if self.table else ())}
        )
        document = {
            "version": 1,
            "cluster": None if self.table is None else self.table.cluster,
            "generation": None if self.table is None else self.table.generation,
            "last_tick": None if self.table is None else self.table.written,
            "squeue_failing": self.state.queue_failing,
            "bounds": self.bounds(),
            # Scripts of sites know these under the names of 0.1.0.
            "limits": self.backoff(),
            "charges": self.scope_backoffs(),
            "excluded_nodes": self.excluded_nodes(),
            "excluded_for": self.excluded_for(),
            "models": {name: self.model(name) for name in names},
        }
        return cast(dict[str, Any], terminal.tidy(document))

    def require_model(self, name: str) -> None:
        """Raise SluiceError if no model has this name; the message suggests similar names."""
        listed = {*self.catalogue.listed, *self.catalogue.unusable}
        if name in listed:
            return
        meant = did_you_mean(name, listed)
        raise SluiceError("model_not_found", f"no model {name}{meant}; see: sluice models list")

    def bounds(self) -> dict[str, dict[str, Optional[float]]]:
        """Return, for each bound of the service, what is used and what is left (None: no bound)."""
        present = [one for one in self.state.instances.values() if not gone(one)]
        spent = ledger.spent(self.state.ledger, self.now)
        settings = self.settings
        used = {
            "max_instances": (float(len(present)), settings.max_instances),
            "max_gpus": (float(sum(one.gpus for one in present)), settings.max_gpus),
            "max_nodes": (float(sum(one.asked_nodes for one in present)), settings.max_nodes),
            "gpu_hours_per_day": (spent.gpu_hours, settings.gpu_hours_per_day),
            "cold_starts_per_hour": (float(spent.cold_starts), settings.cold_starts_per_hour),
        }
        return {
            name: {
                "used": round(taken, 2),
                "bound": bound or None,
                "left": max(0.0, round(bound - taken, 2)) if bound else None,
            }
            for name, (taken, bound) in used.items()
        }

    def backoff(self) -> Optional[dict[str, Any]]:
        """Return Slurm's limit that blocks all submissions, None if there is none."""
        found = self.state.backoff
        if not found.reason or found.until <= self.now:
            return None
        return {"reason": found.reason, "until": found.until}

    def scope_backoffs(self) -> dict[str, dict[str, Any]]:
        """Return the accounts, partitions and QOS that Slurm accepts no jobs of now, why, and until when."""
        return {
            scope: {"reason": found.reason, "until": found.until}
            for scope, found in sorted(self.state.scope_backoffs.items())
            if found.reason and found.until > self.now
        }

    def excluded_nodes(self) -> dict[str, float]:
        """Return the nodes that are excluded for all models, and until when."""
        return node_failures.excluded(self.state.nodes, self._exclusion_rule(), self.now)

    def excluded_for(self) -> dict[str, dict[str, float]]:
        """Return, by model, the nodes that are excluded only for this model, and until when."""
        everybodys, rule = self.excluded_nodes(), self._exclusion_rule()
        found = {}
        for name, listed in self.catalogue.listed.items():
            mine = node_failures.excluded(self.state.nodes, rule, self.now, listed.digest)
            own = {node: until for node, until in mine.items() if node not in everybodys}
            if own:
                found[name] = own
        return found

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return every node that ran one of our jobs: when last, its failed starts, whether it is excluded.

        `left_out`: for all models. `left_out_for`: only for these models, which were never ready elsewhere.
        """
        everybodys, single = self.excluded_nodes(), self.excluded_for()
        found = {}
        for name, node in sorted(self.state.nodes.items()):
            models = sorted(model for model, nodes in single.items() if name in nodes)
            times = [nodes[name] for nodes in (everybodys, *single.values()) if name in nodes]
            found[name] = {
                "seen": node.seen,
                "failures": len(node.failures),
                "failed_at": node.failed_at or None,
                "left_out": name in everybodys,
                "left_out_for": models,
                "until": max(times, default=None),
            }
        return found

    def _exclusion_rule(self) -> node_failures.ExclusionRule:
        return node_failures.ExclusionRule(self.settings.node_failures, self.settings.node_exclude)

    def model(self, name: str) -> dict[str, Any]:
        """Return one model: the numbers of its entry, its status, demand and instances."""
        listed = self.catalogue.listed.get(name)
        routed = self.table.models.get(name) if self.table else None
        ordered = self.catalogue.orders.get(name)
        demand = self.demand.get(name, TotalDemand())
        memory = self.state.memory.get(name, Memory())
        mine = [self.instance(one) for one in self._instances(name)]
        model = {
            "status": "unknown" if routed is None else routed.status,
            "expected_ready": None if routed is None else routed.expected_ready,
            "digest": None if listed is None else listed.digest,
            "min": None if listed is None else listed.entry.min,
            "max": None if listed is None else listed.entry.max,
            "burst": None if listed is None else listed.model().burst,
            "priority": None if listed is None else listed.entry.priority,
            "wanted": self.wanted.get(name),
            "running": demand.running,
            "waiting": demand.waiting,
            "failures": memory.failures,
            "stalls": stalls(memory, self.now),
            # As above, a name of 0.1.0.
            "held": self.catalogue.unusable.get(name),
            "problem": self.catalogue.unusable.get(name) or memory.message,
            "obstacle": memory.obstacle,
            "load_time": memory.load_time,
            "queue_time": policy.percentile(memory.queue_times, 0.5),
            "orders": None if ordered is None else ordered.dump(),
            "service": self.service(name),
            "rollout": self.rollout(name),
            "failed_start": self.failed_start(name),
            "instances": mine,
        }
        # Slurm, jobs and plugins wrote much of this text, and it is printed on terminals.
        return cast(dict[str, Any], terminal.tidy(model))

    def instance(self, instance: Instance) -> dict[str, Any]:
        """Return one instance, without its job's key."""
        record = instance.record
        return {
            "id": instance.id,
            "job_id": instance.job_id,
            "state": describe(instance),
            "kind": instance.kind,
            "job_state": instance.job_state,
            "reason": _reason(instance),
            "leaving": instance.leaving,
            "nodes": list(instance.nodes),
            "expected_start": instance.expected_start,
            "address": "" if record is None else f"{record.host}:{record.port}",
            "submitted": instance.created,
            "started": instance.started,
            "ready": instance.ready_at,
            "ends": instance.ends,
            "digest": instance.digest,
        }

    def rollout(self, name: str) -> Optional[dict[str, Any]]:
        """Return how far the replacement of a model's instances is, None if none is being replaced.

        `state` is `rolling`, or `failing` while successors fail to start and are tried again, or `failed`
        after `max_failures` in a row, when they are tried rarely. The old instances stay meanwhile.
        """
        listed = self.catalogue.listed.get(name)
        if listed is None or self.drained(name):
            return None
        ordered = self.catalogue.orders.get(name)
        wanted = policy.Orders() if ordered is None else orders.for_policy(ordered)
        mine = [one for one in self._instances(name) if one.cancelled_at is None]
        old = [one for one in mine if _replaced(one, listed.digest, wanted)]
        if not old:
            return None
        failures = self.state.memory.get(name, Memory()).failures
        state = "failed" if failures >= self.settings.max_failures else "failing" if failures else "rolling"
        ready = sum(routable(one) for one in mine if one not in old)
        return {"state": state, "old": len(old), "new": ready}

    def failed_start(self, name: str) -> Optional[dict[str, Any]]:
        """Return the last failed start with the lines that its job wrote; None if there is none."""
        found = self.state.failed_starts.get(name)
        return None if found is None else {**dataclasses.asdict(found), "lines": list(found.lines)}

    def service(self, name: str) -> str:
        """Return `in service`, or for a drained model `draining` while it has instances, then `drained`."""
        if not self.drained(name):
            return "in service"
        return "draining" if self._instances(name) else "drained"

    def drained(self, name: str) -> bool:
        """Whether an administrator drained the model."""
        found = self.catalogue.orders.get(name)
        return found is not None and found.drained is not None

    def serves(self, name: str) -> bool:
        """Whether an instance of the model's current digest is ready in the routing table."""
        listed = self.catalogue.listed.get(name)
        routed = self.table.models.get(name) if self.table else None
        if listed is None or routed is None:
            return False
        current = {one.id for one in self._instances(name) if one.digest == listed.digest and routable(one)}
        return any(one.state == "ready" and one.id in current for one in routed.instances)

    def asleep(self, name: str) -> bool:
        """Whether the model may sleep and does: its status, for the current digest, is `sleeping`."""
        listed = self.catalogue.listed.get(name)
        routed = self.table.models.get(name) if self.table else None
        if listed is None or routed is None or listed.entry.min > 0:
            return False
        return routed.status == "sleeping" and self._digest_seen(name)

    def failed(self, name: str) -> bool:
        """Whether the model's current digest counts as failed."""
        routed = self.table.models.get(name) if self.table else None
        return routed is not None and routed.status == "failed" and self._digest_seen(name)

    def _digest_seen(self, name: str) -> bool:
        listed = self.catalogue.listed.get(name)
        return listed is not None and self.state.memory.get(name, Memory()).digest == listed.digest

    def _instances(self, name: str) -> list[Instance]:
        return self._by_model.get(name, [])

    @cached_property
    def _by_model(self) -> dict[str, list[Instance]]:
        """The instances by model, oldest first."""
        found: dict[str, list[Instance]] = {}
        for one in sorted(self.state.instances.values(), key=lambda one: (one.created, one.id)):
            found.setdefault(one.model, []).append(one)
        return found


def _reason(instance: Instance) -> str:
    """Return the reason for an instance's state, in a few words for people."""
    if instance.leaving and not instance.cancel_reason:
        return f"leaving: {instance.leaving}"
    if instance.job_state in SUSPENDED:
        return f"its job is {instance.job_state}"
    if instance.stalled and routable(instance) and not instance.drain_reason:
        return f"no output of its engine for {instance.stalled} s, not even for the front's own question"
    if held_by_slurm(instance):
        return f"held by Slurm: {instance.reason}"
    told = instance.drain_reason or instance.cancel_reason or instance.submit_error
    return told or _record_problem(instance) or instance.reason


def _record_problem(instance: Instance) -> str:
    """Return what is wrong with a running instance's record.json, "" if nothing is."""
    if not instance.refused or not instance.running:
        return ""
    if instance.ready_at is None:
        return f"its record.json is refused: {instance.refused}"
    return f"its record.json was changed, the one read first stays valid: {instance.refused}"


def _replaced(instance: Instance, digest: str, ordered: policy.Orders) -> bool:
    """Whether the instance must be replaced, for a new digest or a restart."""
    restarted = instance.created < ordered.restart
    return instance.digest not in ("", digest) or instance.id in ordered.replace or restarted


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that suggests similar names for a mistyped one, "" if there are none."""
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def read_overview(settings: SchedulerConfig) -> Overview:
    """Read everything. Raises SluiceError if the models or the state cannot be read."""
    now = time.time()
    try:
        catalogue = read_catalogue(settings.models_dir, now, Allowed.from_config(settings))
        state = StateFile(settings.state_file).peek()
    except OSError as error:
        raise SluiceError(
            "internal_error", f"{error.filename}: {error.strerror}; run this as root on the login node"
        ) from None
    demand = read_demand(settings.demand_dir, now)
    return Overview(catalogue, state or State(), _table(settings), demand, _wanted(settings), now, settings)


def _table(settings: SchedulerConfig) -> Optional[RoutingTable]:
    try:
        return RoutingTable.parse(read_json(settings.routing_table))
    except (OSError, RecordError):
        return None


def _wanted(settings: SchedulerConfig) -> dict[str, int]:
    try:
        snapshot = MetricsSnapshot.parse(read_json(settings.figures))
    except (OSError, RecordError):
        return {}
    return {one.labels["model"]: int(one.value) for one in snapshot.samples if one.name == WANTED}
