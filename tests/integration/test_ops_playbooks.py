"""`playbooks/ops`, on this machine: what a backup leaves readable, and what a rotation refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.policy.tree import ROOT

pytestmark = pytest.mark.integration

# Both are this machine.
HOSTS = {
    "all": {
        "vars": {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
        },
        "children": {"web": {"hosts": {"gw": {}}}, "proxy": {"hosts": {"gw": {}}}, "relay": {"hosts": {}}},
    }
}
BACKUP = "sluice-20261122T021701Z.db"


def play(
    place: Path, playbook: str, *arguments: str, root: Path = ROOT, **variables: Any
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of `root` with the inventory above."""
    (place / "hosts.json").write_text(json.dumps(HOSTS))
    argv = [
        *(str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(place / "hosts.json")),
        *(str(root / "playbooks" / "ops" / playbook), "-e", json.dumps(variables), *arguments),
    ]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment, cwd=place)


def program(place: Path, text: str) -> Path:
    """Put a shell script in the place of `sluice`; return its environment's folder."""
    (place / "venv" / "bin").mkdir(parents=True)
    (place / "venv" / "bin" / "sluice").write_text(f"#!/bin/sh\n{text}\n")
    (place / "venv" / "bin" / "sluice").chmod(0o755)
    return place / "venv"


def test_nobody_else_can_read_a_backup_while_it_is_fetched(tmp_path: Path) -> None:
    (tmp_path / BACKUP).write_text("names")
    venv = program(tmp_path, f"echo '{tmp_path / BACKUP}'")
    folder = tmp_path / "my backups"
    done = play(tmp_path, "backup.yml", web_venv=str(venv), backup_to=str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "gw").stat().st_mode & 0o777 == 0o700
    assert (folder / "gw" / BACKUP).read_text() == "names"
    assert (folder / "gw" / BACKUP).stat().st_mode & 0o777 == 0o600
    tasks = [line for line in done.stdout.splitlines() if line.startswith("TASK [")]
    assert "the folder on the controller" in tasks[1] and "Fetch" in tasks[2]


def checkout(place: Path) -> Path:
    """Return a checkout, in a folder with a blank, whose rotation only says how it was called."""
    root = place / "my checkout"
    for folder in ("playbooks", "roles"):
        shutil.copytree(ROOT / folder, root / folder)
    (root / "roles" / "proxy" / "files" / "rotate_key.sh").write_text(f'echo "$@" >>"{place}/called"\n')
    return root


def test_a_rotation_runs_from_a_folder_with_blanks(tmp_path: Path) -> None:
    """And where programs may not be started from the folder for temporary files: the shell reads it."""
    root = checkout(tmp_path)
    done = play(tmp_path, "rotate_ssh_key.yml", root=root, proxy_venv=str(program(tmp_path, "exit 1")))
    assert (tmp_path / "called").read_text() == "make sluice-proxy@gw\n", done.stdout + done.stderr


def test_a_rotation_leaves_no_host_out(tmp_path: Path) -> None:
    """A login node that is left out would admit the old key further."""
    done = play(tmp_path, "rotate_ssh_key.yml", "--limit", "gw", root=checkout(tmp_path))
    assert done.returncode != 0 and "without --limit" in done.stdout
    assert not (tmp_path / "called").exists()
