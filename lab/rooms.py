"""The rooms of the code, and which way their imports point: `python -m lab.rooms` writes docs/rooms.md.

Read from the imports alone: nothing of Sluice runs. tests/policy/test_rooms.py holds the tree to it.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "files" / "sluice" / "src"
PAGE = ROOT / "docs" / "rooms.md"

# From the top. An import points to a later line, or to another file of its own line. A line names a room, or
# a file that stands in no room; the longest one that fits a module is its own.
ORDER = (
    "sluice.cli",
    # The gateway's control plane.
    "sluice.web.gunicorn",
    "sluice.web.wsgi",
    "sluice.web.app",
    "sluice.web.authority",
    "sluice.web.commands",
    "sluice.web.views",
    "sluice.web.signin",
    "sluice.web.limits",
    "sluice.web.usage",
    "sluice.web.keys",
    "sluice.web.people",
    "sluice.web.admin",
    "sluice.web.database",
    "sluice.web.http",
    "sluice.web.settings",
    "sluice.web.words",
    # The gateway's data plane.
    "sluice.proxy.command",
    "sluice.proxy.service",
    "sluice.proxy.status",
    "sluice.proxy.api",
    "sluice.proxy.requests",
    "sluice.proxy.queue",
    "sluice.proxy.clusters",
    "sluice.proxy.accounts",
    "sluice.proxy.bodies",
    "sluice.proxy.config",
    "sluice.proxy.http",
    "sluice.proxy.metrics",
    "sluice.proxy.access_log",
    # The cluster.
    "sluice.scheduler.commands",
    "sluice.scheduler.doctor",
    "sluice.scheduler.loop",
    "sluice.scheduler.publish",
    "sluice.scheduler.models",
    "sluice.scheduler.outside",
    "sluice.scheduler.lease",
    "sluice.scheduler.state",
    "sluice.scheduler.slurm",
    "sluice.scheduler.policy",
    "sluice.scheduler.instances",
    "sluice.scheduler.config",
    "sluice.relay",
    "sluice.front",
    "sluice.box",
    # What the parts share.
    "sluice.endpoint",
    "sluice.wire",
    "sluice.gate",
    "sluice.bodies",
    "sluice.administrator",
    "sluice.contracts",
    "sluice.config",
    "sluice.garbage",
    "sluice.logs",
    "sluice.sources",
    "sluice.terminal",
    "sluice.version",
    "sluice.errors",
)
# The process that sshd starts for the gateway's key.
RELAY = "sluice.relay.command"
# No part imports another.
PARTS = ("web", "proxy", "scheduler", "relay", "front", "box")
TITLES = {
    "web": "web, the gateway's control plane",
    "proxy": "proxy, the gateway's data plane",
    "scheduler": "scheduler, on the cluster",
    "relay": "relay, on the cluster",
    "front": "front, in a job",
    "box": "box, around a job's engine",
}
SHARED = "What the parts share"


@dataclass(frozen=True)
class Code:
    """The modules of a package by dotted name, and what each imports of the others."""

    files: Mapping[str, Path]
    imports: Mapping[str, frozenset[str]]


def read(source: Path = SOURCE, package: str = "sluice") -> Code:
    """Read all modules below `source`."""
    files = {}
    for path in sorted((source / package).rglob("*.py")):
        name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        files[name] = path
    return Code(files, {name: _imports(name, path, files) for name, path in files.items()})


def _imports(name: str, path: Path, files: Mapping[str, Path]) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in files else node.module)
    return frozenset(found & set(files) - {name})


def room_of(module: str, order: Iterable[str] = ORDER) -> str:
    """Return the line of the order that a module stands on, "" if there is none."""
    fitting = [line for line in order if module == line or module.startswith(f"{line}.")]
    return max(fitting, key=len, default="")


def part_of(room: str) -> str:
    """Return the part that a room or module belongs to, "" for what the parts share."""
    second = room.split(".")[1] if "." in room else ""
    return second if second in PARTS else ""


def rising(code: Code, order: tuple[str, ...] = ORDER) -> list[str]:
    """Return the imports that point up, as `a -> b`, and the modules that stand on no line."""
    found = []
    for module, targets in code.imports.items():
        here = room_of(module, order)
        if not here and (targets or not _is_face(code, module)):
            found.append(f"{module} stands on no line of the order")
        for target in targets:
            there = room_of(target, order)
            if here and there and order.index(there) < order.index(here):
                found.append(f"{module} -> {target}")
    return sorted(found)


def _is_face(code: Code, module: str) -> bool:
    """Tell whether a module is a package's `__init__`: without imports it needs no place."""
    return module in code.files and code.files[module].name == "__init__.py"


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the groups of two or more that reach each other, sorted."""
    reach = {name: _reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted({name, *(other for other in reach[name] if name in reach.get(other, ()))}))
        for name in graph
        if name in reach[name]
    }
    return sorted([list(group) for group in groups if len(group) > 1])


def _reachable(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    found: set[str] = set()
    left = list(graph[start])
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += graph.get(name, ())
    return found


def loaded(code: Code, start: str) -> list[str]:
    """Return every module that a process loads which begins with `start`, packages included, sorted."""
    names = {start, *_reachable(code.imports, start)}
    packages = {
        ".".join(parts[:end]) for parts in (name.split(".") for name in names) for end in range(1, len(parts))
    }
    return sorted(names | packages & set(code.files))


def rooms(code: Code) -> dict[str, set[str]]:
    """Return which rooms each room imports, itself left out."""
    inhabited = {room_of(name) for name in code.files}
    found: dict[str, set[str]] = {room: set() for room in ORDER if room in inhabited}
    for module, targets in code.imports.items():
        here = room_of(module)
        if here:
            found[here] |= {room_of(target) for target in targets} - {here, ""}
    return found


def needed(graph: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return the arrows of a graph without circles, less those that follow from others."""
    arrows = []
    for here, targets in graph.items():
        beyond: set[str] = set()
        for target in targets:
            beyond |= _reachable(graph, target) if target in graph else set()
        arrows += [(here, target) for target in sorted(set(targets) - beyond)]
    return arrows


