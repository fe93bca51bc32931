"""Ansible action: tell everything that is wrong with the inventory, at once.

    sluice_inventory: {}

It looks at all hosts of the inventory, whatever `--limit` says, because the values of one host are compared
with those of others. It runs on the controller, opens no connection and writes nothing.
"""

from __future__ import annotations

import datetime
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible.utils.vars import load_extra_vars

ROOT = Path(__file__).resolve().parents[1]


def inventory(
    loader: Any,
    hostvars: Any,
    groups: Mapping[str, Any],
    known: Mapping[str, Any],
    load: Callable[[Path], Any] | None = None,
    now: datetime.datetime | None = None,
) -> Any:
    """Return the inventory as `module_utils.sluice_inventory` checks it.

    `hostvars` is Ansible's; `known` has what Ansible says of the run itself, such as playbook_dir. `load`
    reads a file of a role, its templates trusted. `now` is the time at which certificates must be valid.
    """
    package = _imported("module_utils.sluice_inventory.inventory")
    config = _imported("action_plugins.sluice_config")
    entries = _imported("library.sluice_entries")
    checks = {
        "sluice_config": lambda args: list(
            filter(None, [config.problem(args["part"], args["content"], str(args.get("logo", "")))])
        ),
        "sluice_entries": lambda args: [
            f"{said}: {entries.REMEDY}" for said in entries.problems(**json.loads(json.dumps(args)))
        ],
    }
    names = sorted(groups.get("all", ()))
    hosts = {name: {**hostvars.raw_get(name), "hostvars": hostvars, **known} for name in names}
    return package.Inventory(
        ROOT,
        hosts,
        groups,
        lambda variables: Templar(loader=loader, variables=dict(variables)),
        load or (lambda path: loader.load_from_file(str(path), trusted_as_template=True)),
        checks,
        lambda path: Path(loader.get_real_file(path)).read_bytes(),
        now or datetime.datetime.now(datetime.timezone.utc),
    )


def _imported(name: str) -> Any:
    # Ansible loads this file by its path, so the checkout is not on the path.
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT))


class ActionModule(ActionBase):
    """The action; it fails with all faults at once."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the inventory of this run."""
        super().run(tmp, task_vars)
        seen = task_vars or {}
        known = {name: seen[name] for name in ("playbook_dir", "ansible_playbook_python") if name in seen}
        checked = inventory(self._loader, seen["hostvars"], seen["groups"], known)
        sources = [Path(source) for source in seen.get("ansible_inventory_sources", [])]
        given = load_extra_vars(self._loader) if context.CLIARGS.get("extra_vars") else {}
        lines = checked.lines(sources, lambda path: self._loader.get_text_file_contents(str(path)), given)
        said = checked.message(lines)
        return {"failed": True, "msg": said} if said else {"changed": False}
