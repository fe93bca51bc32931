"""Nodes held responsible for jobs that fail at once: who is blamed, for how long, and never all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.instances.node_failures import (
    EARLY,
    ExclusionRule,
    Node,
    allowed,
    excluded,
    failed,
    failed_early,
    readmitted,
    served,
)

NOW = 1_795_000_000.0
RULE = ExclusionRule(failures=2, exclude=3600.0)
# d1, d2 and bad became ready on n0.
SEEN = {f"n{number}": Node(NOW - 1) for number in range(1, 8)}
SEEN["n0"] = Node(NOW - 1, ready=("d1", "d2", "bad", "good"))


def job(node: str, digest: str = "d1", **changes: Any) -> Instance:
    """Return an instance whose job failed ten seconds after its start."""
    made = Instance("m-00000001", "m", "00000001", digest, NOW - 60, job_id="1", nodes=(node,))
    return replace(made, job_state="FAILED", started=NOW - 10, **changes)


def test_two_failures_in_a_row_leave_a_node_out_until_its_time_is_over() -> None:
    once = failed(SEEN, job("n1"), NOW)
    assert excluded(once, RULE, NOW) == {}
    twice = failed(once, job("n1", "d2"), NOW + 5)
    assert excluded(twice, RULE, NOW + 5) == {"n1": NOW + 5 + 3600}
    assert excluded(twice, RULE, NOW + 5 + 3600) == {}


def test_after_its_time_one_more_failure_is_enough() -> None:
    nodes = failed(failed(SEEN, job("n1"), NOW), job("n1"), NOW)
    again = failed(nodes, job("n1"), NOW + 4000)
    assert list(excluded(again, RULE, NOW + 4000)) == ["n1"]


def test_a_start_that_becomes_ready_clears_its_node() -> None:
    nodes = failed(failed(SEEN, job("n1"), NOW), job("n1"), NOW)
    assert excluded(served(nodes, job("n1"), NOW + 9), RULE, NOW + 9) == {}


def test_one_definition_failing_on_three_nodes_is_broken_itself() -> None:
    nodes = SEEN
    for name in ("n1", "n2", "n3"):
        nodes = failed(failed(nodes, job(name, "bad"), NOW), job(name, "bad"), NOW)
    assert excluded(nodes, RULE, NOW) == {}
    # A node where another definition fails too is not excused.
    nodes = failed(failed(nodes, job("n1", "good"), NOW), job("n1", "good"), NOW)
    assert list(excluded(nodes, RULE, NOW)) == ["n1"]


def test_no_bound_means_no_node_is_left_out() -> None:
    nodes = failed(failed(SEEN, job("n1"), NOW), job("n1"), NOW)
    assert excluded(nodes, ExclusionRule(0, 3600.0), NOW) == {}


def test_a_definition_that_was_ready_nowhere_else_leaves_a_node_out_for_itself_alone() -> None:
    nodes = failed(failed(SEEN, job("n1", "wrong"), NOW), job("n1", "wrong"), NOW)
    nodes = failed(failed(nodes, job("n2", "wrong"), NOW), job("n2", "wrong"), NOW)
    assert excluded(nodes, RULE, NOW) == {}
    assert excluded(nodes, RULE, NOW, "d1") == {}
    assert list(excluded(nodes, RULE, NOW, "wrong")) == ["n1", "n2"]
    # Ready on the very node says nothing of it; ready on another one does.
    here = served(failed(failed(SEEN, job("n1", "d9"), NOW), job("n1", "d9"), NOW), job("n1", "d9"), NOW)
    here = failed(failed(here, job("n1", "d9"), NOW), job("n1", "d9"), NOW)
    assert excluded(here, RULE, NOW) == {}
    proven = served(nodes, job("n3", "wrong"), NOW)
    assert list(excluded(proven, RULE, NOW)) == ["n1", "n2"]


def test_a_wrong_definition_renews_no_nodes_hour_for_others() -> None:
    nodes = failed(failed(SEEN, job("n1", "d1"), NOW), job("n1", "d2"), NOW)
    assert excluded(nodes, RULE, NOW) == {"n1": NOW + 3600}
    nodes = failed(failed(SEEN, job("n1", "wrong"), NOW), job("n1", "wrong"), NOW)
    for hour in range(5):
        nodes = failed(nodes, job("n1", "wrong"), NOW + 3600 * hour)
        assert excluded(nodes, RULE, NOW + 3600 * hour) == {}


def test_a_definition_that_slurm_has_no_other_nodes_for_may_use_them_and_no_other_may() -> None:
    nodes = failed(failed(SEEN, job("n1"), NOW), job("n1"), NOW)
    opened = allowed(nodes, ["n1", "unknown"], "d1")
    assert excluded(opened, RULE, NOW, "d1") == {}
    assert list(excluded(opened, RULE, NOW, "d2")) == list(excluded(opened, RULE, NOW)) == ["n1"]
    assert set(opened) == set(SEEN)


def test_an_administrator_lets_nodes_in_again_and_later_failures_count_anew() -> None:
    nodes = failed(failed(SEEN, job("n1"), NOW), job("n1"), NOW)
    nodes = failed(failed(nodes, job("n2"), NOW + 5), job("n2"), NOW + 5)
    assert list(excluded(readmitted(nodes, None, {"n1": NOW + 9}), RULE, NOW + 9)) == ["n2"]
    assert excluded(readmitted(nodes, NOW + 9, {}), RULE, NOW + 9) == {}
    assert readmitted(nodes, NOW - 1, {"n1": NOW - 1}) is nodes
    let_in = readmitted(nodes, NOW + 9, {})
    assert readmitted(let_in, NOW + 9, {}) is let_in
    later = failed(failed(let_in, job("n1"), NOW + 10), job("n1"), NOW + 11)
    assert list(excluded(readmitted(later, NOW + 9, {}), RULE, NOW + 11)) == ["n1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"job_state": "CANCELLED"},
        {"job_state": "PREEMPTED"},
        {"job_state": "TIMEOUT"},
        {"job_state": "RUNNING"},
        {"cancelled_at": NOW - 1},
        {"draining_since": NOW - 1},
        {"ready_at": NOW - 5},
        {"nodes": ()},
        {"started": None},
        {"started": NOW - EARLY - 1},
    ],
)
def test_other_ends_are_not_held_against_a_node(changes: dict[str, Any]) -> None:
    assert failed_early(job("n1"), NOW)
    assert not failed_early(replace(job("n1"), **changes), NOW)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abcdef"), st.booleans()), max_size=60))
def test_never_more_than_half_of_the_nodes_are_left_out(starts: list[tuple[int, str, bool]]) -> None:
    nodes: dict[str, Node] = {}
    for number, digest, good in starts:
        one = job(f"n{number}", digest)
        nodes = served(nodes, one, NOW) if good else failed(nodes, one, NOW)
        assert len(excluded(nodes, RULE, NOW)) <= max(1, len(nodes) // 2)
