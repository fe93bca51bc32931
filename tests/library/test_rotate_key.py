"""The script that replaces the gateway's SSH key, killed before each of its commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles" / "proxy" / "files" / "rotate_key.sh"
# Every program that the script runs, in the place of which one can end it.
PROGRAMS = ("ssh-keygen", "mv", "rm", "chmod", "mktemp", "chown")
MOST_COMMANDS = 20
# Counts the commands; the one whose number is in `end` kills the script first.
COUNTING = """#!/bin/sh
number=$(($(cat "{place}/count") + 1))
echo $number >"{place}/count"
if [ "$number" = "$(cat "{place}/end")" ]; then kill -9 $PPID; exit 1; fi
{exec}
"""


class Gateway:
    """A gateway's key folder, and the script as it would run there."""

    def __init__(self, place: Path) -> None:
        self.keys = place / "ssh"
        self.keys.mkdir()
        self._place = place
        self._script = place / "rotate_key.sh"
        self._script.write_text(SCRIPT.read_text().replace("/etc/sluice/ssh", str(self.keys)))
        (place / "bin").mkdir()
        for program in PROGRAMS:
            # There is no account of the proxy here.
            run = ":" if program == "chown" else f'exec /usr/bin/{program} "$@"'
            wrapper = place / "bin" / program
            wrapper.write_text(COUNTING.format(place=place, exec=run))
            wrapper.chmod(0o755)
        self.run(
            "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "first", "-f", str(self.keys / "id_ed25519")
        )

    def run(self, *argv: str, end: int = 0) -> int:
        """Run a command; with `end`, kill it before its command of this number. Return its status."""
        (self._place / "count").write_text("0")
        (self._place / "end").write_text(str(end))
        environment = {"PATH": f"{self._place / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(argv, env=environment, capture_output=True, timeout=60).returncode

    def rotate(self, *words: str, end: int = 0) -> int:
        return self.run("sh", str(self._script), *words, end=end)

    def current(self) -> str:
        """Return the public part of the key with which the gateway signs in."""
        argv = ["ssh-keygen", "-y", "-f", str(self.keys / "id_ed25519")]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]

    def published(self) -> list[str]:
        """Return the public keys that the playbook would let login nodes admit."""
        names = ("id_ed25519.pub", "id_ed25519.next.pub")
        return [(self.keys / name).read_text().split()[1] for name in names if (self.keys / name).exists()]


def finish(gateway: Gateway) -> None:
    """Rotate as a whole, and see that nothing is left of what came before."""
    before = gateway.current()
    assert gateway.rotate("make", "next") == 0
    assert set(gateway.published()) > {before}
    assert gateway.rotate("switch") == 0
    assert gateway.published() == [gateway.current()] != [before]
    assert sorted(path.name for path in gateway.keys.iterdir()) == ["id_ed25519", "id_ed25519.pub"]
    assert (gateway.keys / "id_ed25519").stat().st_mode & 0o777 == 0o400
    assert (gateway.keys / "id_ed25519.pub").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("words", [("make", "next"), ("switch",)])
def test_wherever_it_is_killed_the_current_key_is_published_and_the_next_run_ends_well(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    for end in range(1, MOST_COMMANDS):
        (tmp_path / str(end)).mkdir()
        gateway = Gateway(tmp_path / str(end))
        if words == ("switch",):
            assert gateway.rotate("make", "next") == 0
        status = gateway.rotate(*words, end=end)
        assert gateway.current() in gateway.published()
        finish(gateway)
        if status == 0:
            break
    assert end > len(words) + 3, "the script was never killed"
    assert status == 0


def test_a_second_make_keeps_the_next_key(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    assert gateway.rotate("make", "next") == 0
    made = gateway.published()
    assert gateway.rotate("make", "next") == 0
    assert gateway.published() == made and len(made) == 2


def test_a_second_switch_changes_nothing(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.rotate("make", "next")
    gateway.rotate("switch")
    kept = gateway.current()
    assert gateway.rotate("switch") == 0
    assert gateway.published() == [gateway.current()] == [kept]
