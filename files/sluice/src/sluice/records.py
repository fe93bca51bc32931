"""The documents that pass between the parts, as frozen dataclasses: docs/contracts.md in code.

`parse` takes what JSON gave and returns the record or raises RecordError with the field's path; every
field is checked by a full match. `dump` returns what goes into JSON, `version` included where the document
stands alone. Documents that a job or the VM sends to the cluster, and the model entry, refuse unknown
fields; the others ignore them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from sluice.errors import CODES, RecordError

VERSION = 1

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NONCE = re.compile(r"[0-9a-f]{8}")
INSTANCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}-[0-9a-f]{8}")
REQUEST_ID = re.compile(r"req-[0-9a-f]{32}")
USER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
GROUP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Slurm lets a NodeName have an underscore.
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
JOB_ID = re.compile(r"[0-9]{1,10}")
JOB_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
AFFINITY = re.compile(r"(?:[0-9a-f]{64})?")
SAMPLE_NAME = re.compile(r"sluice_(?:relay|scheduler)_[a-z0-9_]{1,80}")
LABEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
ENGINE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
ABSOLUTE_PATH = re.compile(r"(?:/[A-Za-z0-9._+@-]+)+")
ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
ENVIRONMENT_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,127}")
SLURM_WORD = re.compile(r"[A-Za-z0-9_.:,@+-]{0,128}")
SLURM_OPTION = re.compile(r"--[a-z][a-z-]{1,40}(?:=[A-Za-z0-9_.:,@+/\[\]-]{1,200})?")
PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]{0,500}")
ARGUMENT = re.compile(r"[^\x00-\x1f\x7f]{1,1000}")
CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]{1,76}\n){1,60}-----END CERTIFICATE-----\n"
)
HEX64 = re.compile(r"[0-9a-f]{64}")
ADMIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
PORTS = re.compile(r"([0-9]{4,5})-([0-9]{4,5})")

CAPABILITIES = (
    "chat",
    "completions",
    "responses",
    "embeddings",
    "rerank",
    "messages",
    "count_tokens",
    "input_tokens",
    "tokenize",
)
# What every engine that Sluice brings can serve; the other paths are the model's to claim.
DEFAULT_CAPABILITIES = ("chat", "completions")
CLASSES = ("interactive", "api", "batch")
STATUSES = ("ready", "starting", "sleeping", "failed", "drained", "unknown")
INSTANCE_STATES = ("ready", "draining")
EVENT_STREAM = "text/event-stream"
CONTENT_TYPES = ("application/json", "text/event-stream", "text/plain")
# What an engine says of tokens while it streams: with each chunk, with the last one, or nothing.
USAGES = ("continuous", "final", "none")
# How an engine keeps what it remembers of prompts apart: by a salt in each request, not at all but for each
# request by itself, or in no way that it can be asked for.
CACHE_ISOLATIONS = ("salt", "off", "none")
# What keeps an engine apart: namespaces made by bubblewrap, its own image's container, or nothing.
BOXES = ("bubblewrap", "apptainer", "none")
GO_AWAY_CODES = ("shutdown", "age", "protocol", "closed")
PATHS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
    "/v1/responses/input_tokens": "input_tokens",
    # vLLM's own, where its users look for it.
    "/tokenize": "tokenize",
}
# What these answer is a count: nothing is generated.
COUNTING = frozenset(("count_tokens", "input_tokens", "tokenize"))
# No engine bounds what it counts, as it bounds a prompt: one text of 32 MiB keeps all others waiting.
MOST_COUNTED = 1 << 20
_COUNTED_A_TOKEN = 8
INSTANCE_PATHS = ("/health", "/metrics", *PATHS)

MAX_JOB_RECORD_BYTES = 16 * 1024
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
MAX_COUNT = 1_000_000
# A request is given up when so many of its attempts broke an instance, at whichever relays.
MOST_BREAKS = 2
MAX_TIME = 1e11


_ADMIN_OR_NONE = re.compile(f"(?:{ADMIN.pattern})?")
_HEX64_OR_NONE = re.compile(f"(?:{HEX64.pattern})?")
_PATH_OR_NONE = re.compile(f"(?:{ABSOLUTE_PATH.pattern})?")
_INSTANCE_OR_NONE = re.compile(f"(?:{INSTANCE_ID.pattern})?")


def _any_of(words: Iterable[str]) -> str:
    """Return the pattern of a closed list."""
    return "|".join(map(re.escape, words))


def most_counted(context_length: int) -> int:
    """Return how many bytes a body may have of which the tokens are to be counted: more fits no prompt."""
    return max(MOST_COUNTED, _COUNTED_A_TOKEN * context_length)


def port_range(text: str) -> range:
    """Return the ports of `FIRST-LAST`, both ends included. Raises ValueError."""
    found = PORTS.fullmatch(text)
    if found is None or not 1024 <= int(found[1]) <= int(found[2]) <= 65535:
        raise ValueError(f"{text!r} is not FIRST-LAST within 1024-65535")
    return range(int(found[1]), int(found[2]) + 1)


class Fields:
    """Reads the fields of one JSON object and remembers which were read.

    `where` is the object's own path, for messages. Each method raises RecordError.
    """

    def __init__(self, obj: object, where: str = "") -> None:
        if not isinstance(obj, dict):
            raise RecordError(where, "must be an object")
        self._obj = obj
        self._where = where
        self._read: set[str] = set()

    def path(self, name: str) -> str:
        """Return the full path of field `name`."""
        return f"{self._where}.{name}" if self._where else name

    def fail(self, name: str, problem: str) -> RecordError:
        """Return the error for field `name`; the caller raises it."""
        return RecordError(self.path(name), problem)

    def get(self, name: str, default: object = dataclasses.MISSING) -> object:
        """Return the field as JSON gave it."""
        self._read.add(name)
        if name in self._obj:
            return self._obj[name]
        if default is dataclasses.MISSING:
            raise self.fail(name, "is missing")
        return default

    def text(self, name: str, pattern: re.Pattern[str], default: Any = dataclasses.MISSING) -> str:
        """Return a string that `pattern` matches in full."""
        value = self.get(name, default)
        if not isinstance(value, str):
            raise self.fail(name, "must be a string")
        if not pattern.fullmatch(value):
            raise self.fail(name, f"does not match {pattern.pattern}")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: Any = dataclasses.MISSING) -> str:
        """Return a string out of a closed list."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in allowed:
            raise self.fail(name, "must be one of " + ", ".join(allowed))
        return value

    def integer(self, name: str, low: int, high: int, default: Any = dataclasses.MISSING) -> int:
        """Return a whole number from `low` to `high`."""
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(name, "must be a whole number")
        if not low <= value <= high:
            raise self.fail(name, f"must be from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float, default: Any = dataclasses.MISSING) -> float:
        """Return a number from `low` to `high` as a float."""
        value = self.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.fail(name, "must be a number")
        if not low <= value <= high:
            raise self.fail(name, f"must be from {low:g} to {high:g}")
        return float(value)

    def optional_number(self, name: str, low: float, high: float) -> Optional[float]:
        """Return a number from `low` to `high`, or None for null or an absent field."""
        return None if self.get(name, None) is None else self.number(name, low, high)

    def flag(self, name: str, default: Any = dataclasses.MISSING) -> bool:
        """Return true or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.fail(name, "must be true or false")
        return value

    def items(
        self, name: str, default: Any = dataclasses.MISSING, most: int = 10_000
    ) -> list[tuple[str, object]]:
        """Return a list's items, each with its path."""
        value = self.get(name, default)
        if not isinstance(value, list):
            raise self.fail(name, "must be a list")
        if len(value) > most:
            raise self.fail(name, f"has more than {most} items")
        return [(f"{self.path(name)}[{index}]", item) for index, item in enumerate(value)]

    def texts(
        self, name: str, pattern: re.Pattern[str], default: Any = dataclasses.MISSING
    ) -> tuple[str, ...]:
        """Return a list of strings that `pattern` matches in full, without repeats."""
        found: list[str] = []
        for where, item in self.items(name, default):
            if not isinstance(item, str) or not pattern.fullmatch(item):
                raise RecordError(where, f"must be a string that matches {pattern.pattern}")
            found.append(item)
        return tuple(found)

    def mapping(
        self, name: str, key: re.Pattern[str], default: Any = dataclasses.MISSING
    ) -> dict[str, object]:
        """Return an object whose keys `key` matches in full."""
        value = self.get(name, default)
        if not isinstance(value, dict):
            raise self.fail(name, "must be an object")
        if len(value) > 10_000:
            raise self.fail(name, "has more than 10000 keys")
        for entry in value:
            if not isinstance(entry, str) or not key.fullmatch(entry):
                raise self.fail(name, f"has a key that does not match {key.pattern}")
        return value

    def version(self) -> None:
        """Check the document's version."""
        value = self.get("version")
        if value != VERSION or isinstance(value, bool):
            raise self.fail("version", f"is {value!r}, this code reads {VERSION}"[:80])

    def done(self) -> None:
        """Refuse fields that nobody read."""
        unknown = sorted(str(name)[:64] for name in self._obj if name not in self._read)
        if unknown:
            raise self.fail(unknown[0], "is not a known field")


def dump_record(record: Any, *, version: bool = False) -> dict[str, Any]:
    """Return a record as JSON has it: records as objects, tuples as lists, `version` if it stands alone."""
    document: dict[str, Any] = {"version": VERSION} if version else {}
    # Not dataclasses.asdict: it copies every value deeply, at four times the cost for each request.
    for name in record.__dataclass_fields__:
        document[name] = _json_ready(getattr(record, name))
    return document


def _json_ready(value: Any) -> Any:
    """Return `value` as JSON reads it back: records as objects, tuples as lists."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if dataclasses.is_dataclass(value):
        return dump_record(value)
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    return value


# --- Model entry -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SlurmRequest:
    """What one instance asks of Slurm.

    `time` and `time_min` (0: none) in minutes, `warn` in seconds before the end of its time at which Slurm
    is to warn it (0: never). `cpus`, `memory_mb` (MiB) and `gpus` are per node, of which it takes `nodes`.
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
    """How up to `max` instances beyond the model's own `max` are asked for: where Slurm may take them back.

    What is empty or 0 is as in the model's `slurm`; `time` and `time_min` in minutes. `requeue` has Slurm
    put a preempted job back into its queue instead of ending it.
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


# Fields that say how a model is offered and how many instances it has. They take effect while its jobs run;
# where a script uses one (concurrency, in the bundled engines), the script carries the change.
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

    `priority`: where the service may not take all that is wanted, models of a higher one come first.
    `manifest`: the SHA-256 (hex) of the weights' SHA256SUMS, "" where they are not checked. `image` and
    `modules` are for engines in a container image or behind environment modules. `usage` (of USAGES): what
    the engine can be asked to say of tokens while it streams. `cache_isolation` (of CACHE_ISOLATIONS): how it
    can be asked to keep what it remembers of different users' prompts apart. `box` (of BOXES): what keeps the
    engine itself apart.
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
            capabilities=_capabilities(fields, list(DEFAULT_CAPABILITIES)),
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
        """Return the SHA-256 (hex) of what a job depends on: the script, the entry less SERVICE_FIELDS."""
        fields = {name: value for name, value in self.dump().items() if name not in SERVICE_FIELDS}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode() + b"\0" + script.encode()).hexdigest()


def _isolation_by(engine: str) -> str:
    """Return how an engine is known to keep caches apart: by a salt, or by doing without."""
    if engine.startswith("vllm"):
        return "salt"
    return "off" if engine == "llama-cpp" else "none"


def box_by(engine: str, usual: str = "bubblewrap") -> str:
    """Return the box of an entry that names none; one in an image has its container."""
    return "apptainer" if engine == "vllm-apptainer" else usual


def _usage_by(engine: str) -> str:
    """Return what an engine is known to say of tokens while it streams."""
    if engine.startswith("vllm"):
        return "continuous"
    return "final" if engine == "llama-cpp" else "none"


def _burst(fields: Fields) -> Optional[Burst]:
    given = fields.get("burst", None)
    return None if given is None else Burst.parse(given, fields.path("burst"))


def _capabilities(fields: Fields, default: Any = dataclasses.MISSING) -> tuple[str, ...]:
    found = []
    for where, item in fields.items("capabilities", default):
        if not isinstance(item, str) or item not in CAPABILITIES:
            raise RecordError(where, "must be one of " + ", ".join(CAPABILITIES))
        found.append(item)
    return tuple(found)


def _environment(fields: Fields) -> dict[str, str]:
    environment = {}
    for name, value in fields.mapping("environment", ENVIRONMENT_NAME, {}).items():
        if not isinstance(value, str) or not ARGUMENT.fullmatch(value):
            raise fields.fail("environment", f"{name} must be a printable string")
        environment[name] = value
    return environment


# --- Orders --------------------------------------------------------------------------------------------

MAX_ORDERED = 1000


@dataclass(frozen=True)
class ModelOrders:
    """What the cluster's administrators ordered of one model, by `sluice models drain | resume | restart`.

    Times in seconds since the epoch. `drained`: out of service since then, None when in service; `resumed`:
    when it was last put back. `restart`: instances submitted before that time are to be replaced;
    `replace` names single ones. `by` is who gave the last order, for people.
    """

    model: str
    drained: Optional[float] = None
    resumed: Optional[float] = None
    restart: Optional[float] = None
    replace: tuple[str, ...] = ()
    by: str = ""

    @classmethod
    def parse(cls, obj: object) -> ModelOrders:
        """Read an orders file; unknown fields are refused."""
        fields = Fields(obj)
        fields.version()
        orders = cls(
            model=fields.text("model", MODEL_NAME),
            drained=fields.optional_number("drained", 0, MAX_TIME),
            resumed=fields.optional_number("resumed", 0, MAX_TIME),
            restart=fields.optional_number("restart", 0, MAX_TIME),
            replace=fields.texts("replace", INSTANCE_ID, []),
            by=fields.text("by", _ADMIN_OR_NONE, ""),
        )
        fields.done()
        if len(orders.replace) > MAX_ORDERED:
            raise fields.fail("replace", f"has more than {MAX_ORDERED} items")
        return orders

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)


@dataclass(frozen=True)
class NodeOrders:
    """Which nodes the cluster's administrators let in again, by `sluice nodes readmit`.

    Times in seconds since the epoch: what failed on a node before its time in `nodes`, or before `all` on any
    node, is held against it no more. `by` is who gave the last order, for people.
    """

    all: Optional[float] = None
    nodes: dict[str, float] = dataclasses.field(default_factory=dict)
    by: str = ""

    @classmethod
    def parse(cls, obj: object) -> NodeOrders:
        """Read the file; unknown fields are refused."""
        fields = Fields(obj)
        fields.version()
        given = fields.mapping("nodes", HOST, {})
        each = Fields(given, "nodes")
        orders = cls(
            all=fields.optional_number("all", 0, MAX_TIME),
            nodes={name: each.number(name, 0, MAX_TIME) for name in given},
            by=fields.text("by", _ADMIN_OR_NONE, ""),
        )
        fields.done()
        if len(orders.nodes) > MAX_ORDERED:
            raise fields.fail("nodes", f"has more than {MAX_ORDERED} items")
        return orders

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)


# --- Job record and routing table ----------------------------------------------------------------------


@dataclass(frozen=True)
class JobRecord:
    """What a front publishes about itself: input, never trusted beyond `parse`."""

    instance: str
    nonce: str
    job_id: str
    host: str
    port: int
    certificate: str
    key: str
    started: float

    @classmethod
    def parse(cls, obj: object) -> JobRecord:
        """Read a job record; unknown fields are refused."""
        fields = Fields(obj)
        fields.version()
        record = cls(
            instance=fields.text("instance", INSTANCE_ID),
            nonce=fields.text("nonce", NONCE),
            job_id=fields.text("job_id", JOB_ID),
            host=fields.text("host", HOST),
            port=fields.integer("port", 1024, 65535),
            certificate=fields.text("certificate", CERTIFICATE),
            key=fields.text("key", JOB_KEY),
            started=fields.number("started", 0, MAX_TIME),
        )
        fields.done()
        return record

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)


@dataclass(frozen=True)
class Instance:
    """One routable instance, with the secrets to reach it; `stalled`: its engine gives nothing now."""

    id: str
    job_id: str
    host: str
    port: int
    certificate: str
    key: str
    state: str
    stalled: bool = False

    @classmethod
    def parse(cls, obj: object, where: str = "") -> Instance:
        """Read one instance of the routing table."""
        fields = Fields(obj, where)
        return cls(
            id=fields.text("id", INSTANCE_ID),
            job_id=fields.text("job_id", JOB_ID),
            host=fields.text("host", HOST),
            port=fields.integer("port", 1024, 65535),
            certificate=fields.text("certificate", CERTIFICATE),
            key=fields.text("key", JOB_KEY),
            state=fields.choice("state", INSTANCE_STATES),
            stalled=fields.flag("stalled", False),
        )


@dataclass(frozen=True)
class RoutedModel:
    """One model of the routing table; `created` is when its cluster first had it, 0 if nobody knows."""

    status: str
    expected_ready: Optional[float]
    context_length: int
    capabilities: tuple[str, ...]
    groups: tuple[str, ...]
    description: str
    concurrency: int
    starting: int
    instances: tuple[Instance, ...]
    usage: str = "none"
    cache_isolation: str = "none"
    created: int = 0

    @classmethod
    def parse(cls, obj: object, where: str = "") -> RoutedModel:
        """Read one model of the routing table."""
        fields = Fields(obj, where)
        return cls(
            status=fields.choice("status", STATUSES),
            expected_ready=fields.optional_number("expected_ready", 0, MAX_TIME),
            context_length=fields.integer("context_length", 1, 100_000_000),
            capabilities=_capabilities(fields),
            groups=fields.texts("groups", GROUP),
            description=fields.text("description", PRINTABLE),
            concurrency=fields.integer("concurrency", 1, 100_000),
            starting=fields.integer("starting", 0, MAX_COUNT),
            instances=tuple(Instance.parse(item, path) for path, item in fields.items("instances")),
            # Absent in what an older scheduler wrote.
            usage=fields.choice("usage", USAGES, "none"),
            cache_isolation=fields.choice("cache_isolation", CACHE_ISOLATIONS, "none"),
            created=fields.integer("created", 0, int(MAX_TIME), 0),
        )


@dataclass(frozen=True)
class RoutingTable:
    """Models and their ready instances: written by the scheduler alone, read by every relay."""

    cluster: str
    generation: int
    written: float
    models: dict[str, RoutedModel]

    @classmethod
    def parse(cls, obj: object) -> RoutingTable:
        """Read a routing table."""
        fields = Fields(obj)
        fields.version()
        models = fields.mapping("models", MODEL_NAME)
        return cls(
            cluster=fields.text("cluster", GROUP),
            generation=fields.integer("generation", 0, 1 << 53),
            written=fields.number("written", 0, MAX_TIME),
            models={name: RoutedModel.parse(model, f"models.{name}") for name, model in models.items()},
        )

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)


# --- Demand and figures --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelDemand:
    """Requests of one model at one relay; `last` is the time of the last request, answered or not.

    `instances`: of those running, how many each instance has; instances without any are left out.
    `answered`: by instance, when it last answered a request of this relay, in whole units of ANSWERED_UNIT
    seconds, rounded down, so that the file does not change with each answer.
    """

    running: int
    waiting: int
    last: float
    instances: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)

    ANSWERED_UNIT = 5

    @classmethod
    def parse(cls, obj: object, where: str = "") -> ModelDemand:
        """Read one model of a demand file; unknown fields are refused."""
        fields = Fields(obj, where)
        demand = cls(
            running=fields.integer("running", 0, MAX_COUNT),
            waiting=fields.integer("waiting", 0, MAX_COUNT),
            last=fields.number("last", 0, MAX_TIME),
            instances=_by_instance(fields, "instances", MAX_COUNT),
            answered=_by_instance(fields, "answered", int(MAX_TIME)),
        )
        fields.done()
        return demand


def _by_instance(fields: Fields, name: str, most: int) -> dict[str, int]:
    found = {}
    for instance, number in fields.mapping(name, INSTANCE_ID, {}).items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
            raise fields.fail(name, f"{instance} must be a whole number from 0 to {most}")
        found[instance] = number
    return found


@dataclass(frozen=True)
class DemandFile:
    """One relay's demand."""

    relay: str
    written: float
    models: dict[str, ModelDemand]

    RELAY = re.compile(r"[0-9a-f]{16}")

    @classmethod
    def parse(cls, obj: object) -> DemandFile:
        """Read a demand file; unknown fields are refused."""
        fields = Fields(obj)
        fields.version()
        models = fields.mapping("models", MODEL_NAME)
        demand = cls(
            relay=fields.text("relay", cls.RELAY),
            written=fields.number("written", 0, MAX_TIME),
            models={name: ModelDemand.parse(model, f"models.{name}") for name, model in models.items()},
        )
        fields.done()
        return demand

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)


