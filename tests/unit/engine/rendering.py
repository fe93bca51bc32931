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
        "extra": ["--time-min=10", "--constraint=avx512"],
    },
    "environment": {"NOTE": "it's a trial; $(date)"},
}


def vllm_entry() -> dict[str, Any]:
    """Return the model entry of the contracts' golden example, which runs on vLLM."""
    golden = GOLDEN / "contracts" / "model-entry.json"
    entry: dict[str, Any] = json.loads(golden.read_text(encoding="utf-8"))
    return entry


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
    return source.render(model=model, engine_path=engine_path, ansible_managed="Ansible managed")
