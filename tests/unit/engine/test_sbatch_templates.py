"""The rendered job scripts: golden files, shellcheck, and what each engine's command line must hold."""

from __future__ import annotations

import difflib
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest

from tests.unit.engine.rendering import GOLDEN, LLAMA_CPP_ENTRY, cluster_entry, render, vllm_entry

ENGINES = "/shared/sluice/engines"
CONTAINED = {
    **vllm_entry(),
    "engine": "vllm-apptainer",
    "box": "apptainer",
    "image": "/shared/images/vllm.sif",
    "slurm": {"partition": "gpu", "time": 1440, "cpus": 8, "memory_mb": 64000, "gpus": 2},
}
CONTAINED_NODES = cluster_entry(engine="vllm-apptainer", box="apptainer", image="/shared/images/vllm.sif")
BEHIND_MODULES = {**vllm_entry(), "engine": "vllm-modules", "modules": ["gcc/13.2", "vllm/0.32.0"]}
SERVED_BY_COMMAND = {**vllm_entry(), "engine": "sglang", "engine_args": ["--tp", "2"]}
SCRIPTS = {
    "vllm": lambda: render("vllm", vllm_entry(), f"{ENGINES}/vllm-cpu-0123456789ab"),
    "llama-cpp": lambda: render("llama-cpp", LLAMA_CPP_ENTRY, f"{ENGINES}/llama-cpp-0123456789ab"),
    "vllm-nodes": lambda: render("vllm", cluster_entry(), f"{ENGINES}/vllm-0123456789ab"),
    "vllm-apptainer": lambda: render("vllm-apptainer", CONTAINED, ""),
    "vllm-apptainer-nodes": lambda: render("vllm-apptainer", CONTAINED_NODES, ""),
    "vllm-modules": lambda: render("vllm-modules", BEHIND_MODULES, ""),
    "command-port": lambda: render("command", SERVED_BY_COMMAND, ""),
}


def shellcheck() -> str:
    """Return the path of shellcheck, from beside this Python or from PATH."""
    found = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    assert found, "shellcheck is missing: install requirements-dev.txt"
    return found


@pytest.mark.parametrize("engine", sorted(SCRIPTS))
def test_the_script_is_the_golden_one(engine: str) -> None:
    golden = (GOLDEN / "sbatch" / f"{engine}.sbatch").read_text(encoding="utf-8")
    made = SCRIPTS[engine]()
    assert made == golden, "\n".join(
        difflib.unified_diff(golden.splitlines(), made.splitlines(), "golden", "made")
    )


@pytest.mark.parametrize("engine", sorted(SCRIPTS))
def test_shellcheck_accepts_the_script(engine: str) -> None:
    checked = subprocess.run(
        [shellcheck(), "--shell=bash", "-"], input=SCRIPTS[engine](), capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    "argument",
    [
        '--uds "$socket"',
        "--no-enable-log-requests",
        "--no-enable-log-outputs",
        "--no-log-error-stack",
        "--disable-uvicorn-access-log",
        "--allowed-media-domains none.invalid",
        "--no-trust-remote-code",
        "--no-trust-request-chat-template",
        "--no-trust-request-mm-kwargs",
    ],
)
def test_vllm_is_started_with(argument: str) -> None:
    assert argument in SCRIPTS["vllm"]()


@pytest.mark.parametrize("argument", ["--host", "--port", "--api-key", "--enable-lora", "--allowed-local"])
def test_vllm_is_never_started_with(argument: str) -> None:
    assert argument not in SCRIPTS["vllm"]()


def test_an_empty_option_leaves_no_line() -> None:
    lines = SCRIPTS["vllm"]().splitlines()
    assert not [line for line in lines if line.startswith(("#SBATCH --gpus", "#SBATCH --qos"))]


def test_options_stand_before_the_first_command() -> None:
    """Slurm ignores #SBATCH lines that follow a command."""
    lines = SCRIPTS["llama-cpp"]().splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(n for n, line in enumerate(lines) if line.startswith("#SBATCH")) < first_command


def test_values_of_the_inventory_are_words_and_never_commands() -> None:
    entry = vllm_entry()
    entry["weights"] = "/weights/a b; touch /tmp/x"
    entry["engine_args"] = ["--hf-overrides", '{"a": "$(id)"}']
    script = render("vllm", entry, "/engines/vllm")
    assert "serve '/weights/a b; touch /tmp/x' \\" in script
    assert """--hf-overrides '{"a": "$(id)"}'""" in script


@pytest.mark.parametrize("engine", sorted(SCRIPTS))
def test_every_engine_is_started_in_its_box(engine: str) -> None:
    kind = "apptainer" if "apptainer" in engine else "bubblewrap"
    script = SCRIPTS[engine]()
    assert f" box --kind {kind} " in script
    assert "in_box " in script
    # bubblewrap's; a container has an option of its own.
    assert ('" --network' in script) == engine.endswith("-nodes")


def test_an_engine_without_a_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    empty = tmp_path / "engines" / "empty.sbatch.j2"
    empty.write_text("{% extends 'engines/base.sbatch.j2' %}", encoding="ascii")
    with pytest.raises(jinja2.exceptions.TemplateRuntimeError, match="engine"):
        render("empty", vllm_entry(), "/engines/empty", tmp_path)
