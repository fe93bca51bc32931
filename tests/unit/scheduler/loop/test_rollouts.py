"""Orders, rollouts that fail, and what takes effect without replacing an instance, through whole ticks."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.scheduler.site import Site, order, write_output


def test_a_drained_model_stays_drained_over_restarts_until_it_is_resumed(site: Site) -> None:
    instance = site.up()
    site.demand(running=1)
    order(site, drained=site.now)
    site.tick()
    assert (site.routed(), site.table().models["m"].status) == ({instance: "draining"}, "drained")
    site.start()
    site.demand(waiting=5)
    site.tick(11)
    for _ in range(3):
        site.start()
        site.demand(waiting=5)
        site.tick(60)
        assert (site.slurm.alive(), site.slurm.submissions) == ([], 1)
    assert site.table().models["m"].status == "drained"
    assert not site.scheduler.asked() and site.scheduler.interval() == 30.0
    order(site, drained=None, resumed=site.now)
    assert site.scheduler.asked()
    site.tick()
    assert len(site.slurm.alive()) == 1 and site.table().models["m"].status == "starting"


def test_a_resumed_model_takes_its_draining_instance_back(site: Site) -> None:
    instance = site.up()
    site.demand(running=1)
    order(site, drained=site.now)
    site.tick()
    order(site, drained=None, resumed=site.now)
    site.tick()
    assert (site.routed(), site.slurm.submissions) == ({instance: "ready"}, 1)


def test_orders_that_cannot_be_read_hold_the_model_as_it_is(site: Site) -> None:
    instance = site.up()
    path = site.root / "models.d/m.orders"
    path.write_text('{"version": 1, "model": "m", "drained": ')
    site.tick()
    assert site.routed() == {instance: "ready"}
    site.slurm.end("1", "FAILED")
    site.tick(600)
    assert site.slurm.submissions == 1
    path.unlink()
    site.tick()
    assert site.slurm.submissions == 2


def test_orders_damaged_while_drained_do_not_wake_the_model(site: Site) -> None:
    order(site, drained=site.now)
    site.tick()
    (site.root / "models.d/m.orders").write_text("")
    site.demand(waiting=1)
    site.tick()
    assert (site.table().models["m"].status, site.slurm.submissions) == ("drained", 0)


def test_a_restart_brings_the_new_before_the_old_goes(site: Site) -> None:
    old = site.up()
    order(site, restart=site.now + 1)
    site.tick()
    assert site.routed() == {old: "ready"}
    site.run("2", port=20002)
    site.tick()
    assert list(site.routed().values()) == ["draining", "ready"]
    site.tick(11)
    for _ in range(5):
        site.tick(60)
    assert [job.job_id for job in site.slurm.alive()] == ["2"]


def test_what_no_job_depends_on_takes_effect_without_replacing_instances(site: Site) -> None:
    instance = site.up()
    site.apply(min=1, max=3, description="new words", groups=["staff"], concurrency=17, idle_stop=5)
    for _ in range(3):
        site.tick(60)
    model = site.table().models["m"]
    assert (site.routed(), site.slurm.submissions) == ({instance: "ready"}, 1)
    assert (model.description, model.groups, model.concurrency) == ("new words", ("staff",), 17)


def test_relays_are_told_no_more_than_an_instance_was_started_to_bear(site: Site) -> None:
    site.up()
    site.apply(min=1, max=1, concurrency=500)
    site.tick()
    assert site.table().models["m"].concurrency == 24
    site.apply(min=1, max=1, concurrency=4)
    site.tick()
    assert site.table().models["m"].concurrency == 4


def test_a_rollout_that_fails_keeps_the_old_and_tells_the_jobs_lines(site: Site) -> None:
    old = site.up()
    site.apply(min=1, max=1, context_length=77)
    for number in range(2, 7):
        site.tick(700)
        write_output(site, str(number), f"loading\n\x1b[31mno such file: weights {number}\n")
        site.slurm.end(str(number), "FAILED")
        site.tick()
        assert site.routed() == {old: "ready"}
    found = site.scheduler.state.failed_starts["m"]
    assert (found.job_id, found.lines) == ("6", ("loading", "?[31mno such file: weights 6"))
    submissions = site.slurm.submissions
    for _ in range(5):
        site.tick(100)
    assert site.slurm.submissions == submissions
    # The old definition again: its instance is current, and nothing is failed.
    site.apply(min=1, max=1)
    site.tick()
    assert site.scheduler.state.failed_starts == {}
    for _ in range(3):
        site.tick(60)
    assert (site.routed(), site.slurm.submissions) == ({old: "ready"}, submissions)


def test_lines_of_a_job_that_once_served_are_never_kept(site: Site) -> None:
    site.up()
    write_output(site, "1", "a prompt\n")
    site.slurm.jobs["1"] = replace(site.slurm.jobs["1"], state="PENDING", started=None, nodes=())
    site.tick()
    site.slurm.end("1", "FAILED")
    site.tick()
    assert site.scheduler.state.failed_starts["m"].lines == ()


def test_lines_are_bounded_and_links_are_not_followed(site: Site) -> None:
    site.tick()
    (instance,) = site.scheduler.state.instances.values()
    write_output(site, "1", "x" * 100_000 + "\n" + "y\n" * 1000)
    lines = site.scheduler.directories.first_lines(instance)
    assert lines == ("y",) * 20
    write_output(site, "1", "z" * 100_000)
    assert [len(line) for line in site.scheduler.directories.first_lines(instance)] == [300]
    output = site.root / "jobs" / instance.id / "output"
    output.unlink()
    output.symlink_to("/etc/passwd")
    assert site.scheduler.directories.first_lines(instance) == ()
