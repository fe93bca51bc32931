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
  state_dir:
    description: For C(scheduler) and C(model), the scheduler's folder.
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
import ssl
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
NO_TICK = "see whether cron runs, and journalctl -t sluice-scheduler"
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
    """One model, asked on each of its ready instances as the relay would ask it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.name = module.params["name"]
        self.may_sleep = module.params["may_sleep"]
        self.timeout = module.params["timeout"]
        self.table = Path(module.params["state_dir"], "routing.json")

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        try:
            models = json.loads(self.table.read_bytes())["models"]
        except (OSError, ValueError) as error:
            return f"there is no routing table ({error}): the scheduler has not ticked"
        if self.name not in models:
            return f"{self.name} is not in the routing table: run playbooks/models.yml, or wait for a tick"
        model = models[self.name]
        ready = [one for one in model["instances"] if one["state"] == "ready"]
        if not ready:
            if self.may_sleep and model["status"] == "sleeping":
                return ""
            return f"{self.name} is {model['status']} and has no ready instance: see sluice status and squeue"
        return "; ".join(filter(None, (self._ask(one, model["capabilities"]) for one in ready)))

    def _ask(self, instance: dict[str, Any], capabilities: list[str]) -> str:
        path, question = self._question(capabilities)
        connection = _PinnedConnection(instance, self.timeout)
        headers = {"Authorization": f"Bearer {instance['key']}", "Content-Type": "application/json"}
        try:
            connection.request("POST", path, json.dumps(question), headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return f"{instance['id']} does not answer ({type(error).__name__})"
        finally:
            connection.close()
        if answer.status != 200 or b'"choices"' not in body:
            return f"{instance['id']} answers {path} with {answer.status}"
        return ""

    def _question(self, capabilities: list[str]) -> tuple[str, dict[str, Any]]:
        if "chat" in capabilities:
            messages = [{"role": "user", "content": "Hello"}]
            return "/v1/chat/completions", {"model": self.name, "messages": messages, "max_tokens": 1}
        return "/v1/completions", {"model": self.name, "prompt": "Hello", "max_tokens": 1}


class _PinnedConnection(http.client.HTTPSConnection):
    """Speaks to whoever shows the certificate of the routing table, and to nobody else."""

    def __init__(self, instance: dict[str, Any], timeout: float) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # The comparison of the certificate's bytes below stands for both.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__(instance["host"], instance["port"], timeout=timeout, context=context)
        self._certificate = ssl.PEM_cert_to_DER_cert(instance["certificate"])

    def connect(self) -> None:
        """Connect, and compare before anything is sent."""
        super().connect()
        if self.sock.getpeercert(binary_form=True) != self._certificate:
            self.close()
            raise ssl.SSLError("another certificate than the routing table's")


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
