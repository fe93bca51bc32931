"""`sluice_model` by a table: parameters, expected result, the exact commands it may run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.library.ansible_module import Command, run

MODELS = ["/usr/bin/python3", "-I", "-S", "*", "models"]
PRESENT = {"name": "llama", "entry": {"name": "llama", "engine": "vllm"}, "script": "#!/bin/bash\n"}
ABSENT = {"name": "llama", "state": "absent"}
APPLY = [*MODELS, "apply", "--entry", "*", "--script", "*"]
FILES = {"entry": '{"max": 1}\n', "script": "#!/bin/bash\n"}
OTHER = {"entry": '{"max": 2}\n', "script": "#!/bin/bash\n"}
NONE = {"entry": None, "script": None}


def answer(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return what `sluice models apply` and `remove` print."""
    return json.dumps({"name": "llama", "changed": before != after, "before": before, "after": after})


@dataclass(frozen=True)
class Case:
    """One row: what is asked for, what may be run, what must come of it."""

    name: str
    parameters: dict[str, Any]
    commands: list[Command]
    changed: bool
    check: bool = False
    diff: list[str] = field(default_factory=list)


CASES = [
    Case(
        "a new model is registered",
        PRESENT,
        [
            Command([*APPLY, "--check", "--json"], output=answer(NONE, FILES)),
            Command([*APPLY, "--json"], output=answer(NONE, FILES)),
        ],
        changed=True,
        diff=["llama (entry)", "llama (script)"],
    ),
    Case(
        "a model that is registered with this entry is left alone",
        PRESENT,
        [Command([*APPLY, "--check", "--json"], output=answer(FILES, FILES))],
        changed=False,
    ),
    Case(
        "another entry replaces the present one and shows what differs",
        PRESENT,
        [
            Command([*APPLY, "--check", "--json"], output=answer(FILES, OTHER)),
            Command([*APPLY, "--json"], output=answer(FILES, OTHER)),
        ],
        changed=True,
        diff=["llama (entry)"],
    ),
    Case(
        "check mode says what would change and writes nothing",
        PRESENT,
        [
            Command([*APPLY, "--check", "--json"], output=answer(FILES, OTHER)),
            Command([*APPLY, "--check", "--json"], output=answer(FILES, OTHER)),
        ],
        changed=True,
        check=True,
        diff=["llama (entry)"],
    ),
    Case(
        "waiting goes on until the model is served",
        {**PRESENT, "wait": True, "wait_timeout": 60},
        [
            Command([*APPLY, "--check", "--json"], output=answer(FILES, FILES)),
            Command(
                [*MODELS, "wait", "llama", "--timeout", "60", "--json"],
                output='{"version": 1, "name": "llama", "ready": true, "waited": 4.5}',
            ),
        ],
        changed=False,
    ),
    Case(
        "check mode waits for nothing",
        {**PRESENT, "wait": True},
        [Command([*APPLY, "--check", "--json"], output=answer(FILES, FILES))],
        changed=False,
        check=True,
    ),
    Case(
        "a registered model is taken away",
        ABSENT,
        [
            Command([*MODELS, "remove", "llama", "--check", "--json"], output=answer(FILES, NONE)),
            Command([*MODELS, "remove", "llama", "--json"], output=answer(FILES, NONE)),
        ],
        changed=True,
        diff=["llama (entry)", "llama (script)"],
    ),
    Case(
        "taking away a model that is not there changes nothing",
        ABSENT,
        [Command([*MODELS, "remove", "llama", "--check", "--json"], output=answer(NONE, NONE))],
        changed=False,
    ),
    Case(
        "check mode takes nothing away",
        ABSENT,
        [
            Command([*MODELS, "remove", "llama", "--check", "--json"], output=answer(FILES, NONE)),
            Command([*MODELS, "remove", "llama", "--check", "--json"], output=answer(FILES, NONE)),
        ],
        changed=True,
        check=True,
        diff=["llama (entry)", "llama (script)"],
    ),
]


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A program that is there; the module only asks whether it is."""
    path = tmp_path / "sluice.pyz"
    path.touch()
    return str(path)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_model_comes_into_the_wanted_state(
    case: Case, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {**case.parameters, "program": program}
    result = run(monkeypatch, "sluice_model", parameters, case.commands, check=case.check)
    assert (result["failed"], result["changed"]) == (False, case.changed)
    assert [part["after_header"] for part in result["diff"]] == case.diff


@pytest.mark.parametrize(("parameters", "changed"), [(PRESENT, True), (ABSENT, False)])
def test_check_mode_on_a_host_without_the_program_runs_nothing(
    parameters: dict[str, Any], changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = {**parameters, "program": str(tmp_path / "none.pyz")}
    assert run(monkeypatch, "sluice_model", missing, [], check=True)["changed"] is changed


def test_what_the_command_line_refuses_is_passed_on(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Command([*APPLY, "--check", "--json"], status=1, errors="sluice: max: must be from 1 to 1000")
    result = run(monkeypatch, "sluice_model", {**PRESENT, "program": program}, [refusal])
    assert result["failed"]
    assert result["msg"] == "llama: sluice: max: must be from 1 to 1000"


def test_an_answer_that_is_no_json_is_a_failure(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = Command([*APPLY, "--check", "--json"], output="Segmentation fault")
    result = run(monkeypatch, "sluice_model", {**PRESENT, "program": program}, [strange])
    assert result["failed"]
    assert "gave no JSON" in result["msg"]


def test_a_model_that_is_not_served_in_time_is_a_failure(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [
        Command([*APPLY, "--check", "--json"], output=answer(FILES, FILES)),
        Command([*MODELS, "wait", "llama", "--timeout", "900", "--json"], status=1, errors="llama is failed"),
    ]
    result = run(monkeypatch, "sluice_model", {**PRESENT, "program": program, "wait": True}, commands)
    assert result["failed"]
    assert "llama is failed" in result["msg"]


def test_name_and_entry_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {**PRESENT, "entry": {"name": "other"}}
    assert "differ" in run(monkeypatch, "sluice_model", parameters, [])["msg"]


def test_entry_and_script_reach_the_command_line_in_files(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, str]] = []

    def look(argv: list[str]) -> str:
        entry, script = (Path(argv[argv.index(option) + 1]) for option in ("--entry", "--script"))
        seen.append((json.loads(entry.read_text()), script.read_text()))
        return answer(FILES, FILES)

    command = Command([*APPLY, "--check", "--json"], output=look)
    assert not run(monkeypatch, "sluice_model", {**PRESENT, "program": program}, [command])["changed"]
    assert seen == [(PRESENT["entry"], PRESENT["script"])]
