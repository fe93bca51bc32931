"""The front's small parts: its configuration, its identity, the checks of a head, its command."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.contracts.heads import InstanceRequest
from sluice.contracts.paths import PATHS
from sluice.contracts.values import CERTIFICATE, JOB_KEY
from sluice.errors import ConfigError, SluiceError
from sluice.front import command, identity
from sluice.front.config import EngineAddress, FrontConfig
from sluice.front.screening import check_head

ENVIRONMENT = {
    "SLUICE_JOB_DIR": "/shared/jobs/m-0123abcd",
    "SLUICE_INSTANCE": "m-0123abcd",
    "SLUICE_NONCE": "0123abcd",
    "SLUICE_PORTS": "20000-20999",
    "SLUICE_CONCURRENCY": "16",
    "SLUICE_MAX_BODY": "8388608",
    "SLURM_JOB_ID": "17",
    "SLURMD_NODENAME": "c1",
}


def read(engine: str = "/tmp/e.sock", health: str = "/health", **changes: str) -> FrontConfig:
    return FrontConfig.read(engine, health, "/tmp/private", {**ENVIRONMENT, **changes})


def test_a_configuration_is_read() -> None:
    config = read()
    assert config.engine == EngineAddress("/tmp/e.sock")
    assert (config.ports[0], config.ports[-1]) == (20000, 20999)
    assert (config.host, config.job_id, config.concurrency) == ("c1", "17", 16)


def test_an_engine_may_be_on_loopback_and_nowhere_else() -> None:
    assert read("tcp:127.0.0.1:8000").engine == EngineAddress("", 8000)
    assert read("tcp:127.0.0.1:8000@/p/door.sock").engine == EngineAddress("", 8000, "/p/door.sock")
    for address in (
        "tcp:127.0.0.1:80@",
        "tcp:127.0.0.1:80@door",
        "tcp:10.0.0.1:8000",
        "tcp:127.0.0.1:",
        "e.sock",
        "http://127.0.0.1:8000",
        "",
    ):
        with pytest.raises(ConfigError, match="--engine-socket"):
            read(address)


@pytest.mark.parametrize("path", ["health", "/health?x", "//", "/a b", "/health\n", ""])
def test_a_bad_health_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="--engine-health"):
        read(health=path)


@pytest.mark.parametrize("name", sorted(ENVIRONMENT))
def test_a_missing_variable_is_named(name: str) -> None:
    given = {key: value for key, value in ENVIRONMENT.items() if key != name}
    with pytest.raises(ConfigError, match=name):
        FrontConfig.read("/tmp/e.sock", "/health", "/tmp/private", given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_JOB_DIR", "jobs"),
        ("SLUICE_INSTANCE", "m"),
        ("SLUICE_NONCE", "0123ABCD"),
        ("SLUICE_PORTS", "20999-20000"),
        ("SLUICE_PORTS", "80-90"),
        ("SLUICE_PORTS", "20000-70000"),
        ("SLUICE_PORTS", "20000"),
        ("SLUICE_CONCURRENCY", "0"),
        ("SLUICE_MAX_BODY", "8M"),
        ("SLURM_JOB_ID", "17; id"),
        ("SLURMD_NODENAME", "c1,c2"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read(**{name: value})


def test_an_identity_keeps_the_job_records_contract(tmp_path: Path) -> None:
    made = identity.make(tmp_path / "private")
    assert JOB_KEY.fullmatch(made.key)
    assert CERTIFICATE.fullmatch(made.certificate)
    assert made.context.minimum_version is ssl.TLSVersion.TLSv1_3
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-text"],
        input=made.certificate,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "NIST CURVE: P-256" in shown
    assert "CA:FALSE" in shown


def test_a_private_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o755)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for path in (open_to_all, link, tmp_path / "no" / "parent"):
        with pytest.raises(ConfigError, match="--private-dir"):
            identity.make(path)


def test_a_private_directory_of_somebody_elses_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could open it again or replace the certificate after its mode was checked."""
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="--private-dir"):
        identity.make(tmp_path / "private")


def test_without_openssl_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="openssl: not found"):
        identity.make(tmp_path / "private")


def head(method: str, path: str, length: int = 0) -> InstanceRequest:
    return InstanceRequest("req-" + "0" * 32, method, path, length)


@pytest.mark.parametrize(
    "given",
    [
        head("GET", "/health"),
        head("GET", "/metrics"),
        head("POST", "/v1/completions", 10),
        *(head("POST", path) for path in PATHS),
    ],
)
def test_screening_accepts_the_closed_list(given: InstanceRequest) -> None:
    check_head(given, 10)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (head("GET", "/Health"), "path_not_found"),
        (head("GET", "/health/"), "path_not_found"),
        (head("GET", "*"), "path_not_found"),
        (head("POST", "/v1/completions?x"), "path_not_found"),
        (head("POST", "http://engine/v1/completions"), "path_not_found"),
        *(
            (head(method, path), "path_not_found")
            for method in ("GET", "POST", "DELETE")
            for path in (
                "/v1/models",
                "/v1/responses/resp_1",
                "/v1/responses/resp_1/cancel",
                "/v1/messages/count_tokens/",
                "/v1/messages/batches",
                "/v1/messages/render",
                "/v1/responses/input_items",
                "/v1/responses/render",
                "/v1/tokenize",
                "/detokenize",
                "/tokenizer_info",
                "/rerank",
                "/v2/rerank",
                "/v1/score",
                "/v1/embeddings/",
                "/pooling",
                "/invocations",
                "/v1/load_lora_adapter",
                "/sleep",
            )
        ),
        (head("GET", "/v1/responses"), "method_not_allowed"),
        (head("POST", "/health"), "method_not_allowed"),
        (head("GET", "/v1/completions"), "method_not_allowed"),
        (head("get", "/health"), "method_not_allowed"),
        (head("GET", "/health", 1), "invalid_request"),
        (head("POST", "/v1/completions", 11), "body_too_large"),
    ],
)
def test_screening_refuses_the_rest(given: InstanceRequest, code: str) -> None:
    with pytest.raises(SluiceError) as caught:
        check_head(given, 10)
    assert caught.value.code == code


def test_the_command_says_what_is_missing() -> None:
    program = "import sys; from sluice.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "front", "--engine-socket", "/tmp/e", "--private-dir", "/tmp/p"],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(command.__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "SLUICE_JOB_DIR" in done.stderr


def in_a_process(program: str) -> str:
    """Run a program in its own process, because a process's limits stay; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(command.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_no_process_of_the_same_account_may_look_into_it() -> None:
    """Engines and other jobs run as the same account: they must get neither memory nor core dumps."""
    program = (
        "import ctypes, resource; from sluice.front import command; command._close_to_others(); "
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))"
    )
    assert in_a_process(program) == "0 0 0"


@pytest.mark.parametrize(
    ("concurrency", "limits", "soft"),
    [(16, (64, 4096), 1056), (16, (1100, 4096), 1100), (10_000, (1024, 4096), 4096)],
)
def test_it_asks_for_the_descriptors_of_full_load(
    concurrency: int, limits: tuple[int, int], soft: int
) -> None:
    program = (
        f"import resource; from sluice.front import command; from resource import RLIMIT_NOFILE as N; "
        f"resource.setrlimit(N, {limits}); command._allow_connections({concurrency}); "
        f"print(*resource.getrlimit(N))"
    )
    assert in_a_process(program) == f"{soft} {limits[1]}"
