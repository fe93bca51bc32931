"""What all beds of this machine share: which are up, and the kernel's settings before the first one."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from demo.bed import kernel
from demo.bed.errors import BedError
from demo.bed.topology import HOST_NAMES, SUITES, Plan

FOLDER = Path("/run/sluice-beds")


@dataclass(frozen=True)
class Entry:
    """One bed as registered: where its state lies, what it has, whether its hosts have all come up."""

    name: str
    subnet: str
    state: str
    layers: str = "bare"
    complete: bool = False
    hosts: tuple[str, ...] = HOST_NAMES
    suite: str = SUITES[0]


def entries() -> list[Entry]:
    """All registered beds. Those from before the machine's last start are not counted."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.pop("boot") == boot_id():
            found.append(Entry(**{**record, "hosts": tuple(record.get("hosts", HOST_NAMES))}))
    return found


def find(name: str) -> Entry | None:
    """The registered bed of this name."""
    return next((entry for entry in entries() if entry.name == name), None)


def neighbour(plan: Plan) -> Entry | None:
    """Another bed that has this one's subnet."""
    others = (entry for entry in entries() if entry.name != plan.name)
    return next((entry for entry in others if entry.subnet == plan.subnet), None)


def write(entry: Entry) -> None:
    """Register a bed, or change its entry."""
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    path = FOLDER / f"{entry.name}.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(entry) | {"boot": boot_id()}), encoding="utf-8")
    fresh.rename(path)


def register(entry: Entry) -> None:
    """Register a bed about to come up, and set the kernel's settings as beds need them."""
    with _locked("registry"):
        write(entry)
        kernel.raise_all(_saved_settings())


def unregister(name: str) -> None:
    """Forget a bed; the last one to go restores the kernel's settings."""
    with _locked("registry"):
        (FOLDER / f"{name}.json").unlink(missing_ok=True)
        if not entries():
            kernel.restore_all(_saved_settings())


@contextmanager
def network_lock() -> Iterator[None]:
    """Hold the machine's network settings against other beds for a moment."""
    with _locked("network"):
        yield


@contextmanager
def exclusive(plan: Plan) -> Iterator[None]:
    """Hold a bed for one command at a time."""
    with _locked(f"bed-{plan.name}"):
        yield


def boot_id() -> str:
    """The machine's identity since its last start."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _saved_settings() -> Path:
    """The file's name has the id of the machine's last start: settings from before it do not matter."""
    return FOLDER / f"settings-{boot_id()}"


@contextmanager
def _locked(name: str) -> Iterator[None]:
    if os.geteuid() != 0:
        raise BedError("this needs root: it makes network namespaces and mounts", "run it again with sudo")
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
