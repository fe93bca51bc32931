"""What a failed run leaves behind: nothing restarts on a half-made change, and the next run takes it up.

The role `service` on this machine with a stand-in for `systemctl`, and a /var/lib of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.policy.tree import ROOT

# A busy machine takes its time: the bounds are for what hangs.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SECONDS = 400
SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$CALLS"
case $1 in
show) printf 'LoadState=loaded\\nActiveState=active\\nSubState=running\\nUnitFileState=enabled\\n' ;;
is-enabled) echo enabled ;;
esac
"""
PLAY = """\
- name: A service with its configuration
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Write the configuration
      ansible.builtin.copy:
        content: "{{ setting }}"
        dest: "{{ place }}/service.json"
        mode: "0644"

    - name: Fail where a migration would
      ansible.builtin.command: /bin/false
      when: fails

    - name: Run the service
      ansible.builtin.import_role:
        name: service
      vars:
        service_unit: sluice-test.service
        service_change: "{{ change }}"
        service_files: ["{{ place }}/service.json"]
"""


class Machine:
    """Runs the play, and tells what systemctl was asked to do."""

    def __init__(self, place: Path, change: str) -> None:
        self._place, self._change = place, change
        (place / "bin").mkdir()
        (place / "bin" / "systemctl").write_text(SYSTEMCTL)
        (place / "bin" / "systemctl").chmod(0o755)
        (place / "var-lib").mkdir()
        (place / "play.yml").write_text(PLAY)
        self._calls = place / "calls"

    def run(self, setting: str, *, fails: bool = False) -> tuple[int, int, list[str]]:
        """Return exit status, number of changes, and the verbs that changed the unit's state."""
        self._calls.write_text("")
        values = {"setting": setting, "fails": fails, "place": str(self._place), "change": self._change}
        tool = Path(sys.executable).parent / "ansible-playbook"
        play = [
            str(tool),
            "-i",
            "localhost,",
            str(self._place / "play.yml"),
            "--extra-vars",
            json.dumps(values),
        ]
        # In a mount namespace of its own: what the role notes stays out of the machine's /var/lib.
        script = 'mount --bind "$1/var-lib" /var/lib && shift && exec "$@"'
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
                str(self._place),
                *play,
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": f"{self._place / 'bin'}:{os.environ['PATH']}",
                "CALLS": str(self._calls),
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        counted = re.search(r"changed=(\d+)", done.stdout)
        assert counted is not None, done.stdout + done.stderr
        verbs = [line.split()[0] for line in self._calls.read_text().splitlines()]
        return (
            done.returncode,
            int(counted[1]),
            [verb for verb in verbs if verb in ("restart", "reload", "start")],
        )


def test_a_failed_run_restarts_nothing_and_the_next_one_takes_its_change_up(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "restarted")
    assert machine.run("one")[::2] == (0, ["restart"])
    status, _, verbs = machine.run("two", fails=True)
    assert status != 0 and verbs == []
    # Nothing to write any more: what tells is what the service was last given.
    assert machine.run("two")[::2] == (0, ["restart"])
    assert machine.run("two") == (0, 0, [])
