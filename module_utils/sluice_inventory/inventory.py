"""A whole inventory: everything that is wrong with it, in one message."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import certificates, models, values
from .faults import Definition, Fault, told
from .files import Lines, Reader
from .names import GATEWAY, LOGIN, groups_needed, idle_names, unknown_groups, unknown_names
from .tasks import Check, Role

_WORD = re.compile(r"[A-Za-z_]\w*")

# In this order, so that the role to which a value belongs tells it first.
ROLES = (*GATEWAY, *LOGIN, "login_base", "gateway_base")


def roles_of(groups: Collection[str]) -> list[str]:
    """Return the roles that a host in these groups gets, those behind the scenes too."""
    found = [role for role in (*GATEWAY, *LOGIN) if role in groups]
    found += ["login_base"] if {"relay", "scheduler", "model"} & set(groups) else []
    return found + (["gateway_base"] if {"proxy", "web", "authority"} & set(groups) else [])


class Inventory:
    """Checks one inventory with the roles of the checkout `root`.

    `hosts`: the variables of each host, untemplated. `groups`: the hosts of each group. `templar` makes a
    templating engine for variables. `load` reads a YAML file of the checkout with its templates trusted.
    `content` returns that of a file of the site, decrypted. `now` is compared with certificates.
    """

    def __init__(
        self,
        root: Path,
        hosts: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, Collection[str]],
        templar: Callable[[Mapping[str, Any]], Any],
        load: Callable[[Path], Any],
        checks: Mapping[str, Check],
        content: Callable[[str], bytes],
        now: datetime.datetime,
    ) -> None:
        self._root = root
        self._hosts = hosts
        self._groups = groups
        self._templar = templar
        self._content = content
        self._now = now
        self._roles = {name: Role(root / "roles" / name, load, checks) for name in ROLES}

    def lines(self, sources: list[Path], read: Callable[[Path], str], given: Mapping[str, Any]) -> Lines:
        """Return the inventory's lines; `given` has the variables of `-e`."""
        reader = Reader(read, self._root)
        for source in sources:
            reader.inventory(source)
        reader.variables(self._root / "playbooks")
        reader.lines.definitions += [Definition(name, "-e", 0, "all") for name in given]
        reader.lines.texts += [str(value) for value in given.values()]
        return reader.lines

    def message(self, lines: Lines) -> str:
        """Return what is wrong, all of it; "" if nothing is."""
        faults = [*self._of_lines(lines), *self._of_values()]
        places: dict[str, Definition] = {}
        for one in lines.definitions:
            # A site's own line comes before that of the common defaults, and -e before both.
            common = one.file.startswith("inventories/common/") or "/00-common/" in one.file
            if not common:
                places[one.name] = one
        return told(faults, {**self._linked(places), **places}) if faults else ""

    def _linked(self, places: Mapping[str, Definition]) -> dict[str, Definition]:
        """Return, by the name of a variable that another sets, the line of that other."""
        found = {}
        for given in self._hosts.values():
            for name, value in given.items():
                words = _WORD.findall(value) if isinstance(value, str) and "{{" in value else ()
                first = next((word for word in words if word in places), "")
                if first:
                    found[name] = places[first]
        return found

    def known(self) -> set[str]:
        """Return every name that a role or the shared defaults know."""
        names = {name for role in self._roles.values() for name in role.options}
        common = Reader(lambda path: path.read_text(encoding="utf-8"), self._root)
        common.variables(self._root / "inventories" / "common")
        names |= {one.name for one in common.lines.definitions}
        return names | {word for text in common.lines.texts for word in _vault(text)}

    def _of_lines(self, lines: Lines) -> Iterator[Fault]:
        yield from lines.faults
        yield from unknown_names(lines, self.known(), ROLES)
        inputs = {name: role.name for role in self._roles.values() for name in role.options}
        yield from idle_names(lines.definitions, inputs, self._groups)
        yield from unknown_groups(lines, self._groups, self._hosts)
        yield from groups_needed(self._groups)

    def _of_values(self) -> Iterator[Fault]:
        good: dict[str, dict[str, Any]] = {host: {} for host in self._hosts}
        for host, given in self._hosts.items():
            mine = {group for group, members in self._groups.items() if host in members}
            for name in roles_of(mine):
                role = self._roles[name]
                yield from role.faults(host, self._templar(role.variables(given)), good[host])
        everywhere: dict[str, Any] = {}
        for found in good.values():
            everywhere = {**found, **everywhere}
        for found in good.values():
            yield from self._of_host({**everywhere, **found}, good) if found else ()

    def _of_host(self, given: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[Fault]:
        for rule in (*values.RULES, *models.RULES):
            yield from map(Fault, rule(given))
        yield from map(Fault, models.clusters(given, hosts, self._groups.get("relay", ())))
        pair = [self._optional(given, name) for name in ("nginx_certificate", "nginx_certificate_key")]
        if pair[0] is not None and pair[1] is not None:
            name = str(given.get("nginx_server_name", ""))
            yield from map(Fault, certificates.problems(pair[0], pair[1], name, self._now))
        authority = self._optional(given, "web_ca_file")
        if authority is not None:
            yield from map(Fault, certificates.authority_problems(authority))

    def _optional(self, given: Mapping[str, Any], name: str) -> bytes | None:
        path = str(given.get(name, ""))
        return self._content(path) if path and Path(path).is_file() else None


def _vault(text: str) -> list[str]:
    return [word for word in text.replace("}", " ").split() if word.startswith("vault_")]
