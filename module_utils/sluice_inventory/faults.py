"""A fault of an inventory, as the administrator reads it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")


@dataclass(frozen=True)
class Definition:
    """One line of an inventory that sets a variable. `holder` says for whom: `all`, `group g`, `host h`."""

    name: str
    file: str
    line: int
    holder: str

    @property
    def place(self) -> str:
        """Return where the line is, as `file:line`; `-e` of the command line has no line."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Fault:
    """What is wrong and what to do. `place` is `file:line`, "" where no line of the inventory says it.

    `hosts` are those that have the fault; () if it is the inventory's own.
    """

    says: str
    place: str = ""
    hosts: tuple[str, ...] = ()


def told(faults: Iterable[Fault], places: Mapping[str, Definition]) -> str:
    """Return one message for all faults, each on its own line with the lines that set what it names.

    A fault that several hosts have is told once.
    """
    hosts: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        mine = hosts.setdefault((fault.says, fault.place), [])
        mine += [host for host in fault.hosts if host not in mine]
    lines = []
    for number, ((says, place), mine) in enumerate(hosts.items(), 1):
        where = place or set_in(says, places)
        tail = f" [{'; '.join(part for part in (where, ', '.join(mine)) if part)}]" if where or mine else ""
        lines.append(f"{number}. {' '.join(says.split())}{tail}")
    count = "One fault" if len(lines) == 1 else f"{len(lines)} faults"
    return f"{count} in the inventory. No host was touched.\n" + "\n".join(lines)


def set_in(says: str, places: Mapping[str, Definition]) -> str:
    """Return the lines that set the variables a text names: `name: file:line`, at most six.

    Where the shared defaults take a variable from another, the line is that of the other. A secret stands in
    the vault under its name with `vault_` before it.
    """
    found = dict.fromkeys(name for word in _NAME.findall(says) for name in (word, f"vault_{word}"))
    lines = dict.fromkeys(f"{places[name].name}: {places[name].place}" for name in found if name in places)
    return "; ".join([*lines][:6])
