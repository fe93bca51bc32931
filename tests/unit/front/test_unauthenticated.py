"""Which unauthenticated connection is closed when another one comes and there is no room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.front import unauthenticated as module
from sluice.front.unauthenticated import Unauthenticated, source_of


def crowd(most: int = 4, most_of_a_source: int = 4) -> Unauthenticated[str]:
    return Unauthenticated(most, most_of_a_source)


def test_a_newcomer_is_let_in_and_the_oldest_goes() -> None:
    connections = crowd()
    assert [connections.enter(name, "here") for name in "abcd"] == [None] * 4
    assert connections.enter("e", "here") == "a"
    assert list(connections) == ["b", "c", "d", "e"]


def test_the_source_that_has_most_pays() -> None:
    connections = crowd()
    for name, source in (("a", "quiet"), ("b", "loud"), ("c", "loud"), ("d", "loud")):
        connections.enter(name, source)
    assert connections.enter("e", "another") == "b"
    assert "a" in connections


def test_a_source_beyond_its_bound_pays_itself_while_there_is_room() -> None:
    connections = crowd(most=100, most_of_a_source=2)
    connections.enter("a", "quiet")
    assert [connections.enter(name, "loud") for name in "bcd"] == [None, None, "b"]
    assert len(connections) == 3


def test_sources_that_never_showed_the_key_pay_first() -> None:
    connections = crowd()
    connections.enter("relay", "login")
    connections.showed_the_key("relay")
    for name in "abc":
        connections.enter(name, "login")
    connections.enter("x", "elsewhere")
    assert connections.enter("d", "login") == "x"
    assert connections.enter("y", "elsewhere") == "a", "if all sources are known, the oldest of the crowd"


def test_who_ended_or_is_known_takes_no_room() -> None:
    connections = crowd(most=2)
    connections.enter("a", "here")
    connections.enter("b", "here")
    connections.leave("a")
    connections.leave("a")
    connections.showed_the_key("b")
    assert len(connections) == 0
    assert connections.enter("c", "here") is None


def test_sources_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FAMILIAR", 3)
    connections = crowd()
    for number in range(100):
        connections.enter(f"s{number}", f"source-{number}")
        connections.showed_the_key(f"s{number}")
    assert len(connections._familiar) == 3
    assert not connections._by_source


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "key"]), st.integers(0, 30), st.integers(0, 5))))
def test_bounds_hold_whatever_comes(steps: list[tuple[str, int, int]]) -> None:
    connections: Unauthenticated[int] = Unauthenticated(7, 3)
    inside: dict[int, int] = {}
    for verb, who, source in steps:
        if verb == "enter" and who not in inside:
            gone = connections.enter(who, str(source))
            if gone is not None:
                inside.pop(gone)
            inside[who] = source
        elif verb == "leave":
            connections.leave(who)
            inside.pop(who, None)
        elif verb == "key":
            connections.showed_the_key(who)
            inside.pop(who, None)
        assert list(connections) == list(inside)
        assert len(connections) <= 7
        assert all(list(inside.values()).count(one) <= 3 for one in inside.values())


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_is_one_source(address: str, source: str) -> None:
    assert source_of(address) == source