@dataclass(frozen=True)
class Sample:
    """One figure for Prometheus: a gauge or a counter with its labels."""

    name: str
    kind: str
    help: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, obj: object, where: str = "") -> Sample:
        """Read one sample."""
        fields = Fields(obj, where)
        labels = {}
        for name, value in fields.mapping("labels", LABEL_NAME, {}).items():
            if not isinstance(value, str) or not PRINTABLE.fullmatch(value):
                raise fields.fail("labels", f"{name} must be a printable string")
            labels[name] = value
        return cls(
            name=fields.text("name", SAMPLE_NAME),
            kind=fields.choice("kind", ("gauge", "counter")),
            help=fields.text("help", PRINTABLE),
            value=fields.number("value", -1e308, 1e308),
            labels=labels,
        )

    def dump(self) -> dict[str, Any]:
        """Return the sample as JSON has it."""
        return dump_record(self)


@dataclass(frozen=True)
class Figures:
    """The scheduler's figures, and the answer of the `metrics` verb (where `written` is the relay's time)."""

    written: float
    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, obj: object) -> Figures:
        """Read figures."""
        fields = Fields(obj)
        fields.version()
        return cls(
            written=fields.number("written", 0, MAX_TIME),
            samples=tuple(Sample.parse(item, path) for path, item in fields.items("samples")),
        )

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)


