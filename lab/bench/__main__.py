"""The benchmark: `python -m lab.bench`, or `make bench`. docs/benchmarks.md says how to read it.

Everything runs on loopback, as root: sshd and nginx run in namespaces of their own. Only the output remains.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from lab.bench import prepare
from lab.bench.processes import BenchError

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bench"


def main(argv: list[str]) -> int:
    """Run the scenarios; return 0 if all ran, 1 if one could not run, 2 for a wrong argument."""
    arguments = _arguments(argv)
    prepare.paths(arguments.out)
    from lab.bench import runner

    if arguments.list:
        runner.list_scenarios()
        return 0
    if os.geteuid() != 0:
        print("bench: it starts an sshd and an nginx in namespaces: run it as root", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    prepare.machine(arguments.out)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return runner.run(arguments)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="run this scenario alone; may be repeated"
    )
    parser.add_argument(
        "--peers", action="store_true", help="compare with other gateways, from their packages"
    )
    parser.add_argument(
        "--quick", action="store_true", help="short runs: to see that it works, not to be quoted"
    )
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument(
        "--profile",
        metavar="PART",
        choices=("proxy", "relay", "front", "engine"),
        help="sample where this part's time goes under load, with py-spy",
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, help="directory of the output (default: build/bench)"
    )
    return parser.parse_args(argv)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
