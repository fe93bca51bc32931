#!/usr/bin/python
"""Ansible module: check that a part of Sluice does its work."""

# Copyright: the Sluice contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: sluice_health
short_description: Check that a part of Sluice does its work
description:
  - Looks at one part, on the host where it runs, and fails with what is wrong and what helps.
  - Changes nothing. In check mode a part that is not well is a warning, because it may not be installed yet.
options:
  part:
    description:
      - C(proxy) (on the gateway VM) - it runs, its authority answers, each cluster has a session.
      - C(relay) (on the login node) - sshd confines the account, its key file is root's, Slurm refuses it.
      - C(scheduler) (on the login node) - it ticks.
      - C(model) (on the login node) - each ready instance answers a question of one token.
    type: str
    choices: [proxy, relay, scheduler, model]
    required: true
  wait:
    description: Seconds to wait until the part is well.
    type: int
    default: 0
  status_port:
    description: For C(proxy), its loopback port.
    type: int
    default: 9464
  account:
    description: For C(relay), its account.
    type: str
    default: sluice-relay
  slurm_bin:
    description: For C(relay), the folder of Slurm's commands.
    type: path
    default: /usr/bin
  name:
    description: For C(model), its name.
    type: str
  may_sleep:
    description: For C(model), whether having no instance is well, because nobody asks for it.
    type: bool
    default: false
  timeout:
    description: For C(model), seconds that the answer may take.
    type: int
    default: 60
  program:
    description: For C(model), the program for login nodes.
    type: path
    default: /opt/sluice/sluice.pyz
  python:
    description: For C(model), the Python that runs it.
    type: path
    default: /usr/bin/python3
  state_dir:
    description: For C(scheduler), its folder.
    type: path
    default: /var/lib/sluice
attributes:
  check_mode:
    support: full
author:
  - Sluice
"""

EXAMPLES = r"""
- name: Wait until the gateway has a session with each cluster
  sluice_health:
    part: proxy
    wait: 60

- name: Check that the gateway's key opens nothing but the relay
  sluice_health:
    part: relay

- name: Wait until the model llama answers
  sluice_health:
    part: model
    name: llama
    wait: 900
"""

RETURN = r"""
problem:
  description: What is wrong; empty when the part is well.
  returned: always
  type: str
seconds:
  description: How long it took until the part was well.
  returned: success
  type: float
"""

import grp
import http.client
import json
import os
import pwd
import stat
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

OWNER = 0
LAUNCHER = Path("/usr/local/libexec/sluice/relay")
KEY_FILE = Path("/etc/ssh/sluice/authorized_keys")
CONFINED = {
    "forcecommand": str(LAUNCHER),
    "authorizedkeysfile": str(KEY_FILE),
    "authorizedkeyscommand": "none",
    "disableforwarding": "yes",
    "allowtcpforwarding": "no",
    "allowstreamlocalforwarding": "no",
    "allowagentforwarding": "no",
    "x11forwarding": "no",
    "permittunnel": "no",
    "permittty": "no",
    "permituserrc": "no",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
}
# What Slurm says to an account that it does not know, or that no partition admits.
REFUSALS = ("not permitted", "invalid account", "permission denied", "access/permission")
MAX_TICK_AGE = 120.0
LAST_TICK = "sluice_scheduler_last_tick_timestamp_seconds"
NO_TICK = "see what starts it (cron, systemd, scrontab) by sluice doctor, and journalctl -t sluice-scheduler"
PAUSE = 2.0


class Proxy:
    """The proxy, as its own health says."""

    def __init__(self, module: AnsibleModule) -> None:
        self.port = module.params["status_port"]

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/health")
            health = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"the proxy does not answer on port {self.port} ({error}): see journalctl -u sluice-proxy"
        finally:
            connection.close()
        if not health["authority"]["reachable"]:
            return "the authority does not answer: see journalctl -u sluice-authority"
        down = [self._cluster(cluster) for cluster in health["clusters"] if not self._up(cluster)]
        return "; ".join(down)

    @staticmethod
    def _up(cluster: dict[str, Any]) -> bool:
        return any(session["state"] == "up" for session in cluster["sessions"])

    @staticmethod
    def _cluster(cluster: dict[str, Any]) -> str:
        states = [f"{one['host']}: {one['state']} {one['detail']}".strip() for one in cluster["sessions"]]
        found = ", ".join(states)
        return f"no session with {cluster['name']} ({found}): run playbooks/login.yml and gateway.yml"


class Relay:
    """What the gateway's key opens on the login node."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.account = module.params["account"]
        self.sbatch = str(Path(module.params["slurm_bin"], "sbatch"))

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        return self._account() or self._key_file() or self._sshd() or self._slurm()

    def _account(self) -> str:
        try:
            group = pwd.getpwnam(self.account).pw_gid
        except KeyError:
            return f"there is no account {self.account}: run playbooks/login.yml"
        further = [grp.getgrgid(gid).gr_name for gid in os.getgrouplist(self.account, group) if gid != group]
        if not further:
            return ""
        return f"{self.account} is in further groups ({', '.join(further)}): take it out of them"

    def _key_file(self) -> str:
        for path in (KEY_FILE, KEY_FILE.parent, LAUNCHER, LAUNCHER.parent):
            try:
                found = path.stat()
            except OSError as error:
                return f"{path}: {error.strerror}: run playbooks/login.yml"
            if found.st_uid != OWNER or stat.S_IMODE(found.st_mode) & 0o022:
                return f"{path} must belong to root and be writable by nobody else: run playbooks/login.yml"
        return ""

    def _sshd(self) -> str:
        sshd = self.module.get_bin_path("sshd", required=True, opt_dirs=["/usr/sbin"])
        place = f"user={self.account},host=gateway,addr=192.0.2.1"
        status, output, errors = self.module.run_command([sshd, "-T", "-C", place])
        if status != 0:
            return f"sshd does not accept its configuration: {errors.strip()}"
        settings = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
        found = {key: settings.get(key) for key in CONFINED}
        wrong = [f"{key} is {found[key]}" for key, value in CONFINED.items() if found[key] != value]
        return f"sshd does not confine {self.account}: {', '.join(wrong)}" if wrong else ""

    def _slurm(self) -> str:
        runuser = self.module.get_bin_path("runuser", required=True, opt_dirs=["/usr/sbin", "/sbin"])
        argv = [runuser, "-u", self.account, "--", self.sbatch, "--test-only", "--wrap=true"]
        status, output, errors = self.module.run_command(argv)
        # A Slurm that does not answer refuses nothing: only its own "no" counts.
        if status == 0:
            return f"Slurm takes jobs of {self.account}: shut it out of all partitions (AllowGroups)"
        said = (errors + output).strip()
        if any(words in said.lower() for words in REFUSALS):
            return ""
        return f"cannot tell whether Slurm takes jobs of {self.account}: {said}"