# --- What the wire's frames carry -----------------------------------------------------------------------


class RequestHead(NamedTuple):
    """A request as the VM asks for it; `length` is the number of bytes of the body to come.

    `breaks`: how many attempts of this request broke an instance before; sent to minor 1 and newer alone.
    `places`: how many places of the model it takes; sent to minor 2 and newer alone.
    """

    id: str
    model: str
    method: str
    path: str
    user: str
    class_: str
    length: int
    affinity: str = ""
    breaks: int = 0
    places: int = 1

    @classmethod
    def parse(cls, obj: object) -> RequestHead:
        """Read a request's head; unknown fields are refused."""
        fields = Fields(obj)
        head = cls(
            id=fields.text("id", REQUEST_ID),
            model=fields.text("model", MODEL_NAME),
            method=fields.choice("method", ("POST",)),
            path=fields.choice("path", tuple(PATHS)),
            user=fields.text("user", USER),
            class_=fields.choice("class", CLASSES),
            length=fields.integer("length", 1, 1 << 40),
            affinity=fields.text("affinity", AFFINITY, ""),
            breaks=fields.integer("breaks", 0, MAX_COUNT, 0),
            places=fields.integer("places", 1, MAX_COUNT, 1),
        )
        fields.done()
        return head

    @classmethod
    def read(cls, raw: bytes) -> RequestHead:
        """Read a head from its JSON. Raises RecordError."""
        found = _REQUEST_SPELLING.fullmatch(raw.decode("latin-1"))
        if found is None:
            return cls.parse(decode_json(raw))
        name, model, method, path, user, class_, length, affinity = found.groups()
        return cls(name, model, method, path, user, class_, int(length), affinity)

    def encode(self) -> bytes:
        """Return the head's compact JSON; its fields must be of the forms that `parse` takes."""
        name, model, method, path, user, class_, length, affinity, breaks, places = self
        more = (f',"breaks":{breaks}' if breaks else "") + (f',"places":{places}' if places > 1 else "")
        return (
            f'{{"id":"{name}","model":"{model}","method":"{method}","path":"{path}","user":"{user}",'
            f'"class":"{class_}","length":{length},"affinity":"{affinity}"{more}}}'
        ).encode("ascii")

    def dump(self) -> dict[str, Any]:
        """Return the head as JSON has it."""
        return {
            "id": self.id,
            "model": self.model,
            "method": self.method,
            "path": self.path,
            "user": self.user,
            "class": self.class_,
            "length": self.length,
            "affinity": self.affinity,
            **({"breaks": self.breaks} if self.breaks else {}),
            **({"places": self.places} if self.places > 1 else {}),
        }


