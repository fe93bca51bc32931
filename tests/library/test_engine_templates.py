"""The engines' templates under Ansible itself, which renders more strictly than Jinja alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.unit.engine.rendering import COMMAND, LLAMA_CPP_ENTRY, ROOT, cluster_entry, vllm_entry

TEMPLATES = ROOT / "roles" / "model" / "templates"
IMAGE = {"box": "apptainer", "image": "/images/vllm.sif"}
MODELS = {
    "vllm": vllm_entry(),
    "llama-cpp": LLAMA_CPP_ENTRY,
    "vllm-apptainer": {**vllm_entry(), **IMAGE},
    "vllm-modules": {**vllm_entry(), "modules": ["vllm/0.32.0"]},
    "command": vllm_entry(),
    "vllm-nodes": cluster_entry(),
}
# In the playbook's own process: a module for each would take longer than all the rest.
RENDER = [
    {
        "ansible.builtin.assert": {"that": ["text is match('#!/bin/bash\\n')", "'in_box ' in text"]},
        "vars": {
            "model": "{{ item.value }}",
            "template": "{{ item.key | replace('-nodes', '') }}",
            "text": "{{ lookup('ansible.builtin.template', 'engines/' ~ template ~ '.sbatch.j2') }}",
        },
        "loop": "{{ models | dict2items }}",
        "loop_control": {"label": "{{ item.key }}"},
    }
]
# Entries of an inventory leave most fields out.
BARE = {
    "weights": "/w",
    "context_length": 1,
    "slurm": {"partition": "p", "time": 1, "cpus": 1, "memory_mb": 1},
}
OPEN = """\
{% extends 'engines/base.sbatch.j2' %}
{% block engine %}
ready_line=x
serve() { exec engine; }
{% endblock %}
"""


def play(
    folder: Path, tasks: list[dict[str, Any]], *options: str, **variables: Any
) -> subprocess.CompletedProcess[str]:
    """Run tasks on this machine, with `folder`/templates beside them."""
    given = {"folder": str(folder), "engine_path": "/engines/x", "engine_command": COMMAND, **variables}
    given |= {"model_slurm_bin": "/usr/bin", "model_box_read": ["/opt"], "model_box_devices": []}
    head = {"hosts": "localhost", "connection": "local", "gather_facts": False}
    (folder / "play.json").write_text(json.dumps([{**head, "vars": given, "tasks": tasks}]))
    tool = Path(sys.executable).parent / "ansible-playbook"
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    environment |= {"ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_LIBRARY": str(ROOT / "library")}
    return subprocess.run(
        [str(tool), "-i", "localhost,", str(folder / "play.json"), *options],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_ansible_renders_every_engine(tmp_path: Path) -> None:
    (tmp_path / "templates").symlink_to(TEMPLATES)
    models = {**MODELS, "vllm": {"name": "m", "engine": "vllm", **BARE}}
    done = play(tmp_path, RENDER, models=models)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    for name in models:
        assert f"ok: [localhost] => (item={name})" in done.stdout, done.stdout


def test_an_engine_that_is_started_outside_its_box_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "templates" / "engines").mkdir(parents=True)
    (tmp_path / "templates" / "engines" / "open.sbatch.j2").write_text(OPEN)
    register = [{"ansible.builtin.include_role": {"name": "model", "tasks_from": "register"}}]
    facts = {"engine_locks": {}, "engine_root": "/x", "engine_python": "/usr/bin/python3"}
    facts |= {"model_python": "/usr/bin/python3", "model_source": str(ROOT / "files/sluice/src")}
    done = play(
        tmp_path, register, "--check", model_entries=[{"name": "m", "engine": "open", **BARE}], **facts
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "engine open never calls in_box" in said and "box: none" in said
