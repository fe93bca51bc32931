"""`sluice_health` against parts that are well and parts that are not."""

from __future__ import annotations

import grp
import http.server
import json
import os
import pwd
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from module_utils.sluice_sshd import ANYWHERE, CONFINED
from tests.library.ansible_module import Command, load, run

UP: dict[str, Any] = {"name": "demo", "sessions": [{"host": "login", "state": "up", "detail": ""}]}
DOWN: dict[str, Any] = {
    "name": "demo",
    "sessions": [{"host": "login", "state": "host_key_changed", "detail": "another key"}],
}


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers every request with the server's answer."""

    server: Server

    def do_GET(self) -> None:
        """Answer without a look at what is asked."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


class Server(http.server.HTTPServer):
    """One HTTP server on loopback."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answer = answer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


@contextmanager
def serving(server: Server) -> Iterator[int]:
    """Serve in a thread; gives the port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


# --- proxy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reachable", "clusters", "problem"),
    [
        (True, [UP], ""),
        (False, [UP], "the authority does not answer"),
        (True, [UP, {**DOWN, "name": "far"}], "no session with far (login: host_key_changed another key)"),
        (True, [{"name": "demo", "sessions": [*DOWN["sessions"], *UP["sessions"]]}], ""),
    ],
)
def test_the_proxys_own_health_decides(
    reachable: bool, clusters: list[dict[str, Any]], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = {"authority": {"reachable": reachable}, "clusters": clusters}
    with serving(Server(json.dumps(health).encode())) as port:
        result = run(monkeypatch, "sluice_health", {"part": "proxy", "status_port": port}, [])
    assert result["failed"] is bool(problem)
    assert problem in result["problem"]


def test_a_proxy_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server(b"")) as port:
        pass
    result = run(monkeypatch, "sluice_health", {"part": "proxy", "status_port": port}, [])
    assert result["failed"]
    assert "journalctl -u sluice-proxy" in result["msg"]


def test_check_mode_warns_and_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server(b"")) as port:
        pass
    parameters = {"part": "proxy", "status_port": port, "wait": 60}
    result = run(monkeypatch, "sluice_health", parameters, [], check=True)
    assert (result["failed"], result["changed"]) == (False, False)
    assert result["problem"]
    assert result["seconds"] < 10


# --- relay -------------------------------------------------------------------------------------------------


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with key file and launcher in a folder of the test."""
    module = load("sluice_health")
    for name in ("KEY_FILE", "LAUNCHER"):
        path = tmp_path / name.lower() / "file"
        path.parent.mkdir(mode=0o755)
        path.touch(mode=0o644)
        monkeypatch.setattr(module, name, path)
    monkeypatch.setattr(module, "OWNER", os.getuid())
    return module


@dataclass
class Host:
    """What the relay's check asks of AnsibleModule."""

    params: dict[str, Any]
    commands: list[Command]
    warnings: list[str] = field(default_factory=list)

    def get_bin_path(self, name: str, required: bool, opt_dirs: list[str]) -> str:
        """Return the name alone."""
        return name

    def run_command(self, argv: list[str]) -> tuple[int, str, str]:
        """Answer the next expected command."""
        expected = self.commands.pop(0)
        assert argv == expected.argv
        assert isinstance(expected.output, str)
        return expected.status, expected.output, expected.errors

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


ACCOUNT = "nobody"
UID = pwd.getpwnam(ACCOUNT).pw_uid
GROUP = grp.getgrgid(pwd.getpwnam(ACCOUNT).pw_gid).gr_name
SSHD = ["sshd", "-T", "-C", f"user={ACCOUNT},host=127.0.0.9,addr=127.0.0.9,laddr=127.0.0.1,lport=22"]
AS_ACCOUNT = ["runuser", "-u", ACCOUNT, "--"]
SBATCH = [*AS_ACCOUNT, "/usr/bin/sbatch", "--test-only", "--wrap=true"]
SQUEUE = [*AS_ACCOUNT, "/usr/bin/squeue", "--noheader", "--me"]
SYSTEMCTL = ["systemctl", "show", "--property=MemoryMax", "--property=TasksMax", f"user-{UID}.slice"]
ANSWERS = Command(SQUEUE)
REFUSED = Command(
    SBATCH, status=1, errors="allocation failure: User's group not permitted to use this partition"
)
Settings = dict[str, str]


def relay_host(*commands: Command, **params: Any) -> Host:
    """Return a host on which the relay's account is looked at."""
    given = {
        "account": ACCOUNT,
        "slurm_bin": "/usr/bin",
        "slurm_conf": "",
        "sources": ["127.0.0.9"],
        "memory_max": "",
        **params,
    }
    return Host(given, list(commands))


