"""Registers and removes models: checks entry and script, and writes them as files owned by root."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from sluice.contracts.encoding import decode_json
from sluice.contracts.files import write_text
from sluice.contracts.models import ModelEntry
from sluice.contracts.values import MODEL_NAME
from sluice.errors import RecordError, SluiceError
from sluice.scheduler.models import orders, weights
from sluice.scheduler.models.catalogue import ANYTHING, MAX_ENTRY_BYTES, MAX_SCRIPT_BYTES, Allowed, breaches
from sluice.scheduler.outside import untrusted_files
from sluice.scheduler.slurm import sbatch_options

FILE_MODE = 0o640
MOST_ERRORS = 50
# Valid values that replace wrong ones, so that the check can find the next error.
PLAUSIBLE: dict[str, Any] = {
    "name": "model",
    "engine": "engine",
    "weights": "/weights",
    "context_length": 1,
    "slurm": {"partition": "p", "time": 1, "cpus": 1, "memory_mb": 1},
    "burst": {"max": 1},
}
PLAUSIBLE_ITEMS = {
    "capabilities": "chat",
    "groups": "all",
    "engine_args": "-",
    "modules": "m",
    "extra": "--exclusive",
}
_FIELD = re.compile(r"([a-z_]+)(?:\.([a-z_]+))?(?:\[([0-9]+)\])?")


@dataclass(frozen=True)
class Files:
    """A model's two files as text; None for a file that does not exist."""

    entry: Optional[str]
    script: Optional[str]

    def document(self) -> dict[str, Optional[str]]:
        """Return both for a JSON document."""
        return {"entry": self.entry, "script": self.script}


@dataclass(frozen=True)
class Change:
    """What a registration or removal changes, or would change."""

    name: str
    before: Files
    after: Files

    @property
    def changed(self) -> bool:
        """Whether anything differs."""
        return self.before != self.after

    def document(self) -> dict[str, Any]:
        """Return the JSON document for playbooks."""
        return {
            "version": 1,
            "name": self.name,
            "changed": self.changed,
            "before": self.before.document(),
            "after": self.after.document(),
        }


def prepare(models_dir: str, entry: Path, script: Path, allowed: Allowed = ANYTHING) -> Change:
    """Check an entry and its script, and return what registering them would change.

    Raises a SluiceError that lists everything that is wrong.
    """
    document, errors = _entry(entry, allowed)
    text, problems = _script(script)
    errors += problems
    if errors:
        raise SluiceError("invalid_request", "\n".join([f"{entry}: refused", *errors]))
    checked = ModelEntry.parse(document)
    errors = weights_errors(checked)
    if errors:
        raise SluiceError("invalid_request", "\n".join([f"{entry}: refused", *errors]))
    wanted = Files(entry_text(checked), text)
    return Change(checked.name, present(models_dir, checked.name), wanted)


def removal(models_dir: str, name: str) -> Change:
    """Return what removing a model would change. Raises SluiceError for what is not a model name."""
    if not MODEL_NAME.fullmatch(name):
        raise SluiceError("invalid_request", f"{name!r} is not a model name ({MODEL_NAME.pattern})")
    return Change(name, present(models_dir, name), Files(None, None))


def carry_out(models_dir: str, change: Change) -> None:
    """Make the change, one file after the other. Raises OSError.

    The script is written first, and the entry is removed first, so that no entry is ever without its script.
    """
    directory = Path(models_dir)
    entry_path, script_path = _paths(models_dir, change.name)
    group = directory.stat().st_gid
    if change.after.script is not None and change.after.script != change.before.script:
        write_text(script_path, change.after.script, FILE_MODE, group)
    if change.after.entry is not None and change.after.entry != change.before.entry:
        write_text(entry_path, change.after.entry, FILE_MODE, group)
    if change.after.entry is None:
        entry_path.unlink(missing_ok=True)
        script_path.unlink(missing_ok=True)
        orders.path(models_dir, change.name).unlink(missing_ok=True)


def entry_text(entry: ModelEntry) -> str:
    """Return an entry as its file has it: with all defaults, one field per line."""
    return json.dumps(entry.dump(), indent=2, sort_keys=True) + "\n"


def present(models_dir: str, name: str) -> Files:
    """Return a model's current files. Raises SluiceError if they cannot be read."""
    entry, script = _paths(models_dir, name)
    return Files(_text(entry), _text(script))


