"""Which of sbatch's options a model's definition may set, in `slurm.extra` and in its script. Pure.

sbatch takes any beginning of an option's name that no other option begins with, several short options in one
word, and lines of other batch systems: each is read here as sbatch reads it. Options that are not known pass:
sites have their own, by plugins.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator

# Options that a field stands for: in `extra` they would contradict what the scheduler believes.
FIELDS = {
    "account": "account",
    "cpus-per-task": "cpus",
    "gpus": "gpus",
    "gpus-per-node": "gpus",
    "gres": "gres",
    "mem": "memory_mb",
    "nice": "nice",
    "no-requeue": "requeue",
    "nodes": "nodes",
    "ntasks": "nodes",
    "ntasks-per-node": "nodes",
    "partition": "partition",
    "priority": "nice",
    "qos": "qos",
    "requeue": "requeue",
    "reservation": "reservation",
    "signal": "warn",
    "time": "time",
    "time-min": "time_min",
}
# What the scheduler says itself, what changes what sbatch answers, makes one submission several jobs, another
# account's or another cluster's, holds it up, or ends it at a moment of its own.
RESERVED = frozenset(
    (
        *("job-name", "output", "error", "input", "open-mode", "chdir", "comment", "wrap"),
        *("export", "export-file", "get-user-env"),
        *("parsable", "quiet", "wait", "test-only", "help", "usage", "version", "autocomplete"),
        *("array", "uid", "gid", "cluster", "clusters"),
        *("hold", "begin", "dependency", "deadline"),
    )
)
SHORT = {
    "J": "job-name",
    "o": "output",
    "e": "error",
    "i": "input",
    "D": "chdir",
    "Q": "quiet",
    "W": "wait",
    "a": "array",
    "M": "clusters",
    "H": "hold",
    "b": "begin",
    "d": "dependency",
    "h": "help",
    "u": "usage",
    "V": "version",
}
# Short options that take no value: after one of them others may follow in the same word.
FLAGS = "HOQVWhsuv"
DIRECTIVE = re.compile(r"^#SBATCH(.*)$", re.MULTILINE)
# sbatch takes these for its own where it finds them.
OTHERS = re.compile(r"^#(?:SLURM|PBS|BSUB)\b", re.MULTILINE)
SEVERAL = ("hetjob", "packjob")


def refused_extra(option: str) -> str:
    """Return why an option, as in `--name=value`, must not stand in `slurm.extra`; "" if it may."""
    name = option.split("=", 1)[0]
    fields = sorted({FIELDS[one] for one in _meant(name, FIELDS)})
    if fields:
        return f"use slurm.{' or slurm.'.join(fields)} instead of {name}"
    return _sets(name) if _meant(name, RESERVED) else ""


def refused_script(text: str) -> list[str]:
    """Return what is wrong with the options in a script, one phrase each."""
    found = [f"has {line[0]} lines, which sbatch reads as its own options" for line in OTHERS.finditer(text)]
    for line in DIRECTIVE.finditer(text):
        try:
            words = shlex.split(line[1], comments=True)
        except ValueError:
            found.append(f"has an unmatched quotation mark: {line[0].strip()[:80]!r}")
            continue
        if words and words[0].lower() in SEVERAL:
            found.append(f"sets {words[0]}, which makes several jobs from one")
        found += [_sets(name) for word in words for name in _reserved(word)]
    return list(dict.fromkeys(found))


def _meant(name: str, options: Collection[str]) -> list[str]:
    """Return which of some options a name such as `--clus` may mean to sbatch."""
    said = name[2:]
    if said in FIELDS or said in RESERVED:
        return [said] if said in options else []
    return [one for one in options if said and one.startswith(said)]


def _reserved(word: str) -> Iterator[str]:
    """Yield the reserved options in one word of a script, as they are written there."""
    if word.startswith("--"):
        name = word.split("=", 1)[0]
        if _meant(name, RESERVED):
            yield name
    elif word.startswith("-"):
        for letter in word[1:]:
            if letter in SHORT:
                yield f"-{letter}"
            if letter not in FLAGS:
                return


def _sets(name: str) -> str:
    meant = _meant(name, RESERVED) if name.startswith("--") else [SHORT[name[1]]]
    if "clusters" in meant or "cluster" in meant:
        return f"sets {name}: its jobs would run on another cluster, where nobody follows them"
    return f"sets {name}, which the scheduler decides"
