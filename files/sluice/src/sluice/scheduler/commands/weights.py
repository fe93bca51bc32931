"""`sluice weights`: writes and checks the manifest of weights, on a login node and in each job."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from sluice.contracts.values import HEX64
from sluice.errors import SluiceError
from sluice.scheduler.models import weights
from sluice.scheduler.models.weights import GGUF, SAFETENSORS, Weights

LOADS = {"safetensors": (SAFETENSORS,), "gguf": (GGUF,), "any": (SAFETENSORS, GGUF)}
TELL_EVERY = 5.0
GIB = 1 << 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `sluice weights`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = _add(
        actions, "make", ("read weights and write their manifest; print its SHA-256 for the model entry")
    )
    make.add_argument("--replace", action="store_true", help="replace a manifest of other weights")
    check = _add(actions, "check", "compare weights with their manifest")
    check.add_argument("--manifest", type=_sha256, metavar="HEX", help="the model entry's `manifest`")
    check.add_argument(
        "--quick",
        action="store_true",
        help=(
            "check only names, sizes and small files, as each job does; without --manifest, only the formats"
        ),
    )
    check.add_argument(
        "--loads", choices=sorted(LOADS), default="any", help=("the format that the engine loads")
    )


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text)
    parser.add_argument("path", type=Path, metavar="DIR", help="the weights: a folder, or one GGUF file")
    return parser


def _sha256(text: str) -> str:
    if not HEX64.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a SHA-256 in 64 lower-case hexadecimal digits")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action; return the exit status."""
    found = Weights.at(arguments.path)
    return _make(arguments, found) if arguments.action == "make" else _check(arguments, found)


def _make(arguments: argparse.Namespace, found: Weights) -> int:
    refuse(arguments.path, weights.formats(found, LOADS["any"]))
    before = weights.read(found.manifest) if found.manifest.exists() else {}
    listed = weights.make(found, Progress(found.size).add)
    changed = [name for name, one in listed.items() if name in before and before[name].sha256 != one.sha256]
    if changed and not arguments.replace:
        raise SluiceError(
            "invalid_request",
            f"{found.manifest} belongs to other weights ({', '.join(changed[:5])}); use --replace to "
            "replace it",
        )
    weights.write(found, listed)
    print(weights.digest(found.manifest))
    return 0


def _check(arguments: argparse.Namespace, found: Weights) -> int:
    problems = weights.formats(found, LOADS[arguments.loads])
    if not problems and arguments.quick:
        problems = weights.quick(found, arguments.manifest) if arguments.manifest else []
    elif not problems:
        problems = weights.full(found, arguments.manifest or "", Progress(found.size).add)
    refuse(arguments.path, problems)
    if not arguments.quick:
        print(f"{arguments.path}: {len(found.files)} files, {found.size / GIB:.1f} GiB, match their manifest")
    return 0


def refuse(path: Path, problems: list[str]) -> None:
    """Raise a SluiceError that lists the problems, if there are any."""
    if not problems:
        return
    told = [f"  {problem}" for problem in problems[: weights.MOST_PROBLEMS]]
    if len(problems) > len(told):
        told.append(f"  and {len(problems) - len(told)} more")
    raise SluiceError("invalid_request", "\n".join([f"weights {path}: refused", *told]))


class Progress:
    """Prints the progress of reading `total` bytes to standard error every few seconds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = self._told = time.monotonic()

    def add(self, size: int) -> None:
        """Count `size` more bytes."""
        self._done += size
        now = time.monotonic()
        if now - self._told >= TELL_EVERY:
            self._told = now
            rate = self._done / (now - self._began)
            left = (self._total - self._done) / rate
            print(
                f"{self._done / GIB:.1f} of {self._total / GIB:.1f} GiB, {rate / GIB:.2f} GiB/s, "
                f"about {left:.0f} s left",
                file=sys.stderr,
            )