def entry_errors(document: object, allowed: Allowed = ANYTHING) -> list[str]:
    """Return everything that is wrong with an entry, one line each, also where it asks for too much.

    The parser stops at the first error, so each wrong value is replaced by a valid one until none is left.
    """
    errors: list[str] = []
    rest = copy.deepcopy(document)
    while len(errors) < MOST_ERRORS:
        try:
            entry = ModelEntry.parse(rest)
        except RecordError as error:
            errors.append(f"  {error}")
            if not isinstance(rest, dict) or not _repair(rest, error.field):
                break
        else:
            errors += [
                f"  {problem}"
                for problem in [*_refused_options(entry), *_warned_at_start(entry), *breaches(entry, allowed)]
            ]
            break
    return errors


def _repair(document: dict[str, Any], field: str) -> bool:
    """Replace or remove the wrong `field`; return whether that was possible."""
    target, plausible, key = document, PLAUSIBLE, field
    found = _FIELD.fullmatch(field)
    if found and field not in document:
        key = found[1]
        if found[2] and isinstance(document.get(key), dict) and key in PLAUSIBLE:
            target, plausible, key = document[key], PLAUSIBLE[key], found[2]
        if found[3] and key in PLAUSIBLE_ITEMS:
            target[key][int(found[3])] = PLAUSIBLE_ITEMS[key]
            return True
    if key not in target and key not in plausible:
        return False
    if key in plausible:
        target[key] = copy.deepcopy(plausible[key])
    else:
        del target[key]
    return True


def _refused_options(entry: ModelEntry) -> list[str]:
    problems = [sbatch_options.refused_extra(option) for option in entry.slurm.extra]
    return [f"slurm.extra[{index}]: {problem}" for index, problem in enumerate(problems) if problem]


def _warned_at_start(entry: ModelEntry) -> list[str]:
    """Return where an instance may get so little wall time that Slurm's warning comes at its start."""
    slurm, burst = entry.slurm, entry.burst
    times = {"slurm.time": slurm.time, "slurm.time_min": slurm.time_min}
    if burst is not None:
        times.update({"burst.time": burst.time, "burst.time_min": burst.time_min})
    return [
        (
            f"slurm.warn: is {slurm.warn} s, but {name} is only {minutes} min: the warning would come at "
            "the start"
        )
        for name, minutes in times.items()
        if minutes and slurm.warn >= minutes * 60
    ]


def weights_errors(entry: ModelEntry) -> list[str]:
    """Return what is wrong with a model's weights, by the quick check of each job; [] if they are not here.

    Not every host on which models are registered mounts the weights, and reading all of them takes minutes.
    """
    path = Path(entry.weights)
    if not path.exists():
        return []
    try:
        found = weights.Weights.at(path)
        problems = weights.formats(found, (weights.SAFETENSORS, weights.GGUF))
        if entry.manifest and not problems:
            problems = weights.quick(found, entry.manifest)
    except SluiceError as error:
        problems = [error.message]
    return [f"  weights {path}: {problem}" for problem in problems[: weights.MOST_PROBLEMS]]


def _entry(path: Path, allowed: Allowed) -> tuple[object, list[str]]:
    text = _given(path, MAX_ENTRY_BYTES)
    try:
        document = decode_json(text.encode())
    except RecordError as error:
        return None, [f"  {error}"]
    return document, entry_errors(document, allowed)


def _script(path: Path) -> tuple[str, list[str]]:
    text = _given(path, MAX_SCRIPT_BYTES)
    errors = []
    if not text.startswith("#!"):
        errors.append(f"  {path}: does not begin with #!")
    if "\0" in text or "\r" in text:
        errors.append(f"  {path}: holds NUL or carriage return characters")
    errors += [f"  {path}: {problem}" for problem in sbatch_options.refused_script(text)]
    return text, errors


def _given(path: Path, limit: int) -> str:
    try:
        return untrusted_files.at(str(path), limit).decode("utf-8")
    except OSError as error:
        raise SluiceError("invalid_request", f"{path}: {error.strerror}") from None
    except RecordError as error:
        raise SluiceError("invalid_request", str(error)) from None
    except UnicodeDecodeError:
        raise SluiceError("invalid_request", f"{path}: is not UTF-8 text") from None


def _paths(models_dir: str, name: str) -> tuple[Path, Path]:
    return Path(models_dir, f"{name}.json"), Path(models_dir, f"{name}.sbatch")


def _text(path: Path) -> Optional[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SluiceError("internal_error", f"{path}: {error.strerror}; run this as root") from None
