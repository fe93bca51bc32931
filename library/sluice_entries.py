#!/usr/bin/python
"""Ansible module: check model entries with the code that reads them on the cluster."""

# Copyright: the Sluice contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: sluice_entries
short_description: Check model entries
description:
  - Reads each entry with the scheduler's own code. Also refuses names that occur twice, and entries without a
    field that their engine needs.
  - Reports all problems at once.
  - Changes nothing. Runs on the controller.
options:
  entries:
    description: The entries; docs/contracts.md, "Model entry", describes their fields.
    type: list
    elements: dict
    required: true
  engines:
    description:
      - The known engines, by name - C(needs), the list of fields that an entry of this engine must have, and
        C(nodes), whether one instance can use several nodes (default C(true)).
      - An entry with another engine is refused.
    type: dict
    required: true
  partitions:
    description: The only partitions that models may use; empty allows all.
    type: list
    elements: str
    default: []
  min_nice:
    description: The smallest nice value that models may use.
    type: int
    default: 0
  box:
    description: The box of entries without C(box), unless their engine has a box of its own.
    type: str
    choices: [bubblewrap, apptainer, none]
    default: bubblewrap
  unboxed:
    description: Why engines may run without a box, as a sentence; without it C(none) is refused.
    type: str
    default: ""
  source:
    description: Folder that holds the package C(sluice).
    type: path
    required: true
attributes:
  check_mode:
    support: full
author:
  - Sluice
"""

EXAMPLES = r"""
- name: Check the inventory's models before any host is touched
  sluice_entries:
    entries: "{{ model_entries }}"
    engines:
      vllm: {}
      vllm-apptainer: {needs: [image]}
      llama-cpp: {nodes: false}
    source: files/sluice/src
  delegate_to: localhost
"""

RETURN = r"""
names:
  description: The models' names, in order.
  returned: success
  type: list
  elements: str
"""

import sys
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

UNBOXED_WORDS = 3
REMEDY = 'correct it in the inventory; docs/contracts.md, "Model entry", describes the fields'


def problems(
    entries: list[dict[str, Any]],
    engines: dict[str, dict[str, Any]],
    source: str,
    partitions: Sequence[str] = (),
    min_nice: int = 0,
    box: str = "bubblewrap",
    unboxed: str = "",
) -> list[str]:
    """Return what is wrong, one line each; `source` is the folder of the package `sluice`."""
    # The package is not installed on the controller: this checks with the code that will be rolled out.
    sys.path.insert(0, source)
    try:
        from sluice.contracts.models import box_by
        from sluice.scheduler.models.catalogue import Allowed
        from sluice.scheduler.models.registration import entry_errors
    finally:
        sys.path.remove(source)
    allowed = Allowed(tuple(partitions), min_nice)
    found: list[str] = []
    names: list[object] = []
    for index, entry in enumerate(entries):
        name = entry.get("name")
        where = f"model_entries[{index}] ({name})"
        own = box_by(str(entry.get("engine")), box)
        full = {"box": own, **entry}
        found += [f"{where}: {error.strip()}" for error in entry_errors(full, allowed)]
        found += [f"{where}: {error}" for error in box_errors(full, own, unboxed)]
        found += [f"{where}: {error}" for error in engine_errors(entry, engines)]
        if name is not None and name in names:
            found.append(f"{where}: name: occurs twice; give each model a name of its own")
        names.append(name)
    return found


def box_errors(entry: dict[str, Any], own: str, unboxed: str) -> list[str]:
    """Return what is wrong with an entry's box; `own` is the default box of its engine."""
    box = entry["box"]
    if box == "apptainer" and not entry.get("image"):
        return ["box: apptainer is for an engine in a container image: set image to its path"]
    if own == "apptainer" and box != own:
        return [f"box: an engine in an image can only have the box apptainer, not {box}"]
    # With a written reason in the inventory it is a decision and not an accident.
    if box != "none" or len(unboxed.split()) >= UNBOXED_WORDS:
        return []
    return [
        "box: none lets this engine see the node, its network, Slurm and all other jobs of the account "
        "(files/forcecommand/THREATS.md lists what is lost); give the reason as a sentence in "
        "sluice_engine_unboxed, or set bubblewrap"
    ]


def engine_errors(entry: dict[str, Any], engines: dict[str, dict[str, Any]]) -> list[str]:
    """Return which fields an entry lacks for its engine, and what its engine cannot do."""
    name = entry.get("engine")
    if not isinstance(name, str):
        return []
    if name not in engines:
        known = ", ".join(sorted(engines))
        return [
            f"engine: {name} is unknown; there are {known} (roles/model/templates, model_engine_commands)"
        ]
    engine = engines[name]
    found = [
        f"{field}: the engine {name} needs it" for field in engine.get("needs", []) if not entry.get(field)
    ]
    slurm = entry.get("slurm")
    if not engine.get("nodes", True) and isinstance(slurm, dict) and slurm.get("nodes", 1) != 1:
        found.append(f"slurm.nodes: an instance of the engine {name} can use only one node")
    return found


def main() -> None:
    """Check and exit."""
    module = AnsibleModule(
        argument_spec={
            "entries": {"type": "list", "elements": "dict", "required": True},
            "engines": {"type": "dict", "required": True},
            "partitions": {"type": "list", "elements": "str", "default": []},
            "min_nice": {"type": "int", "default": 0},
            "box": {"type": "str", "choices": ["bubblewrap", "apptainer", "none"], "default": "bubblewrap"},
            "unboxed": {"type": "str", "default": ""},
            "source": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    found = problems(**given)
    if found:
        module.fail_json(msg="; ".join(found) + f": {REMEDY}", problems=found)
    module.exit_json(changed=False, names=[entry["name"] for entry in module.params["entries"]])


if __name__ == "__main__":
    main()
