"""The models that the inventory put on this host: entry and sbatch script of each, as one pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from sluice.errors import RecordError
from sluice.records import MODEL_NAME, ModelEntry, ModelOrders, decode_json
from sluice.scheduler import orders
from sluice.scheduler.policy import Model

# Entry and script are two files: a pair of which one was renamed into place this recently may be half new.
UNSETTLED = 1.0
WRITING = "is being written"
MAX_ENTRY_BYTES = 1 << 18
MAX_SCRIPT_BYTES = 1 << 20


@dataclass(frozen=True)
class Listed:
    """A usable model."""

    entry: ModelEntry
    script: str
    digest: str

    def model(self) -> Model:
        """Return what the policy needs."""
        entry = self.entry
        asked = entry.slurm
        return Model(
            name=entry.name,
            digest=self.digest,
            min=entry.min,
            max=entry.max,
            concurrency=entry.concurrency,
            idle_stop=entry.idle_stop,
            start_timeout=entry.start_timeout,
            priority=entry.priority,
            burst=0 if entry.burst is None else entry.burst.max,
            gpus=asked.gpus * asked.nodes,
            nodes=asked.nodes,
            warn=asked.warn,
        )


@dataclass(frozen=True)
class Catalogue:
    """`listed` by name; `held` names those that exist but cannot be used now, with the reason.

    `orders` holds what administrators ordered of either. Orders that cannot be read hold their model: they
    may say that it must not run.
    """

    listed: dict[str, Listed] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    orders: dict[str, ModelOrders] = field(default_factory=dict)


def read_catalogue(directory: str, now: float) -> Catalogue:
    """Read all models. Raises OSError if the directory cannot be listed: that is not "no models"."""
    catalogue = Catalogue()
    for path in sorted(Path(directory).iterdir()):
        name = path.stem
        if path.suffix != ".json" or not MODEL_NAME.fullmatch(name):
            continue
        try:
            listed = read_model(Path(directory), name, now)
        except (OSError, RecordError, UnicodeDecodeError) as error:
            catalogue.held[name] = str(error)
        else:
            if listed is None:
                catalogue.held[name] = WRITING
            else:
                catalogue.listed[name] = listed
        _add_orders(catalogue, directory, name)
    return catalogue


def _add_orders(catalogue: Catalogue, directory: str, name: str) -> None:
    try:
        found = orders.read(directory, name)
    except (OSError, RecordError) as error:
        catalogue.listed.pop(name, None)
        catalogue.held[name] = f"orders refused: {error}"
    else:
        if found is not None:
            catalogue.orders[name] = found


def read_model(directory: Path, name: str, now: Optional[float] = None) -> Optional[Listed]:
    """Read one model; None while one of its files is younger than a second (with `now` given).

    Raises OSError, RecordError and UnicodeDecodeError.
    """
    entry_path, script_path = directory / f"{name}.json", directory / f"{name}.sbatch"
    raw, entry_time = _read(entry_path, MAX_ENTRY_BYTES)
    script_raw, script_time = _read(script_path, MAX_SCRIPT_BYTES)
    if now is not None and abs(now - max(entry_time, script_time)) < UNSETTLED:
        return None
    entry = ModelEntry.parse(decode_json(raw))
    if entry.name != name:
        raise RecordError("name", f"is {entry.name}, in a file called {entry_path.name}")
    script = script_raw.decode("utf-8")
    return Listed(entry, script, entry.digest(script))


def _read(path: Path, limit: int) -> tuple[bytes, float]:
    with path.open("rb") as stream:
        raw = stream.read(limit + 1)
        changed = path.stat().st_mtime
    if len(raw) > limit:
        raise RecordError("", f"{path.name} is larger than {limit} bytes")
    return raw, changed
