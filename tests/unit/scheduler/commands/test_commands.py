"""The command line on the login node, from registration to a model that is served."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sluice
from sluice.cli import main
from sluice.scheduler.instances.node_failures import Node
from tests.unit.scheduler.site import GOLDEN, Site


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
    monkeypatch.setattr("sluice.scheduler.models.catalogue.STILL_CHANGING", 0.0)
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


@pytest.mark.parametrize(
    "words", [["show"], ["drain"], ["resume"], ["restart"], ["wait", "--timeout", "0"], ["ask"], ["remove"]]
)
def test_a_mistyped_model_fails_every_command_and_changes_nothing(desk: Desk, words: list[str]) -> None:
    desk.say("models", "apply", *files(desk))
    desk.site.up()
    before = sorted(path.name for path in (desk.site.root / "models.d").iterdir())
    routed = " is routed" if words == ["ask"] else ""
    said = desk.say("models", words[0], "mm", *words[1:], status=1)
    assert f"no model mm{routed}; did you mean m?" in said
    said = desk.say("models", words[0], "other", *words[1:], status=1)
    assert f"no model other{routed}; see: sluice models list" in said
    assert sorted(path.name for path in (desk.site.root / "models.d").iterdir()) == before


def blame(desk: Desk, *names: str, digest: str = "") -> None:
    """Hold two failed starts against nodes, of definitions that are ready on another one, or of one."""
    nodes = {"c9": Node(desk.site.now, ready=names)}
    nodes.update({name: Node(desk.site.now, (digest or name,) * 2, desk.site.now) for name in names})
    desk.site.scheduler._save(dataclasses.replace(desk.site.scheduler.state, nodes=nodes))


def test_nodes_are_listed_and_let_in_again_at_the_next_tick(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.scheduler.commands.overview.time.time", lambda: desk.site.now)
    desk.say("models", "apply", *files(desk))
    desk.site.tick()
    blame(desk, "c1", "c2", "c3", "c4")
    listed = desk.ask("nodes", "list")["nodes"]
    assert [name for name, node in listed.items() if node["left_out"]] == ["c3", "c4"]
    assert listed["c4"]["until"] == desk.site.now + 3600 and listed["c9"]["until"] is None
    text = desk.say("nodes", "list")
    assert "EXCLUDED UNTIL" in text and "all models" in text
    assert "sluice nodes readmit" in desk.say("status")
    assert desk.ask("nodes", "readmit", "c3", "c9")["readmitted"] == ["c3"]
    desk.site.tick()
    assert desk.ask("nodes", "list")["nodes"]["c3"]["failures"] == 0
    assert desk.ask("nodes", "list")["nodes"]["c4"]["failures"] == 2
    assert "c3: it has no failed starts" in desk.say("nodes", "readmit", "c3")
    assert desk.say("nodes", "readmit", "--all").splitlines()[-1] == "c4: readmitted"
    desk.site.tick()
    assert desk.say("nodes", "readmit", "--all") == "no node has failed starts\n"
    file = desk.site.root / "models.d/nodes.readmitted"
    assert file.stat().st_mode & 0o777 == 0o640
    # The order outlives the scheduler; what fails later counts.
    desk.site.start()
    desk.site.tick()
    blame(desk, "c1", "c2")
    desk.site.tick()
    assert desk.ask("nodes", "list")["nodes"]["c2"]["left_out"] is True


def test_a_node_that_is_left_out_for_one_model_alone_is_told_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.scheduler.commands.overview.time.time", lambda: desk.site.now)
    desk.say("models", "apply", *files(desk))
    desk.site.tick()
    blame(desk, "c1", digest=desk.ask("models", "show", "m")["models"]["m"]["digest"])
    node = desk.ask("nodes", "list")["nodes"]["c1"]
    assert (node["left_out"], node["left_out_for"], node["until"]) == (False, ["m"], desk.site.now + 3600)
    assert "Nodes excluded only for m, which was not ready on any node yet: c1" in desk.say("status")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["gpu0x"], "no job of the service ran on a node 'gpu0x'; did you mean gpu02 or gpu01?; nothing was"),
        (["gpu01", "typo"], "no job of the service ran on a node 'typo'; nothing was changed"),
        ([], "give names of nodes, or --all"),
        (["gpu01", "--all"], "not both"),
        (["../gpu01"], "no job of the service ran"),
    ],
)
def test_nodes_that_nobody_knows_are_refused_and_nothing_is_changed(
    desk: Desk, words: list[str], problem: str
) -> None:
    blame(desk, "gpu01", "gpu02")
    assert problem in desk.say("nodes", "readmit", *words, status=1)
    assert not (desk.site.root / "models.d/nodes.readmitted").exists()


def test_an_order_for_nodes_that_others_may_have_written_lets_none_in(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.scheduler.commands.overview.time.time", lambda: desk.site.now)
    blame(desk, "c1", "c2")
    desk.say("nodes", "readmit", "--all")
    file = desk.site.root / "models.d/nodes.readmitted"
    file.chmod(0o666)
    desk.site.tick()
    assert desk.ask("nodes", "list")["nodes"]["c2"]["failures"] == 2
    for text in ("[]", "{", '{"version": 1, "nodes": {"c1": "now"}}', '{"version": 1, "all": true}'):
        file.write_text(text)
        file.chmod(0o640)
        desk.site.tick()
    assert desk.ask("nodes", "list")["nodes"]["c2"]["failures"] == 2
    # A new order corrects it.
    desk.say("nodes", "readmit", "c2")
    desk.site.tick()
    assert desk.ask("nodes", "list")["nodes"]["c2"]["failures"] == 0


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


def test_nobody_waits_for_a_model_that_an_administrator_drained(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    desk.site.tick()
    desk.say("models", "drain", "m")
    assert "after 0 s" in desk.say("models", "wait", "m", "--timeout", "30")


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
    monkeypatch.setattr("sluice.scheduler.commands.models.answers", lambda *_: "answers with 500")
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
    monkeypatch.setattr("sluice.scheduler.commands.models.answers", lambda *_: "")
    assert desk.say("models", "ask", "m").endswith(": answers\n")


# --- orders ------------------------------------------------------------------------------------------------


def test_a_model_is_drained_and_resumed(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    instance = desk.site.up()
    assert "until: sluice models resume m" in desk.say("models", "drain", "m")
    desk.site.demand(running=1)
    desk.site.tick()
    text = desk.say("status")
    assert "draining (by admin)" in text and instance in text
    assert desk.site.table().models["m"].status == "drained"
    model = desk.ask("models", "show", "m")["models"]["m"]
    assert (model["service"], model["instances"][0]["reason"]) == ("draining", "by admin")
    desk.site.demand()
    desk.site.tick(11)
    desk.site.tick()
    text = desk.say("status")
    assert "drained (by admin)" in text and instance not in text
    assert desk.ask("models", "drain", "m", "--wait", "--timeout", "0")["done"] is True
    assert "in service again" in desk.say("models", "resume", "m")
    assert "(by admin)" not in desk.say("status")
    assert desk.ask("models", "resume", "m", "--wait", "--timeout", "0", status=1)["done"] is False
    desk.site.tick()
    desk.site.run("2", port=20002)
    desk.site.tick()
    assert desk.ask("models", "resume", "m", "--wait", "--timeout", "0")["done"] is True


def test_the_same_order_twice_changes_nothing_more(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    assert desk.ask("models", "resume", "m")["changed"] is False
    first = desk.ask("models", "drain", "m")
    assert (first["changed"], first["done"]) == (True, None)
    again = desk.ask("models", "drain", "m")
    assert (again["changed"], again["orders"]) == (False, first["orders"])
    assert "drained already" in desk.say("models", "drain", "m")
    assert desk.ask("models", "resume", "m")["changed"] is True
    assert desk.ask("models", "resume", "m")["changed"] is False


def test_draining_that_takes_longer_than_the_wait_says_so_and_stands(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    desk.site.up()
    text = desk.say("models", "drain", "m", "--wait", "--timeout", "0", status=1)
    assert "1 ready" in text and "not done after 0 s" in text and "the order stays in force" in text
    desk.site.tick()
    assert list(desk.site.routed().values()) == ["draining"]


def test_a_restart_replaces_every_instance_and_ends(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    old = desk.site.up()
    # The command's clock is the system's: the site's instances are of another time.
    desk.site.scheduler.clock = lambda: desk.site.now
    desk.say("models", "restart", "m", "--instance", old)
    assert desk.ask("models", "restart", "m", "--instance", old)["changed"] is False
    assert desk.ask("models", "show", "m")["models"]["m"]["rollout"] == {
        "state": "rolling",
        "old": 1,
        "new": 0,
    }
    desk.site.tick()
    desk.site.run("2", port=20002)
    desk.site.tick()
    assert "1 of the old instances (1 new ready) being replaced" in desk.say("status")
    desk.site.tick(11)
    desk.say("models", "restart", "m", "--instance", old, "--wait", "--timeout", "0")
    desk.site.tick()
    (one,) = desk.ask("status")["models"]["m"]["instances"]
    assert one["job_id"] == "2"


def test_a_restart_of_all_leaves_what_was_submitted_after_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.scheduler.commands.overview.time.time", lambda: desk.site.now)
    desk.say("models", "apply", *files(desk))
    old = desk.site.up()
    desk.site.now += 1
    assert "every instance" in desk.say("models", "restart", "m")
    desk.site.tick()
    desk.site.run("2", port=20002)
    for _ in range(4):
        desk.site.tick(11)
    assert old not in desk.site.routed() and len(desk.site.slurm.alive()) == 1
    assert desk.ask("models", "restart", "m", "--wait", "--timeout", "0", status=1)["done"] is False


def test_a_rollout_that_fails_is_shown_with_the_jobs_lines(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    old = desk.site.up()
    (desk.site.root.parent / "script").write_text("#!/bin/bash\nfalse\n")
    desk.say("models", "apply", *files(desk))
    for number in range(2, 7):
        desk.site.tick(700)
        output = desk.site.root / "jobs" / desk.site.slurm.jobs[str(number)].name[7:] / "output"
        output.write_text("cannot open the weights\n")
        desk.site.slurm.end(str(number), "FAILED")
        desk.site.tick()
    assert "the rollout failed and the old instances stay" in desk.say("status")
    text = desk.say("models", "show", "m")
    assert "job 6; it wrote\n    cannot open the weights\n" in text and old in text
    shown = desk.ask("models", "show", "m")["models"]["m"]
    assert shown["rollout"] == {"state": "failed", "old": 1, "new": 0}
    assert "job 6 ended (FAILED)" in desk.say(
        "models", "restart", "m", "--instance", old, "--wait", "--timeout", "60", status=1
    )
    assert desk.ask("models", "resume", "m")["changed"] is True
    desk.site.tick()
    assert desk.site.slurm.submissions == 7


def test_orders_that_make_no_sense_teach(desk: Desk) -> None:
    for action in ("drain", "resume", "restart"):
        assert "no model other; see: sluice models list" in desk.say("models", action, "other", status=1)
    desk.say("models", "apply", *files(desk))
    instance = desk.site.up()
    text = desk.say("models", "restart", "m", "--instance", "m-0badc0de", status=1)
    assert "is not an instance of m" in text and instance in text
    desk.say("models", "drain", "m")
    assert "sluice models resume m" in desk.say("models", "restart", "m", status=1)
    for value in ("-1", "x", "1e9"):
        with pytest.raises(SystemExit):
            main(["models", "drain", "m", "--timeout", value])


def test_removing_a_model_removes_its_orders(desk: Desk) -> None:
    desk.say("models", "apply", *files(desk))
    desk.say("models", "drain", "m")
    desk.say("models", "remove", "m")
    assert list((desk.site.root / "models.d").iterdir()) == []


def test_who_gave_the_order_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    desk.say("models", "apply", *files(desk))
    desk.say("models", "drain", "m")
    assert "by alice" in desk.say("status")
    monkeypatch.setenv("SUDO_USER", "a\nb")
    assert desk.ask("models", "resume", "m")["orders"]["by"] == ""


def test_watching_repeats_and_ends_on_ctrl_c(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("sluice.scheduler.commands.status.time.sleep", sleep)
    assert desk.say("status", "--watch").count("not ticked yet") == 3
    assert waits == [2.0] * 3
    waits.clear()
    assert len(desk.say("status", "--watch", "5", "--json").splitlines()) == 3
    for value in ("0", "0.5", "x", "99999"):
        with pytest.raises(SystemExit):
            main(["status", "--watch", value])


def test_a_reader_that_leaves_ends_the_watch_quietly(desk: Desk) -> None:
    code = "import sys; from sluice.cli import main; sys.exit(main())"
    watching = subprocess.Popen(
        [
            sys.executable,
            "-c",
            code,
            "status",
            "--config",
            f"{desk.site.root}/scheduler.json",
            "--watch",
            "1",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(sluice.__file__).parents[1])},
    )
    assert watching.stdout is not None and watching.stderr is not None
    try:
        assert watching.stdout.readline()
        watching.stdout.close()
        assert watching.wait(timeout=20) == 0
        assert watching.stderr.read() == b""
    finally:
        watching.kill()
        watching.stderr.close()
        watching.wait()
