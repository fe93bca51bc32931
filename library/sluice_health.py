#!/usr/bin/python
"""Ansible module: check that a part of Sluice works."""

# Copyright: the Sluice contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: sluice_health
short_description: Check that a part of Sluice works
description:
  - Checks one part, on the host where it runs, and fails with the problem and a remedy.
  - Changes nothing. In check mode a problem is only a warning, because the part may not be installed yet.
options:
  part:
    description:
      - C(proxy) (on the gateway VM) - it runs, its authority answers, each cluster has a session.
      - C(login) (on the gateway VM) - the proxy's key and code can open a new session with each login node.
      - C(key) (on the gateway VM) - each login node refuses what a thief of the proxy's key would try. This
        is found by trying it.
      - C(relay) (on the login node) - sshd admits the gateways and confines the account, the key file belongs
        to root, Slurm refuses the account, and its relays run within the bounds of its slice.
      - C(scheduler) (on the login node) - it ticks.
      - C(model) (on the login node) - each ready instance answers a question of one token.
    type: str
    choices: [proxy, login, key, relay, scheduler, model]
    required: true
  wait:
    description: Seconds to wait until the part works.
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
  sources:
    description: For C(relay), the addresses of gateways, in the form of C(relay_from).
    type: list
    elements: str
    default: []
  memory_max:
    description: For C(relay), the memory bound that its slice must have; empty does not check it.
    type: str
    default: ""
  venv:
    description: For C(login) and C(key), the environment with the proxy.
    type: path
    default: /opt/sluice/venv
  slurm_bin:
    description: For C(relay), the folder of Slurm's commands.
    type: path
    default: /usr/bin
  slurm_conf:
    description: For C(relay), Slurm's configuration file; if empty, Slurm uses its default.
    type: str
    default: ""
  name:
    description: For C(model), its name.
    type: str
  may_sleep:
    description: For C(model), whether it may have no instance because nobody asks for it.
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

- name: Check that the gateway's key can start only the relay
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
  description: What is wrong; empty if the part works.
  returned: always
  type: str
login_nodes:
  description:
    - For C(key), each login node (C(cluster), C(host), C(problem)) with its C(attacks) (C(name), C(problem)).
    - C(problem) is empty if nothing is wrong.
  returned: for C(key), if the attacks could be made
  type: list
  elements: dict
seconds:
  description: Seconds until the part worked.
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
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sluice_sshd import (
    KEY_FILE,
    LAUNCHER,
    addresses,
    local_address,
    shut_out,
    sshd_settings,
    unconfined,
)

OWNER = 0
CGROUPS = Path("/sys/fs/cgroup")
PROCESSES = Path("/proc")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MAX_TICK_AGE = 120.0
LAST_TICK = "sluice_scheduler_last_tick_timestamp_seconds"
NO_TICK = "see what starts it (cron, systemd, scrontab) by sluice doctor, and journalctl -t sluice-scheduler"
PAUSE = 2.0


class Proxy:
    """The proxy, by its own health page."""

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


class Login:
    """A new session with each login node, opened like the proxy's: an old session proves nothing."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.program = str(Path(module.params["venv"], "bin", "sluice"))

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        runuser = self.module.get_bin_path("runuser", required=True, opt_dirs=["/usr/sbin", "/sbin"])
        argv = [runuser, "-u", "sluice-proxy", "--", self.program, "proxy", "--try"]
        status, output, errors = self.module.run_command(argv)
        return "" if status == 0 else (errors.strip() or output.strip() or f"{self.program}: status {status}")


class Key:
    """What the proxy's key can do at each login node, found by trying it."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.program = str(Path(module.params["venv"], "bin", "sluice"))
        self.found: dict[str, Any] = {}

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        runuser = self.module.get_bin_path("runuser", required=True, opt_dirs=["/usr/sbin", "/sbin"])
        argv = [runuser, "-u", "sluice-proxy", "--", self.program, "proxy", "--attack", "--json"]
        status, output, errors = self.module.run_command(argv)
        try:
            nodes = json.loads(output)["login_nodes"]
        except ValueError:
            return errors.strip() or f"{self.program} proxy --attack: status {status}, and no JSON"
        self.found = {"login_nodes": nodes}
        return "; ".join(filter(None, map(self._of_node, nodes)))

    @staticmethod
    def _of_node(node: dict[str, Any]) -> str:
        place = f"{node['host']} (cluster {node['cluster']})"
        if node["problem"]:
            return f"{place} could not be tried: {node['problem']}"
        got = [f"{one['name']}: {one['problem']}" for one in node["attacks"] if one["problem"]]
        if not got:
            return ""
        return (
            f"{place} does not confine the gateway's key: {'; '.join(got)}. Something that sshd reads before "
            "/etc/ssh/sshd_config.d/10-sluice.conf overrides it: run playbooks/check.yml for the login node"
        )


