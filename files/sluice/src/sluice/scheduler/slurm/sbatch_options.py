"""Which of sbatch's options a model's definition may set, in `slurm.extra` and in its script. Pure.

sbatch accepts unambiguous abbreviations of option names, several short options in one word, and the
directives of other batch systems; all are read here as sbatch reads them. Unknown options are allowed:
a site's plugins may define some.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator

# Options for which a model entry has a field (the value). In `extra` they could contradict that field.
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
# Options that the scheduler sets itself, and options that change sbatch's output, make several jobs of one
# submission, use another account or cluster, delay the job, or end it at a given time.
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
# Short options without a value: others may follow in the same word.
FLAGS = "HOQVWhsuv"
DIRECTIVE = re.compile(r"^#SBATCH(.*)$", re.MULTILINE)
# sbatch reads these directives too.
OTHERS = re.compile(r"^#(?:SLURM|PBS|BSUB)\b", re.MULTILINE)
SEVERAL = ("hetjob", "packjob")


def refused_extra(option: str) -> str:
    """Return why an option of the form `--name=value` is not allowed in `slurm.extra`; "" if it is."""
    name = option.split("=", 1)[0]
    fields = sorted({FIELDS[one] for one in _meant(name, FIELDS)})
    if fields:
        return f"use slurm.{' or slurm.'.join(fields)} instead of {name}"
    return _sets(name) if _meant(name, RESERVED) else ""


def refused_script(text: str) -> list[str]:
    """Return what is wrong with the options in a script, one phrase for each problem."""
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
    """Return which of `options` sbatch may take a name such as `--clus` for."""
    said = name[2:]
    if said in FIELDS or said in RESERVED:
        return [said] if said in options else []
    return [one for one in options if said and one.startswith(said)]


def _reserved(word: str) -> Iterator[str]:
    """Yield the reserved options in one word of a script, as they are written in it."""
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
