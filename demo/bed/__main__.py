"""The command line: ``python3 -m demo.bed``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from demo.bed import preflight, registry
from demo.bed.bed import Bed
from demo.bed.errors import BedError
from demo.bed.progress import Progress
from demo.bed.topology import HOST_NAMES, SUITES

_GIB = 1024**3


def main() -> int:
    """Parse the command line and run it; returns the exit status."""
    arguments = _parser().parse_args()
    progress = Progress()
    # Ended by a signal, 'up' stops what it had started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return int(arguments.action(_bed(arguments, progress), arguments, progress))
    except (BedError, ValueError, OSError) as error:
        print(f"bed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bed: interrupted", file=sys.stderr)
        return 130


def _bed(arguments: argparse.Namespace, progress: Progress) -> Bed:
    """Return the bed that the command line names; other options default to the running bed of that name."""
    entry = registry.find(arguments.name)
    entry = entry or registry.Entry(arguments.name, "10.77.0", os.environ.get("SLUICE_BED_STATE", ".demo"))
    return Bed(
        arguments.name,
        arguments.subnet or entry.subnet,
        Path(arguments.state or entry.state),
        layers=arguments.layers,
        hosts=tuple(arguments.hosts.split(",")) if arguments.hosts else entry.hosts,
        suite=arguments.suite or entry.suite,
        report=progress,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m demo.bed",
        description="Test-bed hosts on this machine: gw, idp, login, c1, c2, each with its own systemd.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.set_defaults(layers="bare", hosts="", suite="")
    common.add_argument("--name", default="demo", help="keeps beds apart: 1-7 letters, digits (%(default)s)")
    common.add_argument("--subnet", help="first three octets of its /24 (10.77.0)")
    common.add_argument("--state", help="folder for all it keeps ($SLUICE_BED_STATE or .demo)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(action=action)
        return sub

    up = add("up", _up, "bring the hosts up; does nothing where they are")
    up.add_argument(
        "--layers", choices=("bare", "fast"), default="bare", help="fast: packages installed already"
    )
    up.add_argument("--hosts", help=f"some of {','.join(HOST_NAMES)} (all)")
    up.add_argument("--suite", choices=SUITES, help=f"the hosts' Debian release ({SUITES[0]})")
    add("down", _down, "end the hosts and their network; caches stay")
    add("clean", _clean, "down, and remove the state folder")
    status = add("status", _status, "show hosts, whether up, and memory; status 3 if any is off")
    status.add_argument("--json", action="store_true", help="print JSON")
    for name, action, text in (
        ("power-cut", _power_cut, "switch a host off without warning; it stays off"),
        ("reboot", _reboot, "reboot a host from the inside and wait until it has booted"),
        ("power-on", _power_on, "switch a host on and wait until it has booted"),
    ):
        add(name, action, text).add_argument("host", choices=HOST_NAMES)
    ssh = add("ssh", _ssh, "run a command on a host as root, or a shell")
    ssh.add_argument("host", choices=HOST_NAMES)
    ssh.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    check = add("preflight", _preflight, "tell whether this machine can carry a bed; changes nothing")
    needs = preflight.Needs()
    for option, amount in (("--disk", needs.disk), ("--memory", needs.memory)):
        check.add_argument(option, type=float, default=amount / _GIB, help="GiB needed (%(default)s)")
    return parser


def _up(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    progress("the hosts are up" if bed.up() else "the hosts were up already: nothing to do")
    return 0


def _down(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    progress("the hosts are down" if bed.down() else "the hosts were down already")
    return 0


def _clean(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    bed.clean()
    progress(f"removed {bed.state}")
    return 0


def _status(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    hosts = bed.status()
    if arguments.json:
        print(json.dumps([asdict(host) for host in hosts], indent=2))
    else:
        print(f"{'HOST':<8}{'ADDRESS':<16}{'STATE':<8}MEMORY")
        for host in hosts:
            state = "up" if host.up else "off"
            print(f"{host.name:<8}{host.address:<16}{state:<8}{host.memory / 1024**2:.0f} MiB")
    return 0 if all(host.up for host in hosts) else 3


def _power_cut(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    bed.power_cut(arguments.host)
    progress(f"{arguments.host} is off")
    return 0


def _power_on(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    bed.power_on(arguments.host)
    progress(f"{arguments.host} is up")
    return 0


def _reboot(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    bed.reboot(arguments.host)
    progress(f"{arguments.host} is up")
    return 0


def _ssh(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    argv = bed.ssh_argv(arguments.host)
    # As with ssh itself, the words are joined by blanks and read by the remote shell.
    return subprocess.call([*argv, *arguments.command])


def _preflight(bed: Bed, arguments: argparse.Namespace, progress: Progress) -> int:
    needs = preflight.Needs(disk=int(arguments.disk * _GIB), memory=int(arguments.memory * _GIB))
    found = preflight.failures(bed.plan.name, bed.state, bed.cache, needs)
    for failure in found:
        print(f"bed: {failure.cause}.\n     What helps: {failure.remedy}.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
