"""The README's own commands, as they stand there, in a fresh environment, until they need the hosts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.policy.planted import SECRETS, certificate
from tests.policy.tree import ROOT

# A busy machine takes its time: the bounds are for what hangs.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SECONDS = 400


def commands() -> list[str]:
    """Return the commands of the README's chapter for sites."""
    chapter = (ROOT / "README.md").read_text().split("## At your site", 1)[1].split("\n## ", 1)[0]
    (block,) = re.findall(r"^```\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL)
    return [line for line in str(block).splitlines() if line]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would hand out, without an environment or a build."""
    folder = tmp_path_factory.mktemp("install") / "sluice"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


def run(command: str, folder: Path) -> str:
    """Run one command as a reader's shell would; return what it said. Fails with that when it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    # The reader's own Python, not that of the environment which these tests run in.
    path = os.pathsep.join(part for part in kept["PATH"].split(os.pathsep) if not part.endswith("/.venv/bin"))
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        env={**kept, "PATH": path, "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{command}\n{said[-4000:]}"
    return said


def edit(words: list[str], folder: Path) -> None:
    """Do what the reader's editor does: secrets into the vault, the certificate's place into site.yml."""
    vault, site = (
        folder / words[-1].replace("{site,models,vault}", "vault"),
        folder / words[-1].replace("{site,models,vault}", "site"),
    )
    text = vault.read_text()
    for name, value in SECRETS.items():
        assert f'{name}: ""' in text
        text = text.replace(f'{name}: ""', f'{name}: "{value}"')
    vault.write_text(text)
    certificate(folder.parent, "tls", first=-3650, last=36_500)
    changed, count = re.subn(r"/etc/ssl/sluice/chat\.example\.org", f"{folder.parent}/tls", site.read_text())
    assert count == 2
    site.write_text(changed)


def test_the_readmes_commands_run_as_written_until_they_need_the_hosts(checkout: Path) -> None:
    site_runs = 0
    for command in commands():
        if command.startswith("$EDITOR "):
            edit(shlex.split(command), checkout)
        elif " playbooks/site.yml" in command:
            # The example's hosts do not exist: what comes before they are needed.
            said = run(f"{command} --tags validate,build", checkout)
            assert "Build the zipapp" in said
            site_runs += 1
        else:
            run(command, checkout)
    assert site_runs == 2
    built = sorted(path.name for path in (checkout / "build").rglob("sluice*") if path.is_file())
    assert [name.split("-")[0] for name in built] == ["sluice", "sluice.pyz"]


@pytest.mark.parametrize("limit", ["login_node", "gateway"])
def test_whichever_hosts_a_run_is_limited_to_the_build_is_made_first(limit: str, checkout: Path) -> None:
    """With --limit an old build went out without a word."""
    playbook = next(command for command in commands() if " playbooks/site.yml" in command)
    zipapp = checkout / "build" / "sluice.pyz"
    zipapp.write_text("an old build")
    run(f"{playbook.split(' --check')[0]} --tags build --limit {limit}", checkout)
    assert zipapp.read_bytes().startswith(b"#!/usr/bin/env python3\nPK")
