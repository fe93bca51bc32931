"""Render an engine's sbatch template as Ansible's template action would."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jinja2

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "roles" / "model" / "templates"
GOLDEN = ROOT / "tests" / "golden"

LLAMA_CPP_ENTRY: dict[str, Any] = {
    "name": "smollm2-light",
    "engine": "llama-cpp",
    "weights": "/shared/sluice/weights/SmolLM2-135M-Instruct.gguf",
    "context_length": 2048,
    "concurrency": 4,
    "engine_args": ["--chat-template", "chatml"],
    "slurm": {
        "partition": "scavenge",
        "time": 60,
        "cpus": 1,
        "memory_mb": 1000,
        "gpus": 1,
        "gres": "license:llm:1",
        "account": "chat",
        "qos": "low",
        "nice": 100,
        "time_min": 10,
        "reservation": "chat-nodes",
        "requeue": True,
        "warn": 300,
        "extra": ["--constraint=avx512"],
    },
    "environment": {"NOTE": "it's a trial; $(date)"},
}
# An engine that is no template, as model_engine_commands describes one.
COMMAND: dict[str, Any] = {
    "command": [
        "/sw/sglang/bin/python",
        "-m",
        "sglang.launch_server",
        "--host",
        "127.0.0.1",
        "--port",
        "@port@",
    ],
    "ready": "The server is fired up and ready to roll!",
    "health": "/health_generate",
}


def vllm_entry() -> dict[str, Any]:
    """Return the model entry of the contracts' golden example, which runs on vLLM."""
    golden = GOLDEN / "contracts" / "model-entry.json"
    entry: dict[str, Any] = json.loads(golden.read_text(encoding="utf-8"))
    return entry


def cluster_entry(**changes: Any) -> dict[str, Any]:
    """Return an entry of a large model: four nodes with eight GPUs each, weights with a manifest."""
    return {
        "name": "llama-3.1-405b",
        "engine": "vllm",
        "weights": "/shared/models/Llama-3.1-405B-Instruct",
        "manifest": "0f" * 32,
        "context_length": 131072,
        "concurrency": 64,
        "slurm": {
            "partition": "gpu",
            "time": 2880,
            "cpus": 64,
            "memory_mb": 960000,
            "gpus": 8,
            "nodes": 4,
            "warn": 0,
        },
        "environment": {"NCCL_SOCKET_IFNAME": "ib0"},
        **changes,
    }


def render(template: str, model: dict[str, Any], engine_path: str, *more: Path) -> str:
    """Return the script that `engines/<template>.sbatch.j2` makes of `model`; `more` are template folders."""
    environment = jinja2.Environment(  # noqa: S701 - shell, not HTML
        loader=jinja2.FileSystemLoader([*more, TEMPLATES]),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["quote"] = shlex.quote
    source = environment.get_template(f"engines/{template}.sbatch.j2")
    return source.render(
        model=model,
        engine_path=engine_path,
        engine_command=COMMAND,
        model_slurm_bin="/opt/slurm/bin",
        model_box_read=["/opt", "/sw"],
        model_box_devices=[],
        ansible_managed="Ansible managed",
    )
