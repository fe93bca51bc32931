"""Several login nodes: relays read the table where the scheduler writes it, and report beside it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from sluice.relay.routing import RoutingFile
from sluice.scheduler.outside.demand import read_demand
from tests.unit.scheduler.site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Give a scheduler whose state folder is one that login nodes share."""
    monkeypatch.setattr("sluice.scheduler.models.catalogue.STILL_CHANGING", 0.0)
    made = Site(tmp_path)
    made.apply(min=1, max=2)
    return made


def test_relays_of_every_login_node_follow_the_table_in_the_shared_folder(site: Site) -> None:
    relays = [RoutingFile(site.config.routing_table) for _ in range(2)]
    assert [relay.current(0.0) for relay in relays] == [None, None]
    instance = site.up()
    tables = [relay.current(10.0) for relay in relays]
    assert [[one.id for one in table.models["m"].instances] for table in tables if table] == [[instance]] * 2
    # Readable by the folder's group alone: the relays' account has the same number on each login node.
    found = Path(site.config.routing_table).stat()
    assert stat.S_IMODE(found.st_mode) == 0o640 and found.st_gid == site.root.stat().st_gid


def test_the_scheduler_adds_up_what_relays_of_all_login_nodes_leave_beside_it(site: Site) -> None:
    instance = site.up()
    for number, relay in enumerate(("a" * 16, "b" * 16), 1):
        model = {"running": number, "waiting": 1, "last": site.now, "instances": {instance: number}}
        document = {"version": 1, "relay": relay, "written": site.now, "models": {"m": model}}
        Path(site.config.demand_dir, f"{relay}.json").write_text(json.dumps(document))
    found = read_demand(site.config.demand_dir, site.now)["m"]
    assert (found.running, found.waiting, found.instances) == (3, 2, {instance: 3})


def test_a_shared_folder_that_is_away_leaves_relays_with_what_they_know(site: Site) -> None:
    relay = RoutingFile(site.config.routing_table)
    instance = site.up()
    assert relay.current(0.0) is not None
    away = site.root.with_name("away")
    site.root.rename(away)
    try:
        table = relay.current(10.0)
        with pytest.raises(OSError):
            site.tick()
    finally:
        away.rename(site.root)
    assert table is not None and [one.id for one in table.models["m"].instances] == [instance]
    site.tick()
    assert len(site.slurm.alive()) == 1
