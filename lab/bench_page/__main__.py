"""The page's benchmark: `python -m lab.bench_page`, or `make bench-page`; docs/benchmarks.md explains it.

Web, its provider and nginx run on loopback, as root (nginx in a namespace of its own); Chromium is Debian's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from lab.bench import prepare

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bench-page"


def main(argv: list[str]) -> int:
    """Run the measurements and write table.txt and results.json; 0, or 2 for whoever is not root."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.bench_page", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this measurement alone")
    parser.add_argument("--quick", action="store_true", help="short: to see that it works, not to be quoted")
    parser.add_argument("--out", type=Path, default=OUT, help="directory of the output")
    arguments = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("bench-page: it starts an nginx in a namespace: run it as root", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    prepare.paths(arguments.out)
    from lab.bench import report
    from lab.bench_page import measurements
    from lab.bench_page.place import running

    names = [one.name for one in measurements.ALL]
    unknown = sorted(set(arguments.only) - set(names))
    if unknown:
        print(
            f"bench-page: no measurement {', '.join(unknown)}: choose from {', '.join(names)}",
            file=sys.stderr,
        )
        return 2
    head, groups = report.machine(), []
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), quick=arguments.quick) as place:
        for one in measurements.ALL:
            if arguments.only and one.name not in arguments.only:
                continue
            print(f"[bench-page] {one.title}", flush=True)
            figures = one.run(place)
            groups.append((report.Scenario(one.name, one.title, lambda bench: []), figures))
    print(report.write(arguments.out, groups, head, keep=bool(arguments.only)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