# The spellings that `dump` and a compact encoder give. What matches needs no JSON parser and no further
# check, at a fifth of the cost for each request; every other spelling is parsed.
_REQUEST_SPELLING = re.compile(
    rf'\{{"id":"({REQUEST_ID.pattern})","model":"({MODEL_NAME.pattern})","method":"(POST)",'
    rf'"path":"({_any_of(PATHS)})","user":"({USER.pattern})","class":"({_any_of(CLASSES)})",'
    rf'"length":([1-9][0-9]{{0,11}}),"affinity":"({AFFINITY.pattern})"\}}'
)
_INSTANCE_SPELLING = re.compile(
    rf'\{{"id":"({REQUEST_ID.pattern})","method":"(GET|POST)","path":"({_any_of(INSTANCE_PATHS)})",'
    rf'"length":(0|[1-9][0-9]{{0,11}})\}}'
)
_RESPONSE_SPELLING = re.compile(
    rf'\{{"status":([1-5][0-9][0-9]),"content_type":"({_any_of(CONTENT_TYPES)})",'
    rf'"instance":"({_INSTANCE_OR_NONE.pattern})"\}}'
)


class InstanceRequest(NamedTuple):
    """A request as a relay asks a front for it; `length` is that of the body to come, in bytes.

    `places`: how many places of the instance it takes; sent to minor 2 and newer alone.
    """

    id: str
    method: str
    path: str
    length: int
    places: int = 1

    @classmethod
    def parse(cls, obj: object) -> InstanceRequest:
        """Read a request's head; unknown fields are refused."""
        fields = Fields(obj)
        head = cls(
            id=fields.text("id", REQUEST_ID),
            method=fields.choice("method", ("GET", "POST")),
            path=fields.choice("path", INSTANCE_PATHS),
            length=fields.integer("length", 0, 1 << 40),
            places=fields.integer("places", 1, MAX_COUNT, 1),
        )
        fields.done()
        return head

    @classmethod
    def read(cls, raw: bytes) -> InstanceRequest:
        """Read a head from its JSON. Raises RecordError."""
        found = _INSTANCE_SPELLING.fullmatch(raw.decode("latin-1"))
        if found is None:
            return cls.parse(decode_json(raw))
        name, method, path, length = found.groups()
        return cls(name, method, path, int(length))

    def encode(self) -> bytes:
        """Return the head's compact JSON; its fields must be of the forms that `parse` takes."""
        name, method, path, length, places = self
        more = f',"places":{places}' if places > 1 else ""
        return f'{{"id":"{name}","method":"{method}","path":"{path}","length":{length}{more}}}'.encode(
            "ascii"
        )

    def dump(self) -> dict[str, Any]:
        """Return the head as JSON has it."""
        more = {"places": self.places} if self.places > 1 else {}
        return {"id": self.id, "method": self.method, "path": self.path, "length": self.length, **more}


