"""What lands on the login node around the relay: golden files, and the checks of those who will read it.

After a change on purpose, write the golden files anew:
`python -m tests.unit.forcecommand.test_templates`, and read the difference.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = ROOT / "files" / "forcecommand"
GOLDEN = ROOT / "tests" / "golden" / "forcecommand"
NAMES = ("relay.sh", "sshd-sluice.conf", "sshd-startups.conf", "authorized_keys", "user-slice.conf")

VARIABLES: dict[str, Any] = {
    "relay_account": "sluice-relay",
    "relay_python": "/usr/bin/python3",
    "relay_max_sessions": 16,
    "relay_memory_max": "2G",
    "relay_startups_per_source": 8,
    "relay_public_keys": [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0 gateway-1",
        "ssh-ed25519 AAAAC3Nza second",
    ],
    "relay_from": ["10.77.0.10", "10.78.0.0/24"],
}


def render(name: str, **changes: Any) -> str:
    """Render one template as Ansible does."""
    environment = jinja2.Environment(  # noqa: S701 - configuration, not HTML
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return environment.from_string((TEMPLATES / f"{name}.j2").read_text()).render({**VARIABLES, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_a_template_renders_as_it_was_reviewed(name: str) -> None:
    assert render(name) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_every_golden_file_has_its_template(name: str) -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(NAMES)
    assert (TEMPLATES / f"{name}.j2").exists()


def test_the_launcher_is_shellcheck_clean(tmp_path: Path) -> None:
    rendered = tmp_path / "relay"
    rendered.write_text(render("relay.sh"))
    program = shutil.which("shellcheck") or str(ROOT / ".venv" / "bin" / "shellcheck")
    done = subprocess.run([program, str(rendered)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_only_the_word_any_lets_a_key_come_from_anywhere() -> None:
    assert "from=" not in render("authorized_keys", relay_from=["any"])
    assert render("authorized_keys").count('from="10.77.0.10,10.78.0.0/24" ssh-ed25519') == 2


def test_every_key_line_is_restricted() -> None:
    lines = [line for line in render("authorized_keys").splitlines() if not line.startswith("#")]
    assert len(lines) == 2
    assert all(line.startswith('restrict,command="/usr/local/libexec/sluice/relay"') for line in lines)


def test_a_gateway_that_offers_a_second_line_gets_none() -> None:
    """The key comes from the gateway, which may be breached: a line of its own would carry no restriction."""
    offered = "ssh-ed25519 AAAAC3Nza gateway\nssh-ed25519 AAAAEvil unrestricted\n"
    lines = render("authorized_keys", relay_public_keys=[offered]).splitlines()
    assert [line for line in lines if "Evil" in line] == []
    assert sum(line.endswith("ssh-ed25519 AAAAC3Nza gateway") for line in lines) == 1


def test_the_drop_in_ends_its_match() -> None:
    lines = [line.strip() for line in render("sshd-sluice.conf").splitlines()]
    statements = [line for line in lines if line and not line.startswith("#")]
    assert statements[0] == "Match User sluice-relay"
    assert statements[-1] == "Match all"


if __name__ == "__main__":
    for golden in NAMES:
        (GOLDEN / golden).write_text(render(golden))