def relay_problem(module: ModuleType, sshd: Settings, *more: Command, **params: Any) -> str:
    """Run the relay's check with what sshd says of itself."""
    output = "".join(f"{key} {value}\n" for key, value in sshd.items())
    host = relay_host(Command(SSHD, output=output), *more, **params)
    problem: str = module.Relay(host).problem()
    assert not host.commands
    return problem


def confined(module: ModuleType) -> Settings:
    """Return what sshd says when all is well."""
    return {**CONFINED, "pubkeyacceptedalgorithms": "rsa-sha2-512,ssh-ed25519"}


def test_a_confined_account_that_slurm_refuses_is_well(relay: ModuleType) -> None:
    assert relay_problem(relay, confined(relay), REFUSED, ANSWERS) == ""


@pytest.mark.parametrize(
    "key", ["forcecommand", "disableforwarding", "permittty", "authorizedkeysfile", "authenticationmethods"]
)
def test_a_setting_that_another_file_overrides_is_named(key: str, relay: ModuleType) -> None:
    settings = {**confined(relay), key: "other"}
    assert f"{key} is other" in relay_problem(relay, settings, REFUSED, ANSWERS)


@pytest.mark.parametrize(
    ("key", "words", "kept_out"),
    [
        ("allowusers", "alice", True),
        ("allowusers", f"alice {ACCOUNT}", False),
        ("allowusers", f"{ACCOUNT}@10.*", True),
        ("allowusers", f"{ACCOUNT}@127.0.0.0/8", False),
        ("denyusers", "nob*", True),
        ("denyusers", "alice", False),
        ("allowgroups", "hpc-users", True),
        ("allowgroups", f"hpc-users {GROUP}", False),
        ("denygroups", GROUP, True),
    ],
)
def test_a_list_that_keeps_the_account_out_is_named(
    key: str, words: str, kept_out: bool, relay: ModuleType
) -> None:
    problem = relay_problem(relay, {**confined(relay), key: words}, REFUSED, ANSWERS)
    assert (f"{key} ({words}) keeps {ACCOUNT} out" in problem) is kept_out
    assert bool(problem) is kept_out


def test_an_sshd_that_takes_no_key_of_the_proxys_type_is_told(relay: ModuleType) -> None:
    settings = {**confined(relay), "pubkeyacceptedalgorithms": "rsa-sha2-512,ecdsa-sha2-nistp256"}
    assert "lacks ssh-ed25519" in relay_problem(relay, settings, REFUSED, ANSWERS)


def test_sshd_is_asked_for_each_place_that_gateways_come_from(relay: ModuleType) -> None:
    assert relay.addresses(["192.0.2.7", "198.51.100.0/24", "2001:db8::/32"]) == [
        "192.0.2.7",
        "198.51.100.1",
        "2001:db8::1",
    ]
    assert relay.addresses(["any"]) == [ANYWHERE]


def test_an_account_that_slurm_lets_in_is_told(relay: ModuleType) -> None:
    allowed = Command(SBATCH, status=0, errors="sbatch: Job 1 to start at …")
    assert "Slurm accepts jobs" in relay_problem(relay, confined(relay), allowed)


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: You must specify an account",
        "Zugriff verweigert",
        "",
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination",
    ],
)
def test_whatever_words_a_site_refuses_with_a_slurm_that_answers_has_refused(
    words: str, relay: ModuleType
) -> None:
    refused = Command(SBATCH, status=1, errors=words)
    assert relay_problem(relay, confined(relay), refused, ANSWERS) == ""


def test_a_slurm_that_does_not_answer_refuses_nothing(relay: ModuleType) -> None:
    silent = Command(SBATCH, status=1, errors="allocation failure: Unable to contact slurm controller")
    away = Command(SQUEUE, status=1, errors="slurm_load_jobs error: Unable to contact slurm controller")
    problem = relay_problem(relay, confined(relay), silent, away)
    assert "unknown whether" in problem and "scheduler_slurm_conf" in problem


def test_slurm_is_asked_with_the_sites_own_configuration(relay: ModuleType) -> None:
    environment = ["env", "SLURM_CONF=/sw/slurm.conf"]
    asked = [
        Command([*AS_ACCOUNT, *environment, *argv[len(AS_ACCOUNT) :]], status=status)
        for argv, status in ((SBATCH, 1), (SQUEUE, 0))
    ]
    assert relay_problem(relay, confined(relay), *asked, slurm_conf="/sw/slurm.conf") == ""


