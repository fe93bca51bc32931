"""Running the machine's own commands."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.bed.errors import BedError


def run(
    argv: Sequence[str],
    *,
    timeout: float = 60.0,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it printed; with ``check``, a failure is a BedError that shows it."""
    try:
        done = subprocess.run(
            argv,
            check=False,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise BedError(f"the command {argv[0]} is not installed", "install it") from error
    except subprocess.TimeoutExpired as error:
        raise BedError(f"{' '.join(argv)} had not ended after {timeout:.0f} s") from error
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise BedError(f"{' '.join(argv)} ended with status {done.returncode}: {said}")
    return done
