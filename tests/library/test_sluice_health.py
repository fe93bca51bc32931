"""`sluice_health` against parts that are well and parts that are not."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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

    def get_bin_path(self, name: str, required: bool, opt_dirs: list[str]) -> str:
        """Return the name alone."""
        return name

    def run_command(self, argv: list[str]) -> tuple[int, str, str]:
        """Answer the next expected command."""
        expected = self.commands.pop(0)
        assert argv == expected.argv
        assert isinstance(expected.output, str)
        return expected.status, expected.output, expected.errors


ACCOUNT = "nobody"
SSHD = ["sshd", "-T", "-C", f"user={ACCOUNT},host=gateway,addr=192.0.2.1"]
SBATCH = ["runuser", "-u", ACCOUNT, "--", "/usr/bin/sbatch", "--test-only", "--wrap=true"]
REFUSED = Command(
    SBATCH, status=1, errors="allocation failure: User's group not permitted to use this partition"
)


def relay_problem(module: ModuleType, sshd: dict[str, str], *more: Command) -> str:
    """Run the relay's check with what sshd says of itself."""
    output = "".join(f"{key} {value}\n" for key, value in sshd.items())
    host = Host({"account": ACCOUNT, "slurm_bin": "/usr/bin"}, [Command(SSHD, output=output), *more])
    problem: str = module.Relay(host).problem()
    assert not host.commands
    return problem


def confined(module: ModuleType) -> dict[str, str]:
    """Return what sshd says when all is well."""
    return dict(module.CONFINED)


def test_a_confined_account_that_slurm_refuses_is_well(relay: ModuleType) -> None:
    assert relay_problem(relay, confined(relay), REFUSED) == ""


@pytest.mark.parametrize("key", ["forcecommand", "disableforwarding", "permittty", "authorizedkeysfile"])
def test_a_setting_that_another_file_overrides_is_named(key: str, relay: ModuleType) -> None:
    assert f"{key} is none" in relay_problem(relay, {**confined(relay), key: "none"})


def test_an_account_that_slurm_lets_in_is_told(relay: ModuleType) -> None:
    allowed = Command(SBATCH, status=0, errors="sbatch: Job 1 to start at …")
    assert "Slurm takes jobs" in relay_problem(relay, confined(relay), allowed)


def test_a_slurm_that_does_not_answer_refuses_nothing(relay: ModuleType) -> None:
    silent = Command(SBATCH, status=1, errors="allocation failure: Unable to contact slurm controller")
    assert "cannot tell" in relay_problem(relay, confined(relay), silent)


def test_a_key_file_that_others_may_write_is_told(relay: ModuleType) -> None:
    relay.KEY_FILE.chmod(0o664)
    host = Host({"account": ACCOUNT, "slurm_bin": "/usr/bin"}, [])
    assert "writable by nobody else" in relay.Relay(host).problem()


def test_an_account_that_is_missing_is_told(relay: ModuleType) -> None:
    host = Host({"account": "no-such-account", "slurm_bin": "/usr/bin"}, [])
    assert "no account no-such-account" in relay.Relay(host).problem()


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