class ResponseHead(NamedTuple):
    """The start of an answer."""

    status: int
    content_type: str
    instance: str = ""

    @classmethod
    def parse(cls, obj: object) -> ResponseHead:
        """Read a response's head."""
        fields = Fields(obj)
        return cls(
            status=fields.integer("status", 100, 599),
            content_type=fields.choice("content_type", CONTENT_TYPES),
            instance=fields.text("instance", _INSTANCE_OR_NONE, ""),
        )

    @classmethod
    def read(cls, raw: bytes) -> ResponseHead:
        """Read a head from its JSON. Raises RecordError."""
        return _read_response(raw)

    def encode(self) -> bytes:
        """Return the head's compact JSON."""
        return _encode_response(self)

    def dump(self) -> dict[str, Any]:
        """Return the head as JSON has it."""
        return {"status": self.status, "content_type": self.content_type, "instance": self.instance}


# An instance begins its answers with one of very few heads.
@functools.lru_cache(maxsize=256)
def _read_response(raw: bytes) -> ResponseHead:
    found = _RESPONSE_SPELLING.fullmatch(raw.decode("latin-1"))
    if found is None:
        return ResponseHead.parse(decode_json(raw))
    status, content_type, instance = found.groups()
    return ResponseHead(int(status), content_type, instance)


