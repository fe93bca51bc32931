"""Text from others reaches a terminal without control characters."""

from __future__ import annotations

import io
import sys
import unicodedata

import pytest

from sluice import terminal
from sluice.terminal import SafeStream, line, tidy

UNFIT = ("Cc", "Cf", "Cs", "Zl", "Zp")
EVERY = [chr(point) for point in range(sys.maxunicode + 1)]


def test_every_character_that_controls_hides_or_turns_round_is_unfit() -> None:
    unfit = [one for one in EVERY if unicodedata.category(one) in UNFIT]
    assert {line(f"a{one}b") for one in unfit} == {"a?b", "a b"}
    assert {one for one in unfit if line(f"a{one}b") == "a b"} == set(
        "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
    )


def test_letters_of_all_scripts_and_symbols_are_fit() -> None:
    fit = [one for one in EVERY if unicodedata.category(one)[0] in "LNPSM"]
    changed = [one for one in fit if line(one) != one]
    assert changed == []


def test_a_text_becomes_one_line() -> None:
    assert line("moved by\r\nops\t\x0b12\u2028now") == "moved by ops 12 now"
    assert line("\x1b]0;title\x07\x1b[31mred\x9b2J") == "?]0;title??[31mred?2J"
    assert line("\u202egnp.exe\u2066 \u200f\u200b\ufeff") == "?gnp.exe? ???"


def test_a_document_keeps_its_form() -> None:
    document = {"a": ["x\ny", 1, None, True, 1.5], "b": {"c": ("\x00",)}}
    assert tidy(document) == {"a": ["x y", 1, None, True, 1.5], "b": {"c": ["?"]}}


def test_a_screen_lets_a_commands_own_lines_and_columns_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with terminal.safe_output():
        print("a\tb\nc\r\x1b[2J\x7f\ud800")
        print("\u202eerror\x00", file=sys.stderr)
        terminal.clear()
    assert capsys.readouterr() == (f"a\tb\nc??[2J??\n{terminal.CLEAR}", "?error?\n")


def test_a_screen_fails_for_no_letter_whatever_the_terminal_can_show() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    SafeStream(stream).writelines(["gr\u00fcn \u65e5\u672c\n"])
    stream.flush()
    assert raw.getvalue() == b"gr?n ??\n"
