"""`sluice_scrontab` by a table: what there is, what is asked for, the exact commands, what comes of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.library.ansible_module import Command, run

# An account that every machine has.
ACCOUNT = "nobody"
AS_ACCOUNT = ["runuser", "-u", ACCOUNT, "--"] if os.geteuid() == 0 else []
LIST = [*AS_ACCOUNT, "/usr/bin/scrontab", "-l"]
INSTALL = [*AS_ACCOUNT, "/usr/bin/scrontab", "*"]
PRESENT = {"account": ACCOUNT, "command": "/shared/launch", "options": ["--time=5", "--partition=cron"]}
ABSENT = {"account": ACCOUNT, "state": "absent"}
OWN = "#SCRON --time=9\n0 3 * * * /home/x/nightly\n"
BLOCK = "# BEGIN sluice\n#SCRON --time=5\n#SCRON --partition=cron\n* * * * * /shared/launch\n# END sluice\n"
OLD = "# BEGIN sluice\n#SCRON --time=60\n* * * * * /old\n# END sluice\n"


@dataclass(frozen=True)
class Case:
    """One row: `after` is what the account's scrontab holds at the end, None where it stays unread."""

    name: str
    parameters: dict[str, Any]
    listed: Command
    after: str
    changed: bool


CASES = [
    Case(
        "an account without a scrontab is given the entry",
        PRESENT,
        Command(LIST, 1, "", "no crontab for nobody\n"),
        BLOCK,
        True,
    ),
    Case("what else the account has stays", PRESENT, Command(LIST, output=OWN), OWN + BLOCK, True),
    Case(
        "the entry that is there is left alone",
        PRESENT,
        Command(LIST, output=OWN + BLOCK),
        OWN + BLOCK,
        False,
    ),
    Case(
        "an entry of other options is replaced", PRESENT, Command(LIST, output=OLD + OWN), OWN + BLOCK, True
    ),
    Case(
        "a last line without its end is ended", PRESENT, Command(LIST, output=OWN.rstrip()), OWN + BLOCK, True
    ),
    Case("the entry alone is taken out", ABSENT, Command(LIST, output=OWN + BLOCK), OWN, True),
    Case("nothing to take out is nothing to do", ABSENT, Command(LIST, output=OWN), OWN, False),
    Case(
        "a Slurm without scrontab has no entry",
        ABSENT,
        Command(LIST, 1, "", "fatal: scrontab is disabled on this cluster"),
        "",
        False,
    ),
]


@pytest.mark.parametrize("check", [False, True], ids=["done", "checked"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_scrontab_is_brought_into_its_state(
    case: Case, check: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def install(argv: list[str]) -> str:
        written.append(Path(argv[-1]).read_text())
        assert Path(argv[-1]).stat().st_mode & 0o077 == 0
        return ""

    commands = [case.listed]
    if case.changed and not check:
        commands.append(Command(INSTALL, output=install))
    result = run(monkeypatch, "sluice_scrontab", case.parameters, commands, check=check)
    assert (result["failed"], result["changed"]) == (False, case.changed)
    assert result["diff"]["after"] == case.after
    assert written == ([case.after] if case.changed and not check else [])


def test_a_slurm_that_says_no_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    disabled = Command(LIST, 1, "", "scrontab: fatal: scrontab is disabled on this cluster")
    result = run(monkeypatch, "sluice_scrontab", PRESENT, [disabled])
    assert result["failed"] and "ScronParameters=enable" in result["msg"] and "disabled" in result["msg"]
    refused = Command(INSTALL, 1, "", "There was an issue with the job submission on lines 2-3")
    result = run(monkeypatch, "sluice_scrontab", PRESENT, [Command(LIST, output=OWN), refused])
    assert result["failed"] and "lines 2-3" in result["msg"]


def test_a_controller_that_does_not_answer_is_not_taken_for_an_empty_scrontab(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = Command(LIST, 1, "", "slurm_request_crontab: Unable to contact slurm controller")
    for parameters in (PRESENT, ABSENT):
        assert run(monkeypatch, "sluice_scrontab", parameters, [silent])["failed"]
