"""Writes the files that relays read, the routing table and the metrics, with the mode and group they need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Optional

from sluice.contracts.files import read_json, write_json, write_text
from sluice.contracts.routing import RoutedModel, RoutingTable
from sluice.errors import RecordError

PUBLISHED_MODE = 0o640


class RoutingFile:
    """The routing table at `path`, of one cluster."""

    def __init__(self, path: str, cluster: str) -> None:
        self._path = path
        self._cluster = cluster
        self._words: dict[str, tuple[RoutedModel, str]] = {}
        self.table: Optional[RoutingTable] = None

    def before(self) -> Optional[RoutingTable]:
        """Return the current table, written by this process or an earlier one; None if it cannot be read."""
        if self.table is None:
            try:
                self.table = RoutingTable.parse(read_json(self._path))
            except (OSError, RecordError):
                return None
        return self.table

    def differs(self, models: Mapping[str, RoutedModel]) -> bool:
        """Whether a table of these models differs from the current one in more than `expected_ready`."""
        before = self.before()
        if before is None or before.cluster != self._cluster:
            return True
        return _lasting(before.models) != _lasting(models)

    def write(self, models: dict[str, RoutedModel], generation: int, now: float) -> None:
        """Write the table; models that did not change are not encoded again. Raises OSError."""
        self.table = RoutingTable(self._cluster, generation, now, models)
        before, self._words = self._words, {}
        for name in sorted(models):
            model, old = models[name], before.get(name)
            self._words[name] = old if old is not None and old[0] == model else (model, _words(model))
        parts = ",".join(f"{json.dumps(name)}:{words}" for name, (_, words) in self._words.items())
        rest = replace(self.table, models={}).dump()
        del rest["models"]
        text = json.dumps(rest, separators=(",", ":"), sort_keys=True)
        write_text(self._path, f'{text[:-1]},"models":{{{parts}}}}}\n', PUBLISHED_MODE, _group(self._path))


def _lasting(models: Mapping[str, RoutedModel]) -> dict[str, RoutedModel]:
    return {name: replace(model, expected_ready=None) for name, model in models.items()}


def _words(model: RoutedModel) -> str:
    dumped = RoutingTable("", 0, 0.0, {"": model}).dump()["models"][""]
    return json.dumps(dumped, separators=(",", ":"), sort_keys=True)


def publish(path: str, document: object) -> None:
    """Write a file that relays read, with mode 0640 and the group of its directory. Raises OSError."""
    write_json(path, document, mode=PUBLISHED_MODE, group=_group(path))


def _group(path: str) -> int:
    """Return the group of a file's directory, which is the relay's group.

    A file can get it because the directory has the setgid bit (mode 2750), or the scheduler is a member.
    """
    return Path(path).parent.stat().st_gid
