"""The form of keys."""

from __future__ import annotations

import pytest

from sluice.contracts.keys import marked
from sluice.web.keys import generation as keys

SECRET = "a secret of the site, of forty characters"


@pytest.mark.parametrize("prefix", [keys.API_PREFIX, keys.PAGE_PREFIX])
def test_a_new_key_has_the_form_of_the_contract(prefix: str) -> None:
    key = keys.generate_key(prefix, SECRET)
    assert key.startswith(prefix)
    assert len(key) == len(prefix) + 43 + 1 + 8
    assert keys.well_formed(key)


def test_two_keys_differ() -> None:
    assert keys.generate_key(keys.API_PREFIX, SECRET) != keys.generate_key(keys.API_PREFIX, SECRET)


def test_the_checksum_is_the_crc_32_of_the_part_before_the_last_dash() -> None:
    assert keys.checksum("123456789") == "cbf43926"


def test_a_typing_error_is_noticed() -> None:
    key = keys.generate_key(keys.API_PREFIX, SECRET)
    wrong = key[:15] + ("a" if key[15] != "a" else "b") + key[16:]
    assert not keys.well_formed(wrong)


@pytest.mark.parametrize("key", ["", "sk-sluice-", "sk-other-" + "a" * 43 + "-00000000", "é" * 60])
def test_another_form_is_refused(key: str) -> None:
    assert not keys.well_formed(key)


def test_a_line_feed_after_a_key_is_refused() -> None:
    assert not keys.well_formed(keys.generate_key(keys.API_PREFIX, SECRET) + "\n")


def test_what_is_stored_depends_on_the_secret() -> None:
    credential = keys.credential("sk-sluice-x")
    assert keys.stored_form(credential, "one" * 20) != keys.stored_form(credential, "two" * 20)
    assert credential not in keys.stored_form(credential, "one" * 20)


@pytest.mark.parametrize("prefix", [keys.API_PREFIX, keys.PAGE_PREFIX])
def test_a_key_shows_that_it_was_made_here_and_nobody_else_can_make_it_so(prefix: str) -> None:
    ours, others = keys.mark_secret(SECRET), keys.mark_secret("another secret of another site, as long")
    key = keys.generate_key(prefix, SECRET)
    assert marked(key, (others, ours))
    assert not marked(key, (others,))
    assert not marked(key, ())
    stem = key[: len(prefix) + 31]
    swapped = stem + ("a" if key[len(stem)] != "a" else "b") + key[len(stem) + 1 : -9]
    assert not marked(f"{swapped}-{keys.checksum(swapped)}", (ours,)), "a mark belongs to its key alone"


def test_the_secret_of_marks_does_not_reveal_the_key_secret() -> None:
    assert keys.mark_secret(SECRET).hex() not in {SECRET, keys.stored_form(keys.credential("x"), SECRET)}