class Scheduler:
    """The scheduler, as its figures say."""

    def __init__(self, module: AnsibleModule) -> None:
        self.figures = Path(module.params["state_dir"], "figures.json")

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        try:
            samples = json.loads(self.figures.read_bytes())["samples"]
        except (OSError, ValueError) as error:
            return f"the scheduler has not ticked ({error}): {NO_TICK}"
        age = time.time() - max((one["value"] for one in samples if one["name"] == LAST_TICK), default=0.0)
        return f"the scheduler's last tick was {age:.0f} s ago: {NO_TICK}" if age > MAX_TICK_AGE else ""


class Model:
    """One model, asked on each of its ready instances by `sluice models ask`, as a relay would ask it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name = module.params["name"]
        self.may_sleep = module.params["may_sleep"]
        self.timeout = module.params["timeout"]
        self.program = module.params["program"]
        self.command = [module.params["python"], "-I", "-S", self.program]

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        if not Path(self.program).exists():
            return f"there is no {self.program}: run playbooks/login.yml"
        answer = self._ask()
        if "problem" in answer:
            return str(answer["problem"])
        if not answer["instances"]:
            # A model that an administrator drained is as it was ordered.
            if answer["status"] == "drained" or (self.may_sleep and answer["status"] == "sleeping"):
                return ""
            return (
                f"{self.name} is {answer['status']} and has no ready instance: see sluice status and squeue"
            )
        return "; ".join(f"{one['id']} {one['problem']}" for one in answer["instances"] if one["problem"])

    def _ask(self) -> dict[str, Any]:
        command = [*self.command, "models", "ask", self.name, "--timeout", str(self.timeout), "--json"]
        status, output, errors = self.module.run_command(command)
        if status != 0:
            return {"problem": f"{self.name}: {errors.strip() or output.strip()}"}
        try:
            answer: dict[str, Any] = json.loads(output)
        except ValueError:
            return {"problem": f"{self.name}: sluice models ask gave no JSON: {output[:500]!r}"}
        return answer


PARTS: dict[str, Any] = {"proxy": Proxy, "relay": Relay, "scheduler": Scheduler, "model": Model}


def wait_until_well(part: Any, seconds: float) -> str:
    """Ask until there is no problem or the time is over; return the last problem."""
    deadline = time.monotonic() + seconds
    while True:
        problem: str = part.problem()
        if not problem or time.monotonic() + PAUSE > deadline:
            return problem
        time.sleep(PAUSE)


def main() -> None:
    """Check and exit."""
    module = AnsibleModule(
        argument_spec={
            "part": {"type": "str", "choices": sorted(PARTS), "required": True},
            "wait": {"type": "int", "default": 0},
            "status_port": {"type": "int", "default": 9464},
            "account": {"type": "str", "default": "sluice-relay"},
            "slurm_bin": {"type": "path", "default": "/usr/bin"},
            "name": {"type": "str"},
            "may_sleep": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
            "program": {"type": "path", "default": "/opt/sluice/sluice.pyz"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "state_dir": {"type": "path", "default": "/var/lib/sluice"},
        },
        required_if=[("part", "model", ["name"])],
        supports_check_mode=True,
    )
    started = time.monotonic()
    wait = 0 if module.check_mode else module.params["wait"]
    problem = wait_until_well(PARTS[module.params["part"]](module), wait)
    if problem and not module.check_mode:
        module.fail_json(msg=problem, problem=problem)
    if problem:
        module.warn(problem)
    module.exit_json(changed=False, problem=problem, seconds=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    main()