@functools.lru_cache(maxsize=256)
def _encode_response(head: ResponseHead) -> bytes:
    return encode_json(head.dump())


@dataclass(frozen=True)
class ErrorHead:
    """Why a stream is over; `retry_after` in seconds.

    `breaks`: how many attempts of the request broke an instance so far, those of its head included.
    """

    code: str
    message: str
    retry_after: Optional[float] = None
    breaks: int = 0

    @classmethod
    def parse(cls, obj: object) -> ErrorHead:
        """Read an error frame's payload."""
        fields = Fields(obj)
        return cls(
            code=fields.choice("code", tuple(CODES)),
            message=fields.text("message", PRINTABLE),
            retry_after=fields.optional_number("retry_after", 0, 86_400),
            breaks=fields.integer("breaks", 0, MAX_COUNT, 0),
        )

    def dump(self) -> dict[str, Any]:
        """Return the payload as JSON has it."""
        document = dump_record(self)
        if not self.breaks:
            del document["breaks"]
        return document


@dataclass(frozen=True)
class DemandHead:
    """The payload of a demand frame: requests that wait, by model."""

    models: dict[str, int]

    @classmethod
    def parse(cls, obj: object) -> DemandHead:
        """Read a demand frame; unknown fields are refused."""
        fields = Fields(obj)
        models = fields.mapping("models", MODEL_NAME)
        counts = Fields(models, "models")
        head = cls(models={name: counts.integer(name, 0, MAX_COUNT) for name in models})
        fields.done()
        return head

    def dump(self) -> dict[str, Any]:
        """Return the payload as JSON has it."""
        return dump_record(self)


