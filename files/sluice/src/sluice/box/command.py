"""`sluice box`: a job's script runs it to start the engine in its box and to end it.

It ignores SIGTERM: Slurm sends it to all processes of a job at once, and only the engine must react to it.
SIGUSR2 from the script asks the engine to end. If this process is killed, the box ends too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sluice.box import bubblewrap, check, environment, inside, node
from sluice.contracts.models import BOXES
from sluice.errors import EXIT_FAILURE, ConfigError

# The environment of bubblewrap and of the box's first process; the engine's comes through a descriptor.
BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sluice box`."""
    parser.add_argument("--check", action="store_true", help="say whether this node can create a box")
    parser.add_argument("--kind", choices=BOXES, default="bubblewrap", help="the box (default: %(default)s)")
    parser.add_argument("--private", default="", help="the engine's own folder")
    parser.add_argument("--shared", default="", help="the folder below it that contains its socket")
    parser.add_argument(
        "--environment",
        default="",
        help="file with the engine's variables, each ended by a NUL; it is removed",
    )
    parser.add_argument("--read", action="append", default=[], help="file or folder that the engine may read")
    parser.add_argument("--device", action="append", default=[], help="pattern of additional device nodes")
    parser.add_argument("--network", action="store_true", help="with the node's network")
    parser.add_argument(
        "--door",
        type=_door,
        default=None,
        help="PORT@PATH: socket that passes on connections to a port in the box",
    )
    parser.add_argument("--inside", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("engine", nargs="*", help="the engine's command, after --")


def _door(text: str) -> tuple[int, str]:
    port, _, path = text.partition("@")
    if not (port.isdecimal() and path.startswith("/")):
        raise argparse.ArgumentTypeError(f"{text!r} is not PORT@PATH")
    return int(port), path


def run(args: argparse.Namespace) -> int:
    """Run the engine to its end and return its exit status. Raises ConfigError."""
    if args.check:
        return _check()
    if not args.engine:
        raise ConfigError("box: the engine's command is missing; write it after --")
    if args.inside >= 0:
        with os.fdopen(args.inside, "rb") as stream:
            return inside.serve(args.engine, environment.read(stream.read()), args.door)
    if not (args.private and args.shared and args.environment):
        raise ConfigError("box: --private, --shared and --environment are needed")
    variables = environment.of_engine(_taken(Path(args.environment)), node.account())
    return (_boxed if args.kind == "bubblewrap" else _bare)(args, variables)


def _check() -> int:
    problem = check.problem()
    print(f"sluice: box: {problem}" if problem else "sluice: box: this node can create one")
    return EXIT_FAILURE if problem else 0


def _taken(path: Path) -> dict[str, str]:
    try:
        data = path.read_bytes()
        path.unlink()
        return environment.read(data)
    except (OSError, ValueError) as error:
        raise ConfigError(f"box: --environment: {path}: {error}") from None


def _bare(args: argparse.Namespace, variables: dict[str, str]) -> int:
    """Run the engine without bubblewrap: unboxed, or in a container that its command starts."""
    for number in IGNORED:
        # A handler that does nothing: the engine would inherit SIG_IGN.
        signal.signal(number, lambda *_: None)
    try:
        engine = subprocess.Popen(args.engine, env=variables, cwd=args.private)
    except OSError as error:
        print(f"sluice: box: {args.engine[0]}: {error.strerror}", file=sys.stderr)
        return inside.NOT_FOUND
    signal.signal(signal.SIGUSR2, lambda *_: engine.terminate())
    return inside.exit_status(engine.wait())


def _boxed(args: argparse.Namespace, variables: dict[str, str]) -> int:
    program = check.program()
    if not program:
        raise ConfigError(f"box: {check.advice()}")
    outside = str(Path(args.private).parent)
    closed = [outside, *_folders_of_jobs()]
    box = node.box(args.private, args.shared, args.read, args.device, args.network, closed)
    for number in IGNORED:
        # bubblewrap inherits this: it must live until the engine has ended.
        signal.signal(number, signal.SIG_IGN)
    made = {path: _readable(text.encode()) for path, text in node.made_files(args.network).items()}
    given = _readable(environment.dump(variables))
    news, told = os.pipe()
    argv = bubblewrap.command(replace(box, files=tuple(made.items())), program, told)
    argv += [sys.executable, "-I", "-S", os.path.realpath(sys.argv[0]), "box", "--inside", str(given)]
    argv += [*([f"--door={args.door[0]}@{args.door[1]}"] if args.door else []), "--"]
    kept = (told, given, *made.values())
    wrapper = subprocess.Popen([*argv, *args.engine], env=BARE, cwd="/", pass_fds=kept)
    for descriptor in kept:
        os.close(descriptor)
    first = _first_process(news)
    if first:
        signal.signal(signal.SIGUSR2, lambda *_: _ask(first))
    status = inside.exit_status(wrapper.wait())
    if not first:
        print(f"sluice: box: the node could not create it; {check.advice()}", file=sys.stderr)
    return status


def _folders_of_jobs() -> Sequence[str]:
    """Return the account's home and the folder with the records of all jobs."""
    found = [node.home()]
    job = os.environ.get("SLUICE_JOB_DIR", "")
    if job:
        found.append(str(Path(job).parent))
    return [path for path in found if path not in ("", "/") and Path(path).is_dir()]


def _readable(data: bytes) -> int:
    """Return a descriptor from which the data can be read."""
    descriptor = os.memfd_create("sluice")
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _first_process(news: int) -> int:
    """Return the node's process id of the box's first process; 0 if no box was created."""
    data = b""
    with os.fdopen(news, "rb") as stream:
        data = stream.read(4096)
    try:
        return int(json.loads(data)["child-pid"])
    except (ValueError, KeyError, TypeError):
        return 0


def _ask(first: int) -> None:
    try:
        os.kill(first, signal.SIGUSR2)
    except ProcessLookupError:
        return
