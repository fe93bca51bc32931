#!/usr/bin/python
"""Ansible module: keep one entry in an account's scrontab, Slurm's own crontab."""

# Copyright: the Sluice contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: sluice_scrontab
short_description: Keep one entry in an account's scrontab
description:
  - Slurm starts the entry's command each minute, in a job of the account. The entry is between two marker
    lines; the rest of the account's scrontab stays unchanged.
  - Slurm must allow it, with C(ScronParameters=enable) in slurm.conf.
options:
  account:
    description: The account whose scrontab it is.
    type: str
    required: true
  state:
    description: Whether the entry must exist.
    type: str
    choices: [present, absent]
    default: present
  command:
    description: The command to run, an absolute path. Required for C(present).
    type: path
  options:
    description: sbatch options of the job.
    type: list
    elements: str
    default: []
  slurm_bin:
    description: Folder of Slurm's commands.
    type: path
    default: /usr/bin
  slurm_conf:
    description: Slurm's configuration file; if empty, Slurm uses its default.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - Sluice
"""

EXAMPLES = r"""
- name: Have Slurm start the scheduler
  sluice_scrontab:
    account: sluice
    command: /shared/sluice/scheduler/launch
    options: [--partition=cron]

- name: Stop Slurm from starting the scheduler
  sluice_scrontab:
    account: sluice
    state: absent
"""

RETURN = r"""
lines:
  description: The account's scrontab, as it is now or (in check mode) would be.
  returned: always
  type: list
  elements: str
"""

import os
import pwd
import re
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

BEGIN, END = "# BEGIN sluice", "# END sluice"
BLOCK = re.compile(rf"^{BEGIN}\n(?:.*\n)*?{END}\n", re.MULTILINE)
NONE_YET = "no crontab for"
DISABLED = "is disabled"
REMEDY = "set ScronParameters=enable in slurm.conf, or another scheduler_launcher"


class Scrontab:
    """The account's scrontab; only `write` distinguishes check mode."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.account: str = module.params["account"]
        self.before = self.read()

    def run(self) -> dict[str, Any]:
        """Bring the entry into the wanted state; return the module's result."""
        wanted = self.content()
        changed = wanted != self.before
        if changed:
            self.write(wanted)
        diff = {
            "before": self.before,
            "after": wanted,
            "before_header": "scrontab",
            "after_header": "scrontab",
        }
        return {"changed": changed, "lines": wanted.splitlines(), "diff": diff}

    def content(self) -> str:
        """Return the scrontab as it should be."""
        rest = BLOCK.sub("", self.before)
        if self.module.params["state"] == "absent":
            return rest
        if rest and not rest.endswith("\n"):
            rest += "\n"
        options = "".join(f"#SCRON {option}\n" for option in self.module.params["options"])
        return f"{rest}{BEGIN}\n{options}* * * * * {self.module.params['command']}\n{END}\n"

    def read(self) -> str:
        """Return the current scrontab; "" if the account has none."""
        status, output, errors = self._scrontab("-l")
        if status == 0:
            return output
        said = output + errors
        if NONE_YET in said:
            return ""
        if DISABLED in said and self.module.params["state"] == "absent":
            return ""
        self.module.fail_json(msg=f"scrontab -l: {said.strip()[:300]}: {REMEDY}")
        raise AssertionError("fail_json returns to nobody")

    def write(self, text: str) -> None:
        """Replace the whole scrontab."""
        if self.module.check_mode:
            return
        with tempfile.NamedTemporaryFile("w", prefix="sluice-scrontab-") as stream:
            stream.write(text)
            stream.flush()
            # scrontab runs as the account, which must read it.
            if os.geteuid() == 0:
                os.chown(stream.name, pwd.getpwnam(self.account).pw_uid, -1)
            status, output, errors = self._scrontab(stream.name)
        if status != 0:
            self.module.fail_json(msg=f"scrontab: {(errors or output).strip()[:300]}: {REMEDY}")

    def _scrontab(self, argument: str) -> tuple[int, str, str]:
        """Run scrontab as the account."""
        program = str(Path(self.module.params["slurm_bin"], "scrontab"))
        argv = [program, argument]
        if os.geteuid() == 0:
            argv = ["runuser", "-u", self.account, "--", *argv]
        environment = {"LC_ALL": "C"}
        if self.module.params["slurm_conf"]:
            environment["SLURM_CONF"] = self.module.params["slurm_conf"]
        status, output, errors = self.module.run_command(argv, environ_update=environment, cwd="/")
        return int(status), str(output), str(errors)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "account": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "command": {"type": "path"},
            "options": {"type": "list", "elements": "str", "default": []},
            "slurm_bin": {"type": "path", "default": "/usr/bin"},
            "slurm_conf": {"type": "str", "default": ""},
        },
        required_if=[("state", "present", ["command"])],
        supports_check_mode=True,
    )
    module.exit_json(**Scrontab(module).run())


if __name__ == "__main__":
    main()