@dataclass(frozen=True)
class ModelStatus:
    """One model as the relay describes it to the proxy; `created` as in the routing table.

    `running` counts the relay's requests on instances that take further ones, `draining` those on others.
    """

    name: str
    status: str
    ready: int
    starting: int
    running: int
    concurrency: int
    expected_ready: Optional[float]
    context_length: int
    capabilities: tuple[str, ...]
    groups: tuple[str, ...]
    description: str
    draining: int = 0
    usage: str = "none"
    cache_isolation: str = "none"
    created: int = 0

    @classmethod
    def parse(cls, obj: object, where: str = "") -> ModelStatus:
        """Read one model of a models answer."""
        fields = Fields(obj, where)
        return cls(
            name=fields.text("name", MODEL_NAME),
            status=fields.choice("status", STATUSES),
            ready=fields.integer("ready", 0, MAX_COUNT),
            starting=fields.integer("starting", 0, MAX_COUNT),
            running=fields.integer("running", 0, MAX_COUNT),
            concurrency=fields.integer("concurrency", 1, 100_000),
            expected_ready=fields.optional_number("expected_ready", 0, MAX_TIME),
            context_length=fields.integer("context_length", 1, 100_000_000),
            capabilities=_capabilities(fields),
            groups=fields.texts("groups", GROUP),
            description=fields.text("description", PRINTABLE),
            draining=fields.integer("draining", 0, MAX_COUNT, 0),
            usage=fields.choice("usage", USAGES, "none"),
            cache_isolation=fields.choice("cache_isolation", CACHE_ISOLATIONS, "none"),
            created=fields.integer("created", 0, int(MAX_TIME), 0),
        )


