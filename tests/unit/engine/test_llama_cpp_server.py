"""The launcher of llama.cpp: its command line, and what it sets. llama.cpp itself is not loaded here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

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
