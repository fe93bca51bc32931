#!/usr/bin/python
"""Ansible module: register a model with the scheduler, or remove it."""

# Copyright: the Sluice contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: sluice_model
short_description: Register a model with the scheduler, or remove it
description:
  - Passes a model's entry and its rendered sbatch script to C(sluice models), which checks them.
  - Instances with another entry or script are replaced. The instances of a removed model finish their open
    requests and end.
options:
  name:
    description: The model's name.
    type: str
    required: true
  state:
    description: Whether the model is to be served.
    type: str
    choices: [present, absent]
    default: present
  entry:
    description: The entry; docs/contracts.md, "Model entry", describes its fields. Required for C(present).
    type: dict
  script:
    description: The rendered sbatch script. Required for C(present).
    type: str
  wait:
    description: Whether to wait until this entry of the model is served, or sleeps as intended.
    type: bool
    default: false
  wait_timeout:
    description: Maximum seconds to wait.
    type: int
    default: 900
  program:
    description: Sluice's zipapp on the login node.
    type: path
    default: /opt/sluice/sluice.pyz
  python:
    description: The Python that runs it.
    type: path
    default: /usr/bin/python3
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - Sluice
"""

EXAMPLES = r"""
- name: Serve the model llama, with at most four instances
  sluice_model:
    name: llama
    entry: "{{ model_entries[0] }}"
    script: "{{ lookup('ansible.builtin.template', 'engines/vllm.sbatch.j2') }}"

- name: Roll out a new entry and go on when it answers
  sluice_model:
    name: llama
    entry: "{{ model_entries[0] }}"
    script: "{{ lookup('ansible.builtin.template', 'engines/vllm.sbatch.j2') }}"
    wait: true

- name: Remove the model llama
  sluice_model:
    name: llama
    state: absent
"""

RETURN = r"""
name:
  description: The model's name.
  returned: always
  type: str
waited:
  description: Seconds until the model was served.
  returned: when C(wait) is set and the model is present
  type: float
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule


class Model:
    """One model, by `sluice models`; only `write` and `delete` distinguish check mode."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name: str = module.params["name"]
        self.command = [module.params["python"], "-I", "-S", module.params["program"], "models"]
        self.changed = False
        self.diff: list[dict[str, str]] = []

    def run(self) -> dict[str, Any]:
        """Bring the model into the wanted state; return the module's result."""
        result: dict[str, Any] = {"name": self.name}
        if self.module.params["state"] == "absent":
            if self.exists():
                self.delete()
        else:
            if not self.matches():
                self.write()
            if self.module.params["wait"] and not self.module.check_mode:
                result["waited"] = self.wait()
        return {**result, "changed": self.changed, "diff": self.diff}

    def installed(self) -> bool:
        """Whether the program exists; in check mode it may not be installed yet."""
        return not self.module.check_mode or Path(self.module.params["program"]).exists()

    def exists(self) -> bool:
        """Whether the model is registered."""
        return self.installed() and bool(self._ask("remove", self.name, "--check")["changed"])

    def matches(self) -> bool:
        """Whether the model is registered with this entry and script."""
        return self.installed() and not self._apply("--check")["changed"]

    def content(self) -> str:
        """Return the entry as JSON for the command line."""
        return json.dumps(self.module.params["entry"])

    def write(self) -> None:
        """Register the model."""
        self.changed = True
        if self.installed():
            self._show(self._apply(*self._check()))

    def delete(self) -> None:
        """Remove the model."""
        self.changed = True
        self._show(self._ask("remove", self.name, *self._check()))

    def wait(self) -> float:
        """Wait until the model is served; return the seconds that this took."""
        timeout = str(self.module.params["wait_timeout"])
        return float(self._ask("wait", self.name, "--timeout", timeout)["waited"])

    def _check(self) -> list[str]:
        return ["--check"] if self.module.check_mode else []

    def _apply(self, *options: str) -> dict[str, Any]:
        # As files, because everybody on the host can see argv.
        with tempfile.TemporaryDirectory(dir=self.module.tmpdir) as folder:
            entry, script = Path(folder, "entry.json"), Path(folder, "script.sbatch")
            entry.write_text(self.content(), encoding="utf-8")
            script.write_text(self.module.params["script"], encoding="utf-8")
            return self._ask("apply", "--entry", str(entry), "--script", str(script), *options)

    def _ask(self, action: str, *arguments: str) -> dict[str, Any]:
        status, output, errors = self.module.run_command([*self.command, action, *arguments, "--json"])
        if status != 0:
            self.module.fail_json(msg=f"{self.name}: {errors.strip() or output.strip()}", rc=status)
        try:
            answer: dict[str, Any] = json.loads(output)
        except ValueError:
            self.module.fail_json(msg=f"{self.name}: sluice models {action} gave no JSON: {output[:500]!r}")
        return answer

    def _show(self, change: dict[str, Any]) -> None:
        for kind in ("entry", "script"):
            before, after = (change[side][kind] or "" for side in ("before", "after"))
            if before != after:
                header = f"{self.name} ({kind})"
                texts = {"before": before, "after": after}
                self.diff.append({**texts, "before_header": header, "after_header": header})


def main() -> None:
    """Run and exit."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "entry": {"type": "dict"},
            "script": {"type": "str"},
            "wait": {"type": "bool", "default": False},
            "wait_timeout": {"type": "int", "default": 900},
            "program": {"type": "path", "default": "/opt/sluice/sluice.pyz"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
        },
        required_if=[("state", "present", ["entry", "script"])],
        supports_check_mode=True,
    )
    if module.params["state"] == "present" and module.params["entry"].get("name") != module.params["name"]:
        module.fail_json(msg="name and entry.name differ; give both the model's name")
    module.exit_json(**Model(module).run())


if __name__ == "__main__":
    main()