@dataclass(frozen=True)
class ModelsAnswer:
    """The answer of the `models` verb."""

    cluster: str
    models: tuple[ModelStatus, ...]

    @classmethod
    def parse(cls, obj: object) -> ModelsAnswer:
        """Read a models answer."""
        fields = Fields(obj)
        fields.version()
        return cls(
            cluster=fields.text("cluster", GROUP),
            models=tuple(ModelStatus.parse(item, path) for path, item in fields.items("models")),
        )

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)


# --- Files ----------------------------------------------------------------------------------------------


def decode_json(raw: bytes) -> object:
    """Decode one JSON document in UTF-8; duplicate keys and NaN are refused. Raises RecordError."""
    try:
        # Of bytes, `json` would guess the encoding: UTF-16 then is one document here and another elsewhere.
        return _DECODER.decode(raw.decode("utf-8"))
    except RecordError:
        raise
    except RecursionError:
        raise RecordError("", "is nested too deeply") from None
    except ValueError as error:
        raise RecordError("", f"is not JSON in UTF-8 ({type(error).__name__})") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise RecordError("", "has a key twice in one object")
    return unique


def _no_constant(name: str) -> None:
    raise RecordError("", f"has {name}, which is not JSON")


# Made once: `json.loads` and `json.dumps` with options would make one for each document.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def encode_json(document: dict[str, Any]) -> bytes:
    """Encode one JSON document compactly, in ASCII."""
    return _ENCODER.encode(document).encode("ascii")


def read_json(path: Union[str, Path], limit: int = MAX_DOCUMENT_BYTES) -> object:
    """Read one JSON file of at most `limit` bytes. Raises OSError and RecordError."""
    # Another account may write the folder: to open a pipe put in the file's place would wait for ever.
    with open(path, "rb", opener=_open_at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise RecordError("", "is not a regular file")
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise RecordError("", f"is larger than {limit} bytes")
    return decode_json(raw)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def write_json(
    path: Union[str, Path], document: object, mode: int = 0o600, group: Optional[int] = None
) -> None:
    """Write a JSON file whole: a temporary file beside it, synced, then renamed into place."""
    write_text(path, json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n", mode, group)


def write_text(path: Union[str, Path], text: str, mode: int = 0o600, group: Optional[int] = None) -> None:
    """Write a text file whole, by rename, with its mode (and group id) set before it appears."""
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if group is not None:
                os.fchown(stream.fileno(), -1, group)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