class Relay:
    """What the gateway's key can do on the login node."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.account = module.params["account"]
        self.sources = module.params["sources"]
        self.memory_max = module.params["memory_max"]
        self.slurm_bin = Path(module.params["slurm_bin"])
        self.slurm_conf = module.params["slurm_conf"]

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        found = self._account() or self._key_file()
        if found:
            return found
        return "; ".join(filter(None, (self._sshd(), self._slurm(), self._slice())))

    def _account(self) -> str:
        try:
            group = pwd.getpwnam(self.account).pw_gid
        except KeyError:
            return f"there is no account {self.account}: run playbooks/login.yml"
        further = [grp.getgrgid(gid).gr_name for gid in os.getgrouplist(self.account, group) if gid != group]
        if not further:
            return ""
        return f"{self.account} is in further groups ({', '.join(further)}): remove it from them"

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
        """Return how sshd would treat a gateway wrongly, for one address of each network in `sources`."""
        sshd = self.module.get_bin_path("sshd", required=True, opt_dirs=["/usr/sbin"])
        groups = [grp.getgrgid(pwd.getpwnam(self.account).pw_gid).gr_name]
        problems: list[str] = []
        for peer in addresses(self.sources):
            connection = f"user={self.account},host={peer},addr={peer},laddr={local_address(peer)},lport=22"
            status, output, errors = self.module.run_command([sshd, "-T", "-C", connection])
            if status != 0:
                return f"sshd does not accept its configuration: {errors.strip()}"
            settings = sshd_settings(output)
            for found in (*unconfined(settings), *shut_out(settings, self.account, groups, peer)):
                if found not in problems:
                    problems.append(found)
        if not problems:
            return ""
        return (
            f"sshd does not treat {self.account} as files/forcecommand/sshd-sluice.conf.j2 says: "
            f"{', '.join(problems)}. sshd uses the first value that it reads: find the one before the "
            f"drop-in, and exclude {self.account} there (Match User *,!{self.account})"
        )

    def _slurm(self) -> str:
        """Return whether Slurm accepts jobs of the account, by sbatch's status: messages differ by site."""
        status, _, errors = self.module.run_command(self._as_account("sbatch", "--test-only", "--wrap=true"))
        if status == 0:
            return f"Slurm accepts jobs of {self.account}: exclude it from all partitions (AllowGroups)"
        # If Slurm does not answer at all, it has not refused the account.
        asked, _, said = self.module.run_command(self._as_account("squeue", "--noheader", "--me"))
        if asked == 0:
            return ""
        return (
            f"unknown whether Slurm accepts jobs of {self.account}: {' '.join((errors or said).split())}; "
            "Slurm's commands must work for every account here (scheduler_slurm_bin, scheduler_slurm_conf)"
        )

    def _as_account(self, command: str, *arguments: str) -> list[str]:
        runuser = self.module.get_bin_path("runuser", required=True, opt_dirs=["/usr/sbin", "/sbin"])
        environment = ["env", f"SLURM_CONF={self.slurm_conf}"] if self.slurm_conf else []
        return [runuser, "-u", self.account, "--", *environment, str(self.slurm_bin / command), *arguments]

    def _slice(self) -> str:
        """Return whether the slice has its bounds and contains the running relays."""
        if not self.memory_max:
            return ""
        name = f"user-{pwd.getpwnam(self.account).pw_uid}.slice"
        wanted = str(size_of(self.memory_max))
        argv = ["systemctl", "show", "--property=MemoryMax", "--property=TasksMax", name]
        _, output, _ = self.module.run_command(argv)
        shown = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        if shown.get("MemoryMax") != wanted or not shown.get("TasksMax", "").isdigit():
            bounds = ", ".join(f"{key}={value}" for key, value in sorted(shown.items()))
            return (
                f"{name} does not have the bound of relay_memory_max ({bounds}): run playbooks/login.yml; "
                f"systemctl cat {name} shows whether another file overrides it"
            )
        return self._held(name, {"memory.max": wanted, "pids.max": shown["TasksMax"]})

    def _held(self, name: str, wanted: dict[str, str]) -> str:
        folders = relay_cgroups(pwd.getpwnam(self.account).pw_uid)
        if not folders:
            return (
                "no relay runs here: no gateway has a session, so it is unknown whether the slice contains it"
            )
        for folder in folders:
            if f"/{name}/" not in f"{folder}/":
                return (
                    f"a relay runs in {folder}, outside {name} and its bounds: let sshd use "
                    "PAM (UsePAM yes) with pam_systemd in its session (/etc/pam.d/sshd)"
                )
        slice_folder = CGROUPS / folders[0][: folders[0].index(name) + len(name)].lstrip("/")
        for file, value in wanted.items():
            found = read_word(slice_folder / file)
            if found is None:
                self.module.warn(
                    f"{slice_folder}/{file} does not exist: this host's kernel enforces no such bound"
                )
            elif found != value:
                return f"{slice_folder}/{file} is {found} and should be {value}: systemctl daemon-reload"
        return ""


