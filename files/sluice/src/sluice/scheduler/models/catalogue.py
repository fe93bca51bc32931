"""Reads the models that are registered on this host: the entry and the sbatch script of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from sluice.contracts.encoding import decode_json
from sluice.contracts.models import ModelEntry, SlurmRequest
from sluice.contracts.orders import ModelOrders, NodeOrders
from sluice.contracts.values import MODEL_NAME
from sluice.errors import RecordError
from sluice.scheduler.config import SchedulerConfig
from sluice.scheduler.models import orders
from sluice.scheduler.policy.policy import ModelSettings
from sluice.scheduler.slurm.submission import slurm_scope

log = logging.getLogger(__name__)

# If entry or script changed within so many seconds, the other one may still be about to change.
STILL_CHANGING = 1.0
WRITING = "is being written"
MAX_ENTRY_BYTES = 1 << 18
MAX_SCRIPT_BYTES = 1 << 20


@dataclass(frozen=True)
class Allowed:
    """What models may ask for: only `partitions` (empty: any), and no nice value below `min_nice`."""

    partitions: tuple[str, ...] = ()
    min_nice: int = 0

    @classmethod
    def from_config(cls, settings: SchedulerConfig) -> Allowed:
        """Return what the scheduler's configuration allows."""
        return cls(settings.partitions, settings.min_nice)


ANYTHING = Allowed()


def breaches(entry: ModelEntry, allowed: Allowed) -> list[str]:
    """Return where an entry asks for more than the site allows: one line each, beginning with the field."""
    found = []
    for where, text in _partitions(entry):
        refused = [name for name in text.split(",") if allowed.partitions and name not in allowed.partitions]
        if refused:
            known = ", ".join(allowed.partitions)
            words = f"{', '.join(refused)} is not among the site's scheduler_partitions: {known}"
            found.append(f"{where}: {words}")
    for where, nice in _nices(entry):
        if nice < allowed.min_nice:
            found.append(f"{where}: is {nice}, the site's scheduler_min_nice is {allowed.min_nice}")
    return found


def _partitions(entry: ModelEntry) -> Iterator[tuple[str, str]]:
    yield "slurm.partition", entry.slurm.partition
    if entry.burst is not None and entry.burst.partition:
        yield "burst.partition", entry.burst.partition
    for option in entry.slurm.extra:
        key, _, value = option.partition("=")
        if key == "--partition":
            yield "slurm.extra", value


def _nices(entry: ModelEntry) -> Iterator[tuple[str, int]]:
    yield "slurm.nice", entry.slurm.nice
    if entry.burst is not None and entry.burst.nice:
        yield "burst.nice", entry.burst.nice
    for option in entry.slurm.extra:
        key, _, value = option.partition("=")
        if key == "--nice":
            # Slurm reads --nice without a value as 100; sbatch itself refuses what is not a number.
            yield "slurm.extra", int(value) if value.lstrip("-").isdigit() else 100


@dataclass(frozen=True)
class Listed:
    """A registered model that can be used: its entry, its script, and the digest of both."""

    entry: ModelEntry
    script: str
    digest: str

    def model(self) -> ModelSettings:
        """Return what the policy needs of the model."""
        entry = self.entry
        asked = entry.slurm
        return ModelSettings(
            name=entry.name,
            digest=self.digest,
            min=entry.min,
            max=entry.max,
            concurrency=entry.concurrency,
            idle_stop=entry.idle_stop,
            start_timeout=entry.start_timeout,
            priority=entry.priority,
            burst=0 if entry.burst is None else entry.burst.max,
            gpus=gpus(asked),
            nodes=asked.nodes,
            warn=asked.warn,
            slurm_scope=slurm_scope(asked),
            stall_timeout=entry.stall_timeout,
        )


def gpus(request: SlurmRequest) -> int:
    """Return the GPUs of a whole job, whether `gpus` or `gres` asks for them."""
    named = 0
    for resource in request.gres.split(","):
        # gpu, gpu:4 or gpu:a100:4
        kind, *rest = resource.split(":")
        if kind == "gpu":
            named += int(rest[-1]) if rest and rest[-1].isdigit() else 1
    return max(request.gpus, named) * request.nodes


@dataclass(frozen=True)
class Catalogue:
    """All registered models: usable ones in `listed`; in `unusable` those that cannot be used now, and why.

    `orders`: the administrators' orders for models of both kinds. `nodes`: which nodes they readmitted. A
    model whose orders cannot be read is unusable, because they may say that it must not run.
    """

    listed: dict[str, Listed] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    orders: dict[str, ModelOrders] = field(default_factory=dict)
    nodes: NodeOrders = field(default_factory=NodeOrders)


def read_catalogue(directory: str, now: float, allowed: Allowed = ANYTHING) -> Catalogue:
    """Read all models; hold those that ask for more than is allowed. `now` in seconds since the epoch.

    Raises OSError if the directory cannot be listed: that does not mean "no models".
    """
    catalogue = Catalogue(nodes=_node_orders(directory))
    for path in sorted(Path(directory).iterdir()):
        name = path.stem
        if path.suffix != ".json" or not MODEL_NAME.fullmatch(name):
            continue
        try:
            listed = read_model(Path(directory), name, now)
        except (OSError, RecordError, UnicodeDecodeError) as error:
            catalogue.unusable[name] = str(error)
        else:
            problems = [] if listed is None else breaches(listed.entry, allowed)
            if listed is None:
                catalogue.unusable[name] = WRITING
            elif problems:
                catalogue.unusable[name] = "; ".join(problems)
            else:
                catalogue.listed[name] = listed
        _add_orders(catalogue, directory, name)
    return catalogue


def _node_orders(directory: str) -> NodeOrders:
    try:
        return orders.read_nodes(directory)
    except (OSError, RecordError) as error:
        log.warning("the list of readmitted nodes cannot be read", extra={"problem": str(error)})
        return NodeOrders()


def _add_orders(catalogue: Catalogue, directory: str, name: str) -> None:
    try:
        found = orders.read(directory, name)
    except (OSError, RecordError) as error:
        catalogue.listed.pop(name, None)
        catalogue.unusable[name] = f"orders refused: {error}"
    else:
        if found is not None:
            catalogue.orders[name] = found


def read_model(directory: Path, name: str, now: Optional[float] = None) -> Optional[Listed]:
    """Read one model; with `now` given, return None while one of its files is younger than a second.

    Raises OSError, RecordError and UnicodeDecodeError.
    """
    entry_path, script_path = directory / f"{name}.json", directory / f"{name}.sbatch"
    raw, entry_time = _read(entry_path, MAX_ENTRY_BYTES)
    script_raw, script_time = _read(script_path, MAX_SCRIPT_BYTES)
    if now is not None and abs(now - max(entry_time, script_time)) < STILL_CHANGING:
        return None
    entry = ModelEntry.parse(decode_json(raw))
    if entry.name != name:
        raise RecordError("name", f"is {entry.name}, but the file is {entry_path.name}")
    script = script_raw.decode("utf-8")
    return Listed(entry, script, entry.digest(script))


def _read(path: Path, limit: int) -> tuple[bytes, float]:
    with path.open("rb") as stream:
        raw = stream.read(limit + 1)
        changed = path.stat().st_mtime
    if len(raw) > limit:
        raise RecordError("", f"{path.name} is larger than {limit} bytes")
    return raw, changed