def page(code: Code) -> str:
    """Return docs/rooms.md."""
    graph = rooms(code)
    lines = [
        "# Rooms",
        "",
        "What lives where in `files/sluice/src/sluice/`, and what imports what. Imports point down: from a "
        "row of a table to a row below it, or to what the parts share. No part imports another, and no files "
        "import each other in a circle. Arrows that follow from others are left out.",
        "",
        "`python -m lab.rooms` draws this page from the imports; a test says when it is old.",
        "",
        *_picture(_of_parts(graph)),
    ]
    for part in (*PARTS, ""):
        inside = [room for room in graph if part_of(room) == part]
        lines += ["", f"## {TITLES.get(part, SHARED)}", ""]
        drawn = {
            _short(room, part): {_short(target, part) for target in graph[room] & {*inside}}
            for room in inside
        }
        if len(inside) > 1:
            lines += [*_picture(drawn), ""]
        lines += ["| | what lives there | files |", "| --- | --- | --- |"]
        lines += [_row(code, room, part) for room in inside]
        if part == "relay":
            lines += ["", *_trusted(code)]
    return "\n".join(lines) + "\n"


def _trusted(code: Code) -> list[str]:
    """Return the section on the code that the cluster trusts: what one relay process loads."""
    by_room: dict[str, list[str]] = {}
    for name in loaded(code, RELAY):
        if room_of(name):
            by_room.setdefault(room_of(name), []).append(name)
    return [
        "### What a relay process loads",
        "",
        "The gateway's key reaches this code and nothing else on the cluster. Besides the standard library "
        "it is all that runs there, so it is what a security officer reads.",
        "",
        *(
            f"- `{room}`: "
            + (", ".join(f"`{name[len(room) + 1 :]}`" for name in own if name != room) or "the file")
            for room, own in by_room.items()
        ),
    ]


def _of_parts(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the graph of whole parts; small shared files are one."""
    found: dict[str, set[str]] = {}
    for room, targets in graph.items():
        found.setdefault(_whole(room), set()).update(_whole(target) for target in targets)
    return {name: targets - {name} for name, targets in found.items()}


def _whole(room: str) -> str:
    own = ("sluice.endpoint", "sluice.wire", "sluice.bodies", "sluice.contracts", "sluice.cli")
    return part_of(room) or (room.removeprefix("sluice.") if room in own else "errors, config, logs …")


def _short(room: str, part: str) -> str:
    return room.removeprefix(f"sluice.{part}." if part else "sluice.") if room != f"sluice.{part}" else part


def _picture(graph: Mapping[str, Iterable[str]]) -> list[str]:
    names = list(dict.fromkeys([*graph, *(target for targets in graph.values() for target in targets)]))
    lines = ["```mermaid", "flowchart TD"]
    lines += [f'  {_id(names, name)}["{name}"]' for name in names]
    lines += [f"  {_id(names, here)} --> {_id(names, there)}" for here, there in needed(graph)]
    return [*lines, "```"]


def _id(names: list[str], name: str) -> str:
    return f"r{names.index(name)}"


def _row(code: Code, room: str, part: str) -> str:
    own = [name for name in code.files if room_of(name) == room]
    says = (ast.get_docstring(ast.parse(code.files[room].read_text(encoding="utf-8"))) or "").split("\n")[0]
    names = [name.removeprefix(f"{room}.") for name in own if name != room]
    shown = ", ".join(f"`{name}`" for name in names)
    return f"| `{_short(room, part)}` | {says.replace('|', '/')} | {shown} |".replace("|  |", "| |")


def figures(code: Code) -> str:
    """Return what the tree has, in a few lines: files and lines of each room, the largest file, circles."""
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in code.files.items()}
    told = []
    for room in rooms(code):
        own = [name for name in code.files if room_of(name) == room]
        told.append(f"{room:<32} {len(own):>3} files {sum(lines[name] for name in own):>6} lines")
    largest = max(lines, key=lambda name: lines[name])
    told.append(f"largest: {largest}, {lines[largest]} lines")
    told.append(f"imports that point up: {len(rising(code))}; circles: {len(circles(code.imports))}")
    return "\n".join(told)


def main(argv: list[str]) -> int:
    """Write the page, or print figures."""
    parser = argparse.ArgumentParser(prog="python -m lab.rooms", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figures", action="store_true", help="print what there is; write nothing")
    arguments = parser.parse_args(argv)
    code = read()
    if arguments.figures:
        print(figures(code))
    else:
        PAGE.write_text(page(code), encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
