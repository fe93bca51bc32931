"""A real Slurm accepts every engine's job script, of one node and of several."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.system.service import Service
from tests.unit.engine.rendering import LLAMA_CPP_ENTRY, cluster_entry, render, vllm_entry

# What every partition of the bed has room for, with everything asked for that needs no database of accounts.
ASKED = {"partition": "burst", "time": 60, "cpus": 1, "memory_mb": 500, "gpus": 1, "nice": 10, "time_min": 5}
ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    "vllm": ("vllm", vllm_entry()),
    "vllm-nodes": ("vllm", cluster_entry()),
    "vllm-apptainer": ("vllm-apptainer", {**vllm_entry(), "image": "/shared/images/vllm.sif"}),
    "vllm-modules": ("vllm-modules", {**vllm_entry(), "modules": ["vllm/0.32.0"]}),
    "llama-cpp": ("llama-cpp", {**LLAMA_CPP_ENTRY, "engine_args": []}),
    "command": ("command", {**vllm_entry(), "engine": "sglang", "engine_args": []}),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_slurm_accepts_the_script(service: Service, name: str) -> None:
    template, entry = ENTRIES[name]
    nodes = min(2, entry["slurm"].get("nodes", 1))
    asked = {**ASKED, "nodes": nodes, "requeue": nodes == 1, "warn": 60}
    script = render(template, {**entry, "slurm": asked}, "/shared/engines/one")
    text = base64.b64encode(script.encode()).decode()
    command = f"cd /; echo {text} | base64 -d | runuser -u sluice -- sbatch --test-only 2>&1"
    said = service.shell("login", command)
    assert "to start at" in said, said
    assert f"using {nodes} processors" in said, said
