"""Ansible action: check that a role's inputs have the types that its argument_specs.yml gives them.

Ansible's own check converts a copy of each value, but the role gets the unconverted one: a text passes as a
list, and the role then uses its letters as the elements. This check looks at the values that the role will
use, and accepts only what needs no conversion. Numbers may be text of digits, as `-e` on the command line
gives them, because roles convert numbers themselves. A name that looks like a misspelt input is refused too.
It runs on the controller and opens no connection.

    sluice_inputs:
      networks: [relay_from]   # lists whose elements are addresses or networks, or only the word any
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

ROOT = Path(__file__).resolve().parents[1]
REMEDY = "Correct it in the inventory (or after -e)."

# Ansible loads this file by its path, so the package beside it is not on the path.
sys.path.insert(0, str(ROOT))
try:
    from module_utils.sluice_inventory.kinds import misspelt, network_problems, type_problems
finally:
    sys.path.remove(str(ROOT))


class ActionModule(ActionBase):
    """The action; it fails with all problems at once."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the inputs as the role's tasks see them."""
        super().run(tmp, task_vars)
        known = task_vars or {}
        folder = Path(str(known["role_path"]))
        specs = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
        options: dict[str, Any] = specs["argument_specs"]["main"].get("options", {})
        values = {name: self._value(name, known[name]) for name in options if name in known}
        found = [*misspelt(folder.name, options, known), *type_problems(options, values)]
        for name in self._task.args.get("networks", []):
            if not any(problem.startswith(name) for problem in found):
                found += network_problems(name, values.get(name, []))
        if found:
            return {"failed": True, "msg": f"{'; '.join(found)}. {REMEDY}"}
        return {"changed": False}

    def _value(self, name: str, raw: object) -> object:
        try:
            value: object = self._templar.template(raw)
        except AnsibleError as error:
            raise AnsibleError(f"{name} cannot be read: {error}") from error
        return value
