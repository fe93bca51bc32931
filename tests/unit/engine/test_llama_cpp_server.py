"""The launcher of llama.cpp: its command line, and what it sets. llama.cpp itself is not loaded here."""

from __future__ import annotations

import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.felt import Stopwatch
from tests.unit.engine.rendering import ROOT


@pytest.fixture(scope="module")
def launcher() -> ModuleType:
    path = ROOT / "roles" / "engine" / "files" / "llama_cpp_server.py"
    spec = importlib.util.spec_from_file_location("llama_cpp_server", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    model = ["--model", str(tmp_path / "m.gguf"), "--alias", "tiny", "--socket", "/tmp/x/engine.sock"]
    return [*model, "--context", "2048", "--slots", "4", "--threads", "3"]


def parameters() -> SimpleNamespace:
    """Return what stands for llama.cpp's parameters, everything open that can be."""
    parts = {"model": SimpleNamespace(), "cpuparams": SimpleNamespace(), "cpuparams_batch": SimpleNamespace()}
    return SimpleNamespace(
        **parts, ui=True, endpoint_slots=True, endpoint_props=True, offline=False, verbosity=3
    )


def test_the_context_is_that_of_one_request(launcher: ModuleType, given: list[str]) -> None:
    params = parameters()
    launcher.apply(launcher.arguments(given), params)
    assert (params.n_ctx, params.n_parallel) == (8192, 4)
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)


def test_it_listens_on_the_socket_alone(launcher: ModuleType, given: list[str]) -> None:
    params = parameters()
    launcher.apply(launcher.arguments(given), params)
    assert (params.hostnames, params.port) == (["/tmp/x/engine.sock"], 0)


def test_pages_slots_downloads_and_logs_are_off(launcher: ModuleType, given: list[str]) -> None:
    params = parameters()
    launcher.apply(launcher.arguments(given), params)
    assert (params.ui, params.endpoint_slots, params.endpoint_props) == (False, False, False)
    assert (params.offline, params.verbosity, params.slot_save_path) == (True, 1, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--model", "/absent.gguf"], "no such file"),
        (["--socket", "/tmp/engine"], "must end in .sock"),
        (["--socket", "/" + "x" * 120 + ".sock"], "at most 107 bytes"),
        (["--slots", "0"], "--slots must be at least 1"),
        (["--context", "many"], "invalid int value"),
    ],
)
def test_a_wrong_value_is_named(
    launcher: ModuleType,
    given: list[str],
    change: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        launcher.arguments([*given, *change])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """A server that tells how many requests run, one number after the other; the last stays."""
    path, running = str(tmp_path / "engine.sock"), [0]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                count = running.pop(0) if len(running) > 1 else running[0]
                text = f"llamacpp:requests_processing {count}\nllamacpp:requests_deferred 0\n"
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + text.encode())

    thread = threading.Thread(target=serve)
    thread.start()
    yield path, running
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_it_ends_when_what_runs_is_over(launcher: ModuleType, metrics: tuple[str, list[int]]) -> None:
    path, running = metrics
    running[:] = [2, 1, 0]
    with Stopwatch() as felt:
        launcher.wait_until_idle(path, 10)
    assert running == [0]
    assert felt.seconds < 5


def test_it_does_not_wait_for_a_long_answer_for_ever(
    launcher: ModuleType, metrics: tuple[str, list[int]]
) -> None:
    path, running = metrics
    running[:] = [1]
    began = time.monotonic()
    with Stopwatch() as felt:
        launcher.wait_until_idle(path, 0.3)
    assert time.monotonic() - began >= 0.3
    assert felt.seconds < 5


def test_it_does_not_wait_for_a_server_that_is_silent(launcher: ModuleType, tmp_path: Path) -> None:
    assert not launcher.busy(str(tmp_path / "none.sock"))
