"""Every command on the login node prints what Slurm, jobs and other people wrote as harmless single lines."""

from __future__ import annotations

import json
import logging
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.cli import COMMANDS, main
from sluice.logs import JsonFormatter
from sluice.scheduler.doctor import facts
from sluice.scheduler.policy import policy
from sluice.scheduler.policy.memory import Backoff
from sluice.scheduler.state import FailedStart
from tests.fakes.slurm.slurm import Cluster
from tests.unit.scheduler.site import Site

HOSTILE = (
    "X\x1b[2J\x1b]0;title\x07\u202egnp\u2066\x9b\x85m: forged\r\nm: forged\tline\u2028m: forged"
    "\x7f\u200b\ud800"
)
FORGED = re.compile(r"(?m)^\W*m: forged")


@pytest.fixture
def told(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give a site where everything that others may write is hostile, and the path of its configuration."""
    site.up()
    (instance,) = site.scheduler.state.instances.values()
    state = site.scheduler.state
    other = replace(
        instance,
        id="m-00000009",
        job_id="9",
        record=None,
        submit_error=HOSTILE,
        reason=HOSTILE,
        job_state=HOSTILE,
    )
    more = replace(
        other, id="m-0000000a", submit_error="", leaving=HOSTILE, cancel_reason="", job_state="RUNNING"
    )
    memory = replace(state.memory["m"], message=HOSTILE, obstacle=HOSTILE, failures=1)
    site.scheduler._save(
        replace(
            state,
            instances={**state.instances, other.id: other, more.id: more},
            memory={"m": memory},
            backoff=Backoff(1, site.now, site.now + 1e9, HOSTILE),
            failed_starts={"m": FailedStart("m-00000001", HOSTILE, "", (HOSTILE, "\x1b[2Jwords"))},
        )
    )
    (site.root / "scheduler.json").write_text(json.dumps(vars(site.config)))
    yield site


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command and return all that it printed; nothing of it is unfit for a terminal."""
    main(list(arguments))
    found = "".join(capsys.readouterr())
    unfit = {one for one in found if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert unfit <= {"\n", "\t"}
    assert not FORGED.search(found)
    return found


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("models", "list"),
        ("models", "list", "--json"),
        ("models", "show", "m"),
        ("models", "show", "m", "--json"),
        ("models", "wait", "m", "--timeout", "0"),
        ("models", "drain", "m", "--wait", "--timeout", "0"),
        ("models", "resume", "m", "--wait", "--timeout", "0"),
        ("models", "restart", "m", "--wait", "--timeout", "0"),
    ],
    ids=" ".join,
)
def test_what_is_known_of_models_is_printed_clean(
    told: Site, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    command, *rest = words
    if rest[:1] == ["wait"]:
        # Nothing serves, so that what is wrong is told.
        (told.root / "routing.json").unlink()
    text = printed(capsys, command, "--config", f"{told.root}/scheduler.json", *rest)
    assert "gnp" in text or rest[:1] in (["drain"], ["resume"], ["restart"])


def test_the_answers_of_an_instance_are_printed_clean(
    told: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.scheduler.commands.models.answers", lambda *_: HOSTILE)
    for more in ((), ("--json",)):
        assert "gnp" in printed(
            capsys, "models", "--config", f"{told.root}/scheduler.json", "ask", "m", *more
        )


def test_what_slurm_says_to_the_doctor_is_printed_clean(
    told: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(told.root / "slurm").install(refusal=HOSTILE.replace("\ud800", ""))
    fields = json.loads((told.root / "scheduler.json").read_text())
    (told.root / "scheduler.json").write_text(json.dumps({**fields, "slurm_bin": str(cluster.bin)}))
    monkeypatch.setattr(facts, "PROGRAMS", ("sbatch",))
    for more in ((), ("--json",)):
        assert "gnp" in printed(capsys, "doctor", "--config", f"{told.root}/scheduler.json", *more)


def test_names_of_files_are_printed_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "\u202egnp.safetensors").write_bytes(b"x")
    (folder / os.fsdecode(b"\xff.pt")).write_bytes(b"x")
    for words in (("make",), ("check",), ("check", "--quick")):
        assert "refused" in printed(capsys, "weights", *words, str(folder))
    entry = tmp_path / "entry.json"
    entry.write_text(json.dumps({"name": HOSTILE, HOSTILE: 1}))
    fields = {"entry": str(entry), "script": str(entry)}
    options = [word for name, value in fields.items() for word in (f"--{name}", value)]
    config = tmp_path / "scheduler.json"
    config.write_text("{}")
    assert printed(capsys, "models", "--config", str(config), "apply", *options)


def test_every_command_of_the_scheduler_is_tested_here() -> None:
    known = {"scheduler", "status", "models", "doctor", "weights"}
    assert {name for name, one in COMMANDS.items() if one.module.startswith("sluice.scheduler.")} - known <= {
        "nodes"
    }


def test_a_log_line_is_one_line_of_ascii() -> None:
    record = logging.makeLogRecord({"msg": HOSTILE, "levelname": "INFO", "problem": HOSTILE})
    assert JsonFormatter("scheduler").format(record).isprintable()
    assert policy.ORDERED.isprintable()