def test_everything_that_is_wrong_is_told_at_once(relay: ModuleType) -> None:
    allowed = Command(SBATCH, status=0)
    problem = relay_problem(relay, {**confined(relay), "permittty": "yes"}, allowed)
    assert "permittty is yes" in problem and "Slurm accepts jobs" in problem


@pytest.fixture
def running(relay: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A relay's process and the files of its slice, in folders of the test; return the slice's folder."""
    process, folder = tmp_path / "proc" / "17", tmp_path / "cgroup" / "user.slice" / f"user-{UID}.slice"
    for path in (process, folder):
        path.mkdir(parents=True)
    (process / "cmdline").write_bytes(b"python3\0sluice.pyz\0relay\0--config\0")
    (process / "cgroup").write_text(f"1:cpu:/\n0::/user.slice/user-{UID}.slice/session-3.scope\n")
    os.chown(process, UID, -1)
    (folder / "memory.max").write_text("2147483648\n")
    (folder / "pids.max").write_text("192\n")
    monkeypatch.setattr(relay, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(relay, "CGROUPS", tmp_path / "cgroup")
    return folder


BOUND = Command(SYSTEMCTL, output="MemoryMax=2147483648\nTasksMax=192\n")


def slice_problem(module: ModuleType, shown: Command = BOUND) -> str:
    """Run the relay's check of its slice."""
    problem: str = module.Relay(relay_host(shown, memory_max="2G"))._slice()
    return problem


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to another account")
def test_bounds_that_the_kernel_holds_the_relays_to_are_well(relay: ModuleType, running: Path) -> None:
    assert slice_problem(relay) == ""


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to another account")
def test_bounds_that_do_not_take_effect_are_told(
    relay: ModuleType, running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbound = Command(SYSTEMCTL, output="MemoryMax=infinity\nTasksMax=192\n")
    assert "does not have the bound of relay_memory_max" in slice_problem(relay, unbound)
    (running / "memory.max").write_text("max\n")
    assert "memory.max is max and should be 2147483648" in slice_problem(relay)
    # sshd without PAM: the session is in sshd's own unit.
    (tmp_path / "proc" / "17" / "cgroup").write_text("0::/system.slice/ssh.service\n")
    assert "and its bounds" in slice_problem(relay) and "UsePAM" in slice_problem(relay)
    shutil.rmtree(tmp_path / "proc" / "17")
    assert "no relay runs here" in slice_problem(relay)


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to another account")
def test_a_kernel_that_enforces_no_such_bound_is_warned_of(relay: ModuleType, running: Path) -> None:
    (running / "memory.max").unlink()
    host = relay_host(BOUND, memory_max="2G")
    assert relay.Relay(host)._slice() == ""
    assert "enforces no such bound" in host.warnings[0]


def test_a_key_file_that_others_may_write_is_told(relay: ModuleType) -> None:
    relay.KEY_FILE.chmod(0o664)
    assert "writable by nobody else" in relay.Relay(relay_host()).problem()


def test_an_account_that_is_missing_is_told(relay: ModuleType) -> None:
    assert "no account no-such-account" in relay.Relay(relay_host(account="no-such-account")).problem()


# --- login -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "errors"),
    [(0, ""), (1, "no new session with login (cluster demo): does not accept the key\n")],
)
def test_a_new_session_decides_not_one_that_stands_since_before(status: int, errors: str) -> None:
    argv = ["runuser", "-u", "sluice-proxy", "--", "/opt/sluice/venv/bin/sluice", "proxy", "--try"]
    host = Host({"venv": "/opt/sluice/venv"}, [Command(argv, status=status, errors=errors)])
    assert load("sluice_health").Login(host).problem() == errors.strip()


# --- key ---------------------------------------------------------------------------------------------------

NO_JSON = "/opt/sluice/venv/bin/sluice proxy --attack: status 2, and no JSON"
ATTACK = [
    *("runuser", "-u", "sluice-proxy", "--", "/opt/sluice/venv/bin/sluice"),
    *("proxy", "--attack", "--json"),
]


def node(problem: str = "", **attacks: str) -> dict[str, Any]:
    """What `sluice proxy --attack --json` tells of a login node."""
    told = [{"name": name, "problem": found} for name, found in attacks.items()]
    return {"cluster": "demo", "host": "login", "problem": problem, "attacks": told}


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (node(sftp=""), ""),
        (
            node(sftp="not refused (ForceCommand): sshd answered 'x'", command=""),
            "sftp: not refused (ForceCommand",
        ),
        (node("login:22 cannot be reached"), "could not be tried: login:22 cannot be reached"),
    ],
)
def test_what_the_key_can_do_is_told_with_all_that_was_tried(found: dict[str, Any], problem: str) -> None:
    output = json.dumps({"version": 1, "login_nodes": [node(sftp=""), found]})
    host = Host({"venv": "/opt/sluice/venv"}, [Command(ATTACK, status=1, output=output)])
    part = load("sluice_health").Key(host)
    told = part.problem()
    assert problem in told and bool(problem) == bool(told)
    assert part.found["login_nodes"][1] == found


