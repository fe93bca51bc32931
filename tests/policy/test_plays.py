"""House rules of the playbooks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy.tree import COMMON, ROLES, ROOT, playbooks, read_yaml


@pytest.mark.parametrize("playbook", playbooks(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_play_stops_for_all_hosts_when_one_fails(playbook: Path) -> None:
    """A play that goes on without one of its hosts leaves a gateway and a cluster that do not fit together.

    `any_errors_fatal` stops it where it is; what was done stays, and the next run goes on from there.
    """
    plays = [play for play in read_yaml(playbook) if "ansible.builtin.import_playbook" not in play]
    assert [play["name"] for play in plays if play.get("any_errors_fatal") is not True] == []


def test_the_site_playbook_is_the_sum_of_its_parts() -> None:
    """Each part also runs alone, so that a site may repeat one of them."""
    parts = [play["ansible.builtin.import_playbook"] for play in read_yaml(ROOT / "playbooks" / "site.yml")]
    stems = ["validate", "build", "gateway", "login", "models", "check"]
    assert parts == [f"{stem}.yml" for stem in stems]
    assert sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml")) == sorted([*stems, "site"])


@pytest.mark.parametrize("playbook", playbooks(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_play_depends_on_localhost_being_within_the_limit(playbook: Path) -> None:
    """`--limit login` leaves out a play of localhost, and with it what the next plays need."""
    plays = [play for play in read_yaml(playbook) if "ansible.builtin.import_playbook" not in play]
    assert [play["name"] for play in plays if "localhost" in str(play["hosts"])] == []


@pytest.mark.parametrize("role", ["login_base", "gateway_base"])
def test_a_role_that_carries_a_build_out_asks_whether_this_checkout_made_it(role: str) -> None:
    tasks = read_yaml(ROLES / role / "tasks" / "install.yml")
    verify = [task for task in tasks if "--verify" in str(task.get("ansible.builtin.command", ""))]
    copies = [task for task in tasks if "ansible.builtin.copy" in task]
    assert len(verify) == 1 and tasks.index(verify[0]) < min(map(tasks.index, copies))
    shared = read_yaml(COMMON / "group_vars" / "all" / f"{role}.yml")
    assert shared[f"{role}_source"] == "{{ sluice_source }}"


def test_no_service_hangs_on_a_handler() -> None:
    """A handler is lost with a run that fails: the next one finds its files in place and restarts nothing."""
    assert "force_handlers = false" in (ROOT / "ansible.cfg").read_text()
    handlers = [task for path in ROLES.glob("*/handlers/main.yml") for task in read_yaml(path)]
    units = [task for task in handlers if task.get("ansible.builtin.systemd_service", {}).get("name")]
    assert units == []


def test_check_runs_every_check_and_then_says_all_that_was_wrong() -> None:
    """The first failure hid the others, which may be why it failed."""
    plays = read_yaml(ROOT / "playbooks" / "check.yml")
    checks = [task for play in plays[:-1] for task in play["tasks"]]
    assert len(checks) >= 5
    assert [task["name"] for task in checks if task.get("ignore_errors") is not True] == []
    (said,) = plays[-1]["tasks"]
    for task in checks:
        assert task["register"] in said["vars"]["_check_done"], task["name"]
    hosts = {group for play in plays[:-1] for group in play["hosts"].split(":")}
    assert set(plays[-1]["hosts"].split(":")) == hosts
