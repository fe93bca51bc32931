"""The lines of an inventory: which file sets which variable, which groups and hosts it names.

Ansible merges an inventory before a playbook sees it. It no longer knows then which file set a value, that a
key occurred twice, or that a file is for a group that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .faults import Definition, Fault

ENDINGS = ("", ".yml", ".yaml", ".json")
GROUP_KEYS = ("hosts", "vars", "children")
_SECTION = re.compile(r"\[([^\]:]+)(?::(vars|children))?\]")
_ASSIGNED = re.compile(r"(?:^|\s)([A-Za-z_]\w*)\s*=")


@dataclass
class Lines:
    """What the files of an inventory say, line by line. `groups` and `hosts`: name and place."""

    definitions: list[Definition] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    for_groups: dict[str, str] = field(default_factory=dict)
    for_hosts: dict[str, str] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


class Reader:
    """Reads the files. `read` returns a file's text, decrypted; `root` is left out of the places."""

    def __init__(self, read: Callable[[Path], str], root: Path) -> None:
        self._read = read
        self._root = root
        self._seen: set[Path] = set()
        self.lines = Lines()

    def inventory(self, source: Path) -> None:
        """Read one source of `-i`: a folder or a file, with the variables' files beside it."""
        if source.is_dir():
            for path in sorted(source.iterdir()):
                if path.is_file() and path.suffix in ENDINGS and not path.name.startswith("."):
                    self._hosts_file(path)
            self.variables(source)
        elif source.is_file():
            self._hosts_file(source)
            self.variables(source.parent)

    def variables(self, folder: Path) -> None:
        """Read group_vars and host_vars of a folder."""
        for kind, found in (("group", self.lines.for_groups), ("host", self.lines.for_hosts)):
            below = folder / f"{kind}_vars"
            for path in sorted(below.iterdir()) if below.is_dir() else ():
                name = path.stem if path.is_file() and path.suffix in ENDINGS[1:] else path.name
                found.setdefault(name, self._shown(path))
                for one in _files(path):
                    self._variables_file(one, "all" if (kind, name) == ("group", "all") else f"{kind} {name}")

    def _hosts_file(self, path: Path) -> None:
        if self._again(path):
            return
        text = self._read(path)
        if text.startswith("#!"):
            return
        node = self._composed(path, text)
        if isinstance(node, MappingNode):
            for key, value in _pairs(node):
                self._group(path, key, value)
        elif path.suffix == "":
            self._ini(path, text)

    def _group(self, path: Path, key: ScalarNode, node: Node) -> None:
        self.lines.groups.setdefault(key.value, self._place(path, key))
        for inner, value in _pairs(node):
            if inner.value not in GROUP_KEYS:
                self.lines.faults.append(
                    Fault(
                        f"the group {key.value} has the key {inner.value}, which Ansible ignores. "
                        f"Write hosts, vars or children",
                        self._place(path, inner),
                    )
                )
            elif inner.value == "vars":
                self._define(path, value, "all" if key.value == "all" else f"group {key.value}")
            for name, content in _pairs(value) if inner.value in ("hosts", "children") else ():
                if inner.value == "children":
                    self._group(path, name, content)
                else:
                    self.lines.hosts.setdefault(name.value, self._place(path, name))
                    self._define(path, content, f"host {name.value}")

    def _ini(self, path: Path, text: str) -> None:
        section, kind = "ungrouped", ""
        for number, line in enumerate(text.splitlines(), 1):
            words = line.strip()
            found = _SECTION.fullmatch(words)
            if not words or words[0] in "#;":
                continue
            if found:
                section, kind = found[1], found[2] or ""
                self.lines.groups.setdefault(section, f"{self._shown(path)}:{number}")
                continue
            first, _, rest = (words, "", words) if kind == "vars" else words.partition(" ")
            holder = f"group {section}" if kind == "vars" else f"host {first}"
            known = self.lines.groups if kind == "children" else self.lines.hosts
            if kind != "vars":
                known.setdefault(first, f"{self._shown(path)}:{number}")
            self.lines.texts.append(rest)
            names = _ASSIGNED.findall(rest)[:1] if kind == "vars" else _ASSIGNED.findall(rest)
            self.lines.definitions += [Definition(one, self._shown(path), number, holder) for one in names]

    def _variables_file(self, path: Path, holder: str) -> None:
        if not self._again(path):
            self._define(path, self._composed(path, self._read(path)), holder)

    def _define(self, path: Path, node: Node | None, holder: str) -> None:
        for key, value in _pairs(node):
            line = key.start_mark.line + 1
            self.lines.definitions.append(Definition(key.value, self._shown(path), line, holder))
            self.lines.texts += [one.value for one in _scalars(value) if "{" in one.value]

    def _composed(self, path: Path, text: str) -> Node | None:
        try:
            node = yaml.compose(text, yaml.SafeLoader)
        except yaml.YAMLError:
            # Ansible itself has told it, or reads the file in another format.
            return None
        for key, first in _twice(node):
            self.lines.faults.append(
                Fault(
                    f"{key.value} occurs twice: line {first.start_mark.line + 1} has it too, and only the "
                    f"last counts. Remove one of them",
                    self._place(path, key),
                )
            )
        return node

    def _again(self, path: Path) -> bool:
        seen = path.resolve() in self._seen
        self._seen.add(path.resolve())
        return seen

    def _shown(self, path: Path) -> str:
        try:
            return str(path.relative_to(self._root))
        except ValueError:
            return str(path)

    def _place(self, path: Path, node: Node) -> str:
        return f"{self._shown(path)}:{node.start_mark.line + 1}"


def _files(path: Path) -> Iterator[Path]:
    """Yield the files that Ansible reads below a path, in its order."""
    if path.name.startswith(".") or path.name.endswith("~"):
        return
    if path.is_dir():
        for inner in sorted(path.iterdir()):
            yield from _files(inner)
    elif path.suffix in ENDINGS:
        yield path


def _pairs(node: Node | None) -> Iterator[tuple[ScalarNode, Node]]:
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if isinstance(key, ScalarNode):
            yield key, value


def _scalars(node: Node) -> Iterator[ScalarNode]:
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, SequenceNode):
        for one in node.value:
            yield from _scalars(one)
    else:
        for _, value in _pairs(node):
            yield from _scalars(value)


def _twice(node: Node | None) -> Iterator[tuple[ScalarNode, ScalarNode]]:
    """Yield each key that occurs again in its mapping, at any depth, with the first one."""
    if isinstance(node, SequenceNode):
        for one in node.value:
            yield from _twice(one)
    first: dict[str, ScalarNode] = {}
    for key, value in _pairs(node):
        if first.setdefault(key.value, key) is not key:
            yield key, first[key.value]
        yield from _twice(value)