@pytest.mark.parametrize(
    ("output", "errors"), [("", "there is no /etc/sluice/proxy.json\n"), ("nonsense", "")]
)
def test_a_proxy_that_cannot_attack_is_a_problem(output: str, errors: str) -> None:
    host = Host({"venv": "/opt/sluice/venv"}, [Command(ATTACK, status=2, output=output, errors=errors)])
    assert load("sluice_health").Key(host).problem() == (errors.strip() or NO_JSON)


# --- scheduler ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "failed"), [(5, False), (300, True)])
def test_the_last_tick_decides(
    age: float, failed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = {"name": "sluice_scheduler_last_tick_timestamp_seconds", "value": time.time() - age}
    (tmp_path / "figures.json").write_text(json.dumps({"samples": [sample]}))
    result = run(monkeypatch, "sluice_health", {"part": "scheduler", "state_dir": str(tmp_path)}, [])
    assert result["failed"] is failed


def test_a_scheduler_that_never_ticked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, "sluice_health", {"part": "scheduler", "state_dir": str(tmp_path)}, [])
    assert result["failed"]
    assert "cron" in result["msg"]


# --- model -------------------------------------------------------------------------------------------------


ASKED = ["/usr/bin/python3", "-I", "-S", "*", "models", "ask", "llama", "--timeout", "5", "--json"]


def ask(
    monkeypatch: pytest.MonkeyPatch, folder: Path, command: Command | None = None, **more: Any
) -> dict[str, Any]:
    """Run the module with a program in place, whose answer is the command's."""
    program = folder / "sluice.pyz"
    program.touch()
    parameters = {"part": "model", "name": "llama", "program": str(program), "timeout": 5, **more}
    return run(monkeypatch, "sluice_health", parameters, [] if command is None else [command])


def answer(status: str, *problems: str) -> Command:
    """Return what `sluice models ask` says of instances with these problems."""
    instances = [{"id": f"llama-{number}", "problem": one} for number, one in enumerate(problems)]
    document = {"version": 1, "name": "llama", "status": status, "instances": instances}
    return Command(ASKED, output=json.dumps(document))


def test_a_model_that_answers_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = ask(monkeypatch, tmp_path, answer("ready", "", ""))
    assert (result["failed"], result["problem"]) == (False, "")


def test_an_instance_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = ask(monkeypatch, tmp_path, answer("ready", "", "answers /v1/completions with 500"))
    assert result["msg"] == "llama-1 answers /v1/completions with 500"


@pytest.mark.parametrize(
    ("status", "may_sleep", "failed"),
    [
        ("sleeping", True, False),
        ("sleeping", False, True),
        ("failed", True, True),
        ("starting", True, True),
        ("drained", False, False),
    ],
)
def test_a_model_may_sleep_where_that_is_meant(
    status: str, may_sleep: bool, failed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = ask(monkeypatch, tmp_path, answer(status), may_sleep=may_sleep)
    assert result["failed"] is failed


def test_a_model_that_the_scheduler_does_not_know_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Command(ASKED, status=1, errors="sluice: no model llama is routed; see: sluice models list\n")
    assert "no model llama is routed" in ask(monkeypatch, tmp_path, refused)["msg"]


def test_an_answer_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "gave no JSON" in ask(monkeypatch, tmp_path, Command(ASKED, output="Hello"))["msg"]


def test_a_login_node_without_the_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"part": "model", "name": "llama", "program": str(tmp_path / "none")}
    assert "playbooks/login.yml" in run(monkeypatch, "sluice_health", parameters, [])["msg"]


def test_waiting_ends_as_soon_as_the_part_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("sluice_health")
    monkeypatch.setattr(module, "PAUSE", 0.01)
    problems = iter(["starting", "starting", ""])

    class Part:
        def problem(self) -> str:
            """Return the next problem."""
            return next(problems)

    assert module.wait_until_well(Part(), 10) == ""
