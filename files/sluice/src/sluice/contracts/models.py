"""The model entry: `model-entry.json`. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Optional

from sluice.contracts.fields import VERSION, Fields, dump_record
from sluice.contracts.paths import CAPABILITIES, DEFAULT_CAPABILITIES, KNOWN, SENSES
from sluice.contracts.values import (
    ABSOLUTE_PATH,
    CACHE_ISOLATIONS,
    GROUP,
    HEX64,
    MODEL_NAME,
    PRINTABLE,
    USAGES,
)
from sluice.errors import RecordError

ENGINE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
ENVIRONMENT_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,127}")
SLURM_WORD = re.compile(r"[A-Za-z0-9_.:,@+-]{0,128}")
SLURM_OPTION = re.compile(r"--[a-z][a-z-]{1,40}(?:=[A-Za-z0-9_.:,@+/\[\]-]{1,200})?")
ARGUMENT = re.compile(r"[^\x00-\x1f\x7f]{1,1000}")
# What confines an engine: namespaces made by bubblewrap, the container of its own image, or nothing.
BOXES = ("bubblewrap", "apptainer", "none")
_HEX64_OR_NONE = re.compile(f"(?:{HEX64.pattern})?")
_PATH_OR_NONE = re.compile(f"(?:{ABSOLUTE_PATH.pattern})?")


@dataclass(frozen=True)
class SlurmRequest:
    """What one instance requests from Slurm.

    `time` and `time_min` (0: none) in minutes. `warn`: how many seconds before the end of its time Slurm
    warns it (0: never). `cpus`, `memory_mb` (MiB) and `gpus` are for each of its `nodes`.
    """

    partition: str
    time: int
    cpus: int
    memory_mb: int
    gpus: int = 0
    gres: str = ""
    account: str = ""
    qos: str = ""
    nice: int = 0
    extra: tuple[str, ...] = ()
    nodes: int = 1
    time_min: int = 0
    reservation: str = ""
    requeue: bool = False
    warn: int = 120

    @classmethod
    def parse(cls, obj: object, where: str = "slurm") -> SlurmRequest:
        """Read the `slurm` field of a model entry."""
        fields = Fields(obj, where)
        partition = fields.text("partition", SLURM_WORD)
        if not partition:
            raise fields.fail("partition", "must not be empty")
        request = cls(
            partition=partition,
            time=fields.integer("time", 1, 60 * 24 * 365),
            cpus=fields.integer("cpus", 1, 4096),
            memory_mb=fields.integer("memory_mb", 1, 1 << 30),
            gpus=fields.integer("gpus", 0, 1024, 0),
            gres=fields.text("gres", SLURM_WORD, ""),
            account=fields.text("account", SLURM_WORD, ""),
            qos=fields.text("qos", SLURM_WORD, ""),
            nice=fields.integer("nice", 0, 2_147_483_645, 0),
            extra=fields.texts("extra", SLURM_OPTION, []),
            nodes=fields.integer("nodes", 1, 1024, 1),
            time_min=fields.integer("time_min", 0, 60 * 24 * 365, 0),
            reservation=fields.text("reservation", SLURM_WORD, ""),
            requeue=fields.flag("requeue", False),
            warn=fields.integer("warn", 0, 3600, 120),
        )
        fields.done()
        if request.time_min > request.time:
            raise fields.fail("time_min", "must not be above time")
        return request


@dataclass(frozen=True)
class Burst:
    """How up to `max` instances beyond the model's own `max` are requested, where Slurm may preempt them.

    Fields that are empty or 0 are as in the model's `slurm`; `time` and `time_min` in minutes. With
    `requeue`, Slurm puts a preempted job back into its queue instead of ending it.
    """

    max: int
    partition: str = ""
    account: str = ""
    qos: str = ""
    reservation: str = ""
    time: int = 0
    time_min: int = 0
    nice: int = 0
    requeue: bool = False

    @classmethod
    def parse(cls, obj: object, where: str = "burst") -> Burst:
        """Read the `burst` field of a model entry."""
        fields = Fields(obj, where)
        burst = cls(
            max=fields.integer("max", 1, 1000),
            partition=fields.text("partition", SLURM_WORD, ""),
            account=fields.text("account", SLURM_WORD, ""),
            qos=fields.text("qos", SLURM_WORD, ""),
            reservation=fields.text("reservation", SLURM_WORD, ""),
            time=fields.integer("time", 0, 60 * 24 * 365, 0),
            time_min=fields.integer("time_min", 0, 60 * 24 * 365, 0),
            nice=fields.integer("nice", 0, 2_147_483_645, 0),
            requeue=fields.flag("requeue", False),
        )
        fields.done()
        return burst


# Fields that say how a model is offered and how many instances it has. Running jobs need not be replaced when
# they change. If a script uses one (concurrency, in the bundled engines), the script's own change shows that.
SERVICE_FIELDS = frozenset(
    (
        "burst",
        "cache_isolation",
        "capabilities",
        "concurrency",
        "description",
        "groups",
        "idle_stop",
        "max",
        "min",
        "priority",
        "stall_timeout",
        "start_timeout",
        "usage",
    )
)


@dataclass(frozen=True)
class ModelEntry:
    """One model as the inventory describes it. `idle_stop`, `start_timeout` and `stall_timeout` in seconds.

    `priority`: models with a higher one come first if there are too few resources for all. `manifest`: the
    SHA-256 (hex) of the weights' SHA256SUMS, "" if they are not checked. `image`: for engines in a container
    image; `modules`: for engines that need environment modules. `usage` (of USAGES): how the engine can
    report tokens while it streams. `cache_isolation` (of CACHE_ISOLATIONS): how it can keep the cached
    prompts of different users apart. `box` (of BOXES): what confines the engine.
    """

    name: str
    engine: str
    weights: str
    context_length: int
    slurm: SlurmRequest
    description: str = ""
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    groups: tuple[str, ...] = ("all",)
    min: int = 0
    max: int = 1
    concurrency: int = 16
    idle_stop: int = 900
    start_timeout: int = 900
    engine_args: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    burst: Optional[Burst] = None
    manifest: str = ""
    image: str = ""
    modules: tuple[str, ...] = ()
    usage: str = "none"
    cache_isolation: str = "none"
    box: str = "bubblewrap"
    stall_timeout: int = 900

    @classmethod
    def parse(cls, obj: object, where: str = "") -> ModelEntry:
        """Read a model entry; unknown fields are refused."""
        fields = Fields(obj, where)
        fields.get("version", VERSION)
        engine = fields.text("engine", ENGINE)
        entry = cls(
            name=fields.text("name", MODEL_NAME),
            engine=engine,
            weights=fields.text("weights", ABSOLUTE_PATH),
            context_length=fields.integer("context_length", 1, 100_000_000),
            slurm=SlurmRequest.parse(fields.get("slurm"), fields.path("slurm")),
            description=fields.text("description", PRINTABLE, ""),
            capabilities=_capabilities(fields),
            groups=fields.texts("groups", GROUP, ["all"]),
            min=fields.integer("min", 0, 1000, 0),
            max=fields.integer("max", 1, 1000, 1),
            concurrency=fields.integer("concurrency", 1, 100_000, 16),
            idle_stop=fields.integer("idle_stop", 1, 31_536_000, 900),
            start_timeout=fields.integer("start_timeout", 1, 86_400, 900),
            engine_args=fields.texts("engine_args", ARGUMENT, []),
            environment=_environment(fields),
            priority=fields.integer("priority", -1000, 1000, 0),
            burst=_burst(fields),
            manifest=fields.text("manifest", _HEX64_OR_NONE, ""),
            image=fields.text("image", _PATH_OR_NONE, ""),
            modules=fields.texts("modules", ENVIRONMENT_MODULE, []),
            usage=fields.choice("usage", USAGES, _usage_by(engine)),
            cache_isolation=fields.choice("cache_isolation", CACHE_ISOLATIONS, _isolation_by(engine)),
            box=fields.choice("box", BOXES, box_by(engine)),
            stall_timeout=fields.integer("stall_timeout", 0, 86_400, 900),
        )
        fields.done()
        if entry.min > entry.max:
            raise fields.fail("min", "must not be above max")
        return entry

    def dump(self) -> dict[str, Any]:
        """Return the entry with every default filled in."""
        return dump_record(self, version=True)

    def digest(self, script: str) -> str:
        """Return the SHA-256 (hex) of what a job depends on: its script, the entry less SERVICE_FIELDS.

        Fields that have their default do not count: a release with a new field must not replace every job.
        """
        given = _without_defaults(self).items()
        fields = {"version": VERSION, **{name: value for name, value in given if name not in SERVICE_FIELDS}}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode() + b"\0" + script.encode()).hexdigest()


def _without_defaults(record: Any) -> dict[str, Any]:
    """Return the fields of a record, and of records in it, that differ from their defaults."""
    found = {}
    for one in dataclasses.fields(record):
        value = getattr(record, one.name)
        usual = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if value != usual:
            found[one.name] = _without_defaults(value) if dataclasses.is_dataclass(value) else value
    return found


def _capabilities(fields: Fields) -> tuple[str, ...]:
    found = []
    for where, item in fields.items("capabilities", list(DEFAULT_CAPABILITIES)):
        if not isinstance(item, str) or item not in KNOWN:
            raise RecordError(where, "must be one of " + ", ".join((*CAPABILITIES, *SENSES)))
        found.append(item)
    return tuple(found)


def _isolation_by(engine: str) -> str:
    """Return how an engine keeps the caches of users apart, as far as it is known."""
    if engine.startswith("vllm"):
        return "salt"
    return "off" if engine == "llama-cpp" else "none"


def box_by(engine: str, usual: str = "bubblewrap") -> str:
    """Return the box of an entry that names none; an engine in an image has its container."""
    return "apptainer" if engine == "vllm-apptainer" else usual


def _usage_by(engine: str) -> str:
    """Return how an engine reports tokens while it streams, as far as it is known."""
    if engine.startswith("vllm"):
        return "continuous"
    return "final" if engine == "llama-cpp" else "none"


def _burst(fields: Fields) -> Optional[Burst]:
    given = fields.get("burst", None)
    return None if given is None else Burst.parse(given, fields.path("burst"))


def _environment(fields: Fields) -> dict[str, str]:
    environment = {}
    for name, value in fields.mapping("environment", ENVIRONMENT_NAME, {}).items():
        if not isinstance(value, str) or not ARGUMENT.fullmatch(value):
            raise fields.fail("environment", f"{name} must be a printable string")
        environment[name] = value
    return environment
