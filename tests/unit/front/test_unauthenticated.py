"""Who goes when a connection that has not shown the key comes and there is no room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.front import unauthenticated as module
from sluice.front.unauthenticated import Strangers, source_of


def crowd(most: int = 4, most_of_a_source: int = 4) -> Strangers[str]:
    return Strangers(most, most_of_a_source)


def test_a_newcomer_is_let_in_and_the_oldest_goes() -> None:
    strangers = crowd()
    assert [strangers.enter(name, "here") for name in "abcd"] == [None] * 4
    assert strangers.enter("e", "here") == "a"
    assert list(strangers) == ["b", "c", "d", "e"]


def test_the_source_that_has_most_pays() -> None:
    strangers = crowd()
    for name, source in (("a", "quiet"), ("b", "loud"), ("c", "loud"), ("d", "loud")):
        strangers.enter(name, source)
    assert strangers.enter("e", "another") == "b"
    assert "a" in strangers


def test_a_source_beyond_its_bound_pays_itself_while_there_is_room() -> None:
    strangers = crowd(most=100, most_of_a_source=2)
    strangers.enter("a", "quiet")
    assert [strangers.enter(name, "loud") for name in "bcd"] == [None, None, "b"]
    assert len(strangers) == 3


def test_sources_that_never_showed_the_key_pay_first() -> None:
    strangers = crowd()
    strangers.enter("relay", "login")
    strangers.showed_the_key("relay")
    for name in "abc":
        strangers.enter(name, "login")
    strangers.enter("x", "elsewhere")
    assert strangers.enter("d", "login") == "x"
    assert strangers.enter("y", "elsewhere") == "a", "where all are of known sources, the oldest of the crowd"


def test_who_ended_or_is_known_takes_no_room() -> None:
    strangers = crowd(most=2)
    strangers.enter("a", "here")
    strangers.enter("b", "here")
    strangers.leave("a")
    strangers.leave("a")
    strangers.showed_the_key("b")
    assert len(strangers) == 0
    assert strangers.enter("c", "here") is None


def test_sources_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FAMILIAR", 3)
    strangers = crowd()
    for number in range(100):
        strangers.enter(f"s{number}", f"source-{number}")
        strangers.showed_the_key(f"s{number}")
    assert len(strangers._familiar) == 3
    assert not strangers._by_source


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "key"]), st.integers(0, 30), st.integers(0, 5))))
def test_bounds_hold_whatever_comes(steps: list[tuple[str, int, int]]) -> None:
    strangers: Strangers[int] = Strangers(7, 3)
    inside: dict[int, int] = {}
    for verb, who, source in steps:
        if verb == "enter" and who not in inside:
            gone = strangers.enter(who, str(source))
            if gone is not None:
                inside.pop(gone)
            inside[who] = source
        elif verb == "leave":
            strangers.leave(who)
            inside.pop(who, None)
        elif verb == "key":
            strangers.showed_the_key(who)
            inside.pop(who, None)
        assert list(strangers) == list(inside)
        assert len(strangers) <= 7
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
