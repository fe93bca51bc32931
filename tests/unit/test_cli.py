"""Commands whose output goes to a closed pipe or to a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "files/sluice/src"
COMMANDS = (["--help"], ["models", "--help"], ["usage", "--help"])


def sluice(arguments: list[str], output: int) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does."""
    program = "import sys; from sluice import cli; sys.exit(cli.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_closed_pipe_is_not_an_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = sluice(arguments, writer)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_full_disk_gets_a_message(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = sluice(arguments, full.fileno())
    assert done.stderr == "sluice: No space left on device: the output is incomplete\n"
    assert done.returncode == 1
