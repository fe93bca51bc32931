"""Requests in the simulator: each is served once, waits are measured from its arrival."""

from __future__ import annotations

import math
from array import array

import pytest

from lab.simulate.clairvoyant import plan
from lab.simulate.load import Model, World
from lab.simulate.parameters import Parameters
from lab.simulate.serving import Server, Waits, Worker
from lab.simulate.simulation import Result, pareto
from lab.simulate.slurm import Job
from lab.simulate.sweep import against, gpu_hours_at, p99_at


def model(*requests: tuple[float, float], concurrency: int = 2) -> Model:
    """Return a model with these requests: (arrival, duration); a start takes 100 s, an instance 1 GPU."""
    arrivals, durations = zip(*requests)
    return Model("m", 1, concurrency, 4, 0, 100.0, array("d", arrivals), array("d", durations))


def worker(name: str = "m-1") -> Worker:
    return Worker(name, "m", Job(1, 1, 9000.0, 0.0, True), 0.0, math.inf, ready_at=0.0)


def test_a_request_waits_until_a_place_is_free_and_no_longer() -> None:
    waits = Waits()
    server = Server(model((1.0, 50.0), (2.0, 60.0), (3.0, 10.0)), waits)
    server.workers["m-1"] = worker()
    server.advance(0.0, 30.0)
    assert (server.running, server.waiting) == (2, 1)
    server.advance(30.0, 200.0)
    assert (server.running, server.waiting) == (0, 0)
    assert waits.at_once == 2
    assert list(waits.waited) == [48.0]


def test_without_an_instance_all_wait_and_then_go_in_order() -> None:
    waits = Waits()
    server = Server(model((1.0, 5.0), (2.0, 5.0), (3.0, 5.0)), waits)
    server.advance(0.0, 30.0)
    assert server.waiting == 3
    server.workers["m-1"] = worker()
    server.advance(30.0, 60.0)
    assert list(waits.waited) == [29.0, 28.0, 32.0]


def test_a_draining_instance_takes_nothing_new_and_ends_what_it_has() -> None:
    server = Server(model((1.0, 40.0), (35.0, 5.0)), Waits())
    server.workers["m-1"] = one = worker()
    server.advance(0.0, 30.0)
    one.draining = True
    server.advance(30.0, 60.0)
    assert (one.running, server.waiting) == (0, 1)


def test_a_lost_instance_cuts_what_ran_on_it() -> None:
    waits = Waits()
    server = Server(model((1.0, 500.0), (2.0, 500.0)), waits)
    server.workers["m-1"] = one = worker()
    server.advance(0.0, 30.0)
    server.lose(one)
    assert (waits.cut, server.running, server.workers) == (2, 0, {})
    server.advance(30.0, 900.0)
    assert server.running == 0


def test_quantiles_count_those_that_did_not_wait() -> None:
    waits = Waits(at_once=98, waited=array("d", [5.0, 9.0]))
    assert waits.quantile(0.97) == 0.0
    assert waits.quantile(0.98) == 5.0
    assert waits.quantile(0.99) == 9.0
    assert waits.mean() == pytest.approx(0.14)


def world(one: Model) -> World:
    return World(Parameters(), (one,), (), ())


def test_the_clairvoyant_pays_for_loads_uses_and_the_pauses_it_bridges() -> None:
    # Two uses of 10 s, 50 s apart: bridged; a third 1,000 s later: started anew.
    result = plan(world(model((0.0, 10.0), (60.0, 10.0), (1070.0, 10.0))), 0.0, left_out=0.0)
    assert result.gpu_hours * 3600 == pytest.approx(100 + 10 + 50 + 10 + 100 + 10)
    assert (result.p99, result.submissions) == (0.0, 2)


def test_the_clairvoyant_lets_requests_gather_for_as_long_as_it_may() -> None:
    result = plan(world(model((0.0, 30.0), (20.0, 30.0))), 20.0, left_out=0.0)
    assert result.gpu_hours * 3600 == pytest.approx(100 + 30)
    assert result.p99 == 20.0


def result(gpu_hours: float, p99: float) -> Result:
    return Result("one", "", gpu_hours, p99, p99, p99, 0.0, 0, 0, 0)


def test_curves_are_compared_on_the_lines_between_their_points() -> None:
    curve = [result(100, 300), result(200, 100), result(250, 200), result(400, 50)]
    assert [one.gpu_hours for one in pareto(curve)] == [100, 200, 400]
    assert gpu_hours_at(curve, 200) == 150
    assert p99_at(curve, 300) == 75
    assert gpu_hours_at(curve, 40) == math.inf
    assert p99_at(curve, 90) == math.inf
    assert gpu_hours_at(curve, 1000) == 100
    assert p99_at(curve, 1000) == 50
    beside = against(curve, [result(300, 100), result(600, 50)])
    assert beside.gpu_hours == pytest.approx(2 / 3)
    assert beside.p99 == 1.0