def size_of(text: str) -> int:
    """Return the bytes for a size such as 2G."""
    return int(text[:-1]) * UNITS[text[-1]] if text[-1] in UNITS else int(text)


def relay_cgroups(uid: int) -> list[str]:
    """Return the cgroup paths (v2) of the running relays."""
    found = []
    for folder in PROCESSES.iterdir():
        try:
            if not folder.name.isdigit() or folder.stat().st_uid != uid:
                continue
            if b"relay" not in (folder / "cmdline").read_bytes().split(b"\0"):
                continue
            lines = (folder / "cgroup").read_text().splitlines()
        except OSError:
            # The process has ended meanwhile.
            continue
        found += [line[3:] for line in lines if line.startswith("0::")]
    return found


def read_word(path: Path) -> Optional[str]:
    """Return the content of a file with one word, or None if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


class Scheduler:
    """The scheduler, by its metrics file."""

    def __init__(self, module: AnsibleModule) -> None:
        self.metrics_file = Path(module.params["state_dir"], "figures.json")

    def problem(self) -> str:
        """Return what is wrong, or ""."""
        try:
            samples = json.loads(self.metrics_file.read_bytes())["samples"]
        except (OSError, ValueError) as error:
            return f"the scheduler has not ticked ({error}): {NO_TICK}"
        age = time.time() - max((one["value"] for one in samples if one["name"] == LAST_TICK), default=0.0)
        return f"the scheduler's last tick was {age:.0f} s ago: {NO_TICK}" if age > MAX_TICK_AGE else ""


class Model:
    """One model: `sluice models ask` asks each of its ready instances, as a relay would."""

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
            # No instance is right for a model that an administrator drained.
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


PARTS: dict[str, Any] = {
    "proxy": Proxy,
    "login": Login,
    "key": Key,
    "relay": Relay,
    "scheduler": Scheduler,
    "model": Model,
}


def wait_until_well(part: Any, seconds: float) -> str:
    """Check until there is no problem or `seconds` have passed; return the last problem."""
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
            "sources": {"type": "list", "elements": "str", "default": []},
            "memory_max": {"type": "str", "default": ""},
            "venv": {"type": "path", "default": "/opt/sluice/venv"},
            "slurm_bin": {"type": "path", "default": "/usr/bin"},
            "slurm_conf": {"type": "str", "default": ""},
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
    part = PARTS[module.params["part"]](module)
    problem = wait_until_well(part, wait)
    found = getattr(part, "found", {})
    if problem and not module.check_mode:
        module.fail_json(msg=problem, problem=problem, **found)
    if problem:
        module.warn(problem)
    module.exit_json(changed=False, problem=problem, seconds=round(time.monotonic() - started, 1), **found)


if __name__ == "__main__":
    main()
