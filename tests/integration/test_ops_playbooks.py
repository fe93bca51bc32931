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
        "children": {
            **{group: {"hosts": {"gw": {}}} for group in ("web", "authority", "proxy")},
            "relay": {"hosts": {}},
        },
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
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "HOME": str(place),
        "ANSIBLE_HOME": f"{place}/.ansible",
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
    }
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


@pytest.mark.parametrize(("named", "is_at"), [("kept", "kept"), ("~/kept", "kept"), (None, "sluice-backups")])
def test_a_folder_is_where_the_shell_has_it(named: str | None, is_at: str, tmp_path: Path) -> None:
    """Not beside the playbook: nobody wants people's names in a repository."""
    (tmp_path / BACKUP).write_text("names")
    venv = program(tmp_path, f"echo '{tmp_path / BACKUP}'")
    where: dict[str, Any] = {} if named is None else {"backup_to": named}
    done = play(tmp_path, "backup.yml", web_venv=str(venv), **where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / is_at / "gw" / BACKUP).read_text() == "names"


# A unit's state is a file; `systemctl` is asked for it, and changes it.
SYSTEMCTL = """#!/bin/sh
for last in "$@"; do :; done
case "$*" in
    *show*)
        echo LoadState=loaded
        echo "ActiveState=$(cat "{place}/units/$last" 2>/dev/null || echo inactive)" ;;
    *stop*) echo inactive >"{place}/units/$last" ;;
    *start*) echo active >"{place}/units/$last" ;;
esac
"""
RUNNING = ("sluice-authority.service", "sluice-web-nightly.timer", "sluice-web.service")


@pytest.mark.parametrize(("named", "status"), [("mine/{name}", 0), ("~/mine/{name}", 1)])
def test_a_restore_leaves_the_backups_of_the_vm_and_nothing_else(
    named: str, status: int, tmp_path: Path
) -> None:
    for folder in ("bin", "units", "mine", "backups"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin" / "systemctl").write_text(SYSTEMCTL.format(place=tmp_path))
    (tmp_path / "bin" / "systemctl").chmod(0o755)
    for unit in RUNNING:
        (tmp_path / "units" / unit).write_text("active\n")
    (tmp_path / "backups" / BACKUP).write_text("whole")
    (tmp_path / "mine" / BACKUP).write_text("cut off")
    venv = program(
        tmp_path, f'[ $2 = upgrade ] || {{ cat "$3" >"{tmp_path}/given"; echo ok; exit {status}; }}'
    )
    root = checkout(tmp_path)
    text = (root / "playbooks" / "ops" / "restore.yml").read_text()
    # There is no account of web here.
    text = text.replace("owner: sluice-web", f"owner: {os.getuid()}")
    text = text.replace("group: sluice-web", f"group: {os.getgid()}")
    (root / "playbooks" / "ops" / "restore.yml").write_text(text)
    done = play(
        tmp_path, "restore.yml", root=root, web_venv=str(venv), web_backup_dir=str(tmp_path / "backups"),
        backup=named.format(name=BACKUP),
    )  # fmt: skip
    assert (done.returncode != 0) == bool(status), done.stdout + done.stderr
    assert (tmp_path / "given").read_text() == "cut off"
    assert {path.name: path.read_text() for path in (tmp_path / "backups").iterdir()} == {BACKUP: "whole"}
    assert all((tmp_path / "units" / unit).read_text() == "active\n" for unit in RUNNING)


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
