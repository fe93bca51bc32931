"""`sluice limits`, `admission`, `announcements` and `audit` on the gateway VM."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sluice.cli import main
from sluice.web.settings.config import LimitRule, WebConfig
from tests.unit.web.settings.test_config import write


class Vm:
    """The VM's command line, with what the last command printed."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = config
        self._capsys = capsys
        self.out = self.error = ""

    def run(self, *arguments: str) -> int:
        status = main([*arguments, "--config", str(self._config)])
        self.out, self.error = self._capsys.readouterr()
        return status

    def json(self, *arguments: str) -> Any:
        assert self.run(*arguments, "--json") == 0, self.error
        document = json.loads(self.out)
        assert document["version"] == 1
        return document


@pytest.fixture
def vm(tmp_path: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]) -> Vm:
    """A VM whose inventory has one limit."""
    Path(settings.session_dir).mkdir(exist_ok=True)
    limited = dataclasses.replace(settings, limits=(LimitRule("user:*", "", 60),))
    return Vm(write(tmp_path / "web.json", limited), capsys)


def test_limits_are_set_listed_beside_the_inventorys_and_removed(vm: Vm) -> None:
    assert vm.run("limits", "set", "group:bio", "--model", "big", "--tokens-per-day", "5000") == 0
    assert "group:bio  big" in vm.out
    listed = vm.json("limits", "list")["limits"]
    assert [(one["from"], one["scope"], one["tokens_per_day"]) for one in listed] == [
        ("inventory", "user:*", None),
        ("here", "group:bio", 5000),
    ]
    assert vm.run("limits", "list") == 0
    assert vm.out.splitlines()[0].split()[:2] == ["SCOPE", "MODEL"]
    assert vm.run("limits", "remove", "group:bio") == 1
    assert "see: sluice limits list" in vm.error
    assert vm.run("limits", "remove", "group:bio", "--model", "big") == 0
    assert len(vm.json("limits", "list")["limits"]) == 1


def test_an_invalid_limit_is_refused_with_the_reason(vm: Vm) -> None:
    for arguments, words in (
        (("everybody", "--concurrent", "1"), "none of site"),
        (("site",), "it would limit nothing"),
        (("user:u-nobody", "--concurrent", "1"), "There is no user u-nobody"),
        (("site", "--concurrent", "-3"), "from 0"),
    ):
        assert vm.run("limits", "set", *arguments) == 2
        assert words in vm.error
    assert vm.json("audit", "list")["entries"] == []


def test_a_model_is_stopped_and_resumed(vm: Vm) -> None:
    assert vm.run("admission", "stop", "big", "--new", "--message", "Back at noon.") == 0
    assert vm.json("admission", "list")["stopped"][0]["message"] == "Back at noon."
    assert vm.run("admission", "list") == 0
    assert "Back at noon." in vm.out
    assert vm.run("admission", "resume", "big") == 0
    assert vm.run("admission", "resume", "big") == 1
    assert "big is not stopped" in vm.error
    assert vm.run("admission", "stop", "a b") == 2
    assert "not the name of a model" in vm.error


def test_a_mistyped_model_is_not_stopped_and_the_command_fails(vm: Vm) -> None:
    assert vm.run("limits", "set", "site", "--model", "llama", "--concurrent", "3") == 0
    assert vm.run("admission", "stop", "lama", "--message", "Back at noon.") == 1
    assert "did you mean llama?" in vm.error and "nothing was stopped" in vm.error
    assert vm.run("admission", "stop", "elsewhere") == 1
    assert "--new" in vm.error
    assert vm.json("admission", "list")["stopped"] == []
    assert vm.run("admission", "stop", "llama") == 0
    # The message of a stopped model can be changed.
    assert vm.run("admission", "stop", "new", "--new") == 0
    assert vm.run("admission", "stop", "new", "--message", "Later.") == 0


def test_an_announcement_is_added_listed_and_removed(vm: Vm) -> None:
    made = vm.json("announcements", "add", "Down at ten", "--level", "warning", "--ends", "2999-01-01")
    number = made["announcement"]["id"]
    assert made["announcement"]["state"] == "shown"
    assert vm.run("announcements", "list") == 0
    assert "2999-01-01T00:00:00Z  Down at ten" in vm.out
    assert vm.run("announcements", "remove", str(number)) == 0
    assert vm.run("announcements", "remove", str(number)) == 1
    assert vm.json("announcements", "list")["announcements"][0]["state"] == "ended"
    assert vm.run("announcements", "add", "x", "--ends", "soon") == 2
    assert "“soon” is not a time" in vm.error
    assert vm.run("announcements", "add", "a\nb") == 2


def test_what_operators_did_is_in_the_log(vm: Vm) -> None:
    vm.run("limits", "set", "site", "--concurrent", "3")
    vm.run("limits", "set", "site", "--concurrent", "4")
    vm.run("admission", "stop", "big", "--new")
    entries = vm.json("audit", "list")["entries"]
    assert [(one["actor"], one["action"]) for one in entries] == [
        ("operator:ada", "admission.stop"),
        ("operator:ada", "limit.set"),
        ("operator:ada", "limit.set"),
    ]
    assert entries[1]["before"]["concurrent"] == 3
    assert vm.run("audit", "list", "--what", "limit.set", "--most", "1") == 0
    assert '{"concurrent": 3}  {"concurrent": 4}' in vm.out
    assert vm.json("audit", "list", "--until", "2020-01-01")["entries"] == []
    assert vm.run("audit", "list", "--since", "yesterday") == 2
    assert "not a time" in vm.error
