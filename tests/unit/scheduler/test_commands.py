"""The command line on the login node, from registration to a model that is served."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sluice.cli import main
from tests.unit.scheduler.test_tick import GOLDEN, Site


@dataclasses.dataclass
class Desk:
    """A terminal on the login node of a site."""

    site: Site
    capsys: pytest.CaptureFixture[str]

    def say(self, *words: str, status: int = 0) -> str:
        """Run one command, expect its exit status, return what it printed."""
        config = ["--config", f"{self.site.root}/scheduler.json"]
        assert main([words[0], *config, *words[1:]]) == status
        captured = self.capsys.readouterr()
        return captured.out + captured.err

    def ask(self, *words: str, status: int = 0) -> Any:
        """Run one command with --json and return its document."""
        return json.loads(self.say(*words, "--json", status=status).splitlines()[0])


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Give a site without models, its configuration file, and files to register a model from."""
    monkeypatch.setattr("sluice.scheduler.catalogue.UNSETTLED", 0.0)
    root = tmp_path / "site"
    root.mkdir()
    site = Site(root)
    document = dataclasses.asdict(site.config)
    (root / "scheduler.json").write_text(json.dumps({"version": 1, **document}))
    entry = {**json.loads((GOLDEN / "model-entry.json").read_text()), "name": "m"}
    (tmp_path / "entry.json").write_text(json.dumps(entry))
    (tmp_path / "script").write_text("#!/bin/bash\ntrue\n")
    return Desk(site, capsys)


def files(desk: Desk) -> list[str]:
    """Return the arguments that name the files to register."""
    folder = desk.site.root.parent
    return ["--entry", f"{folder}/entry.json", "--script", f"{folder}/script"]


def test_a_model_is_applied_served_waited_for_and_removed(desk: Desk) -> None:
    assert desk.ask("models", "apply", *files(desk), "--check")["changed"] is True
    assert desk.ask("models", "list")["models"] == {}
    applied = desk.ask("models", "apply", *files(desk))
    assert applied["changed"] is True and applied["before"] == {"entry": None, "script": None}
    assert desk.ask("models", "apply", *files(desk))["changed"] is False
    assert desk.ask("models", "wait", "m", "--timeout", "0", status=1)["ready"] is False
    instance = desk.site.up()
    assert desk.ask("models", "wait", "m", "--timeout", "5")["ready"] is True
    shown = desk.ask("models", "show", "m")
    assert shown["entry"]["name"] == "m"
    (one,) = shown["models"]["m"]["instances"]
    assert (one["id"], one["state"], one["address"]) == (instance, "ready", "c1:20001")
    assert desk.ask("models", "remove", "m")["changed"] is True
    assert desk.ask("models", "remove", "m")["changed"] is False
    desk.site.tick()
    assert desk.ask("status")["models"]["m"]["instances"][0]["state"] == "draining"


def test_waiting_after_a_change_waits_for_the_new_digest(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    desk.site.up()
    (desk.site.root.parent / "script").write_text("#!/bin/bash\nfalse\n")
    desk.say("models", "apply", *files(desk))
    desk.site.tick()
    assert desk.ask("models", "wait", "m", "--timeout", "0", status=1)["model"]["status"] == "ready"
    desk.site.run("2", port=20002)
    desk.site.tick()
    desk.say("models", "wait", "m", "--timeout", "0")


def test_waiting_for_a_model_that_sleeps_by_right_ends_at_once(desk: Desk) -> None:
    entry = desk.site.root.parent / "entry.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "min": 0}))
    desk.say("models", "apply", *files(desk))
    desk.say("models", "wait", "m", "--timeout", "0", status=1)
    desk.site.tick()
    assert "sleeping" in desk.say("models", "wait", "m", "--timeout", "0")


def test_waiting_for_a_failed_model_ends_with_the_reason(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    for number in range(1, 6):
        desk.site.tick(700)
        desk.site.slurm.end(str(number), "FAILED")
        desk.site.tick()
    assert "job 5 ended (FAILED)" in desk.say("models", "wait", "m", "--timeout", "60", status=1)


def test_the_tables_show_models_and_instances(desk: Desk) -> None:
    assert "not ticked yet" in desk.say("status")
    desk.say("models", "apply", *files(desk))
    instance = desk.site.up()
    text = desk.say("status")
    assert instance in text and "c1:20001" in text and "Cluster demo" in text
    assert "changed no" in desk.say("models", "apply", *files(desk))
    (desk.site.root.parent / "script").write_text("#!/bin/bash\nfalse\n")
    text = desk.say("models", "apply", *files(desk), "--check")
    assert "changed yes" in text and "-true\n+false\n" in text


def test_no_secret_is_shown(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    desk.site.up()
    for words in (("status", "--json"), ("models", "show", "m", "--json"), ("models", "list", "--json")):
        assert "k" * 43 not in desk.say(*words)


def test_an_unknown_model_and_a_wrong_entry_teach(desk: Desk) -> None:
    assert "sluice models list" in desk.say("models", "show", "none", status=1)
    assert "sluice models list" in desk.say("models", "wait", "none", status=1)
    (desk.site.root.parent / "entry.json").write_text("{}")
    text = desk.say("models", "apply", *files(desk), status=1)
    assert ("name: is missing" in text and "slurm: must be an object" in text) or "slurm: is missing" in text


def test_the_configuration_is_read_whole(desk: Desk) -> None:
    path = desk.site.root / "scheduler.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tick_intervall": 5}))
    assert "tick_intervall" in desk.say("status", status=2)


def test_each_ready_instance_of_a_model_is_asked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.scheduler.models_command.answers", lambda *_: "answers with 500")
    assert "the scheduler has not ticked" in desk.say("models", "ask", "m", status=1)
    desk.say("models", "apply", *files(desk))
    desk.site.tick()
    assert "no model other is routed" in desk.say("models", "ask", "other", status=1)
    assert "no ready instance" in desk.say("models", "ask", "m", status=1)
    assert desk.ask("models", "ask", "m")["instances"] == []
    desk.site.up()
    assert "answers with 500" in desk.say("models", "ask", "m", status=1)
    (one,) = desk.ask("models", "ask", "m")["instances"]
    assert one["problem"] == "answers with 500"
    monkeypatch.setattr("sluice.scheduler.models_command.answers", lambda *_: "")
    assert desk.say("models", "ask", "m").endswith(": answers\n")
