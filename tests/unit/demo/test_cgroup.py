"""Where a bed's control groups go, on machines of both kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.bed import cgroup
from demo.bed.cgroup import Groups
from demo.bed.errors import BedError
from demo.bed.topology import Plan


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
    return tmp_path


def test_with_the_unified_hierarchy_alone_groups_are_at_its_top(top: Path) -> None:
    (top / "cgroup.controllers").touch()

    assert Groups(Plan("demo", "10.77.0")).enter_paths("gw") == [top / "sluice-demo.gw/cgroup.procs"]


def test_beside_v1_hierarchies_a_host_is_in_systemds_too(top: Path) -> None:
    for name in ("unified", "systemd", "memory"):
        (top / name).mkdir()
        (top / name / "cgroup.procs").touch()

    paths = Groups(Plan("demo", "10.77.0")).enter_paths("gw")

    assert paths == [top / name / "sluice-demo.gw/cgroup.procs" for name in ("unified", "systemd")]


def test_without_a_unified_hierarchy_the_error_says_what_to_mount(top: Path) -> None:
    (top / "memory").mkdir()

    with pytest.raises(BedError, match="mount cgroup2"):
        cgroup.roots()


def test_only_this_beds_groups_are_its_own(top: Path) -> None:
    (top / "cgroup.controllers").touch()
    for name in ("sluice-demo.gw", "sluice-demo2.gw", "system.slice"):
        (top / name).mkdir()

    assert Groups(Plan("demo", "10.77.0")).names() == ["sluice-demo.gw"]


def test_processes_below_a_group_count_as_the_hosts(top: Path) -> None:
    (top / "cgroup.controllers").touch()
    payload = top / "sluice-demo.gw" / "payload"
    payload.mkdir(parents=True)
    (payload.parent / "cgroup.procs").write_text("")
    (payload / "cgroup.procs").write_text("17\n18\n")
    groups = Groups(Plan("demo", "10.77.0"))

    assert groups.processes("gw") == [17, 18]
    assert groups.processes("c1") == []


def test_a_bed_lives_while_any_group_of_its_name_has_a_process(top: Path) -> None:
    (top / "cgroup.controllers").touch()
    groups = Groups(Plan("demo", "10.77.0", ("gw",)))
    assert not groups.alive()

    for name in ("sluice-demo.gw", "sluice-demo.c1.supervisor", "sluice-demo2.gw"):
        (top / name).mkdir()
        (top / name / "cgroup.procs").write_text("")
    (top / "sluice-demo2.gw/cgroup.procs").write_text("17\n")
    assert not groups.alive()

    (top / "sluice-demo.c1.supervisor/cgroup.procs").write_text("18\n")
    assert groups.alive()
