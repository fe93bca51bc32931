"""Numbers, dates and times in each language: the server writes what the browser's Intl writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from page.node import folder
from sluice.web.words.formats import Formats
from sluice.web.words.languages import LANGUAGES

ROOT = Path(__file__).parents[4]
NUMBERS = [0, 7, 999, 1_000, 12_345, 1_234_567, 12_345_678_901]
# 2026-11-22 18:30:05 UTC, a first of January just after midnight, and an early morning.
TIMES = [1_795_372_205, 1_767_225_600, 1_780_289_940]

SCRIPT = """
globalThis.document = { documentElement: { lang: process.argv[1] }, getElementById: () => null };
const { number, day, locale } = await import(process.argv[2]);
const { numbers, times } = JSON.parse(process.argv[3]);
// The page writes no moments itself.
const style = { dateStyle: "medium", timeStyle: "short", hourCycle: "h23", timeZone: "UTC" };
const moments = new Intl.DateTimeFormat(locale, style);
const plurals = new Intl.PluralRules(locale);
console.log(JSON.stringify({
  numbers: numbers.map(number),
  days: times.map((time) => day(time * 1000)),
  moments: times.map((time) => `${moments.format(time * 1000)} UTC`),
  forms: numbers.map((one) => plurals.select(one)),
}));
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_server_and_browser_write_the_same(language: str) -> None:
    formats = Formats(language)
    argv = [str(folder() / "bin" / "node"), "--input-type=module", "-e", SCRIPT, language]
    argv += [str(ROOT / "page/src/formats.ts"), json.dumps({"numbers": NUMBERS, "times": TIMES})]
    found = subprocess.run(argv, capture_output=True, check=True, text=True, timeout=60).stdout
    assert json.loads(found) == {
        "numbers": [formats.number(one) for one in NUMBERS],
        "days": [formats.day(one) for one in TIMES],
        "moments": [formats.moment(one) for one in TIMES],
        "forms": [formats.form(one) for one in NUMBERS],
    }


@pytest.mark.parametrize(
    ("language", "moment", "number", "short"),
    [
        ("en", "22 Nov 2026, 18:30 UTC", "1,234,567", "1.2M"),
        ("de", "22.11.2026, 18:30 UTC", "1.234.567", "1,2 Mio."),
        ("ja", "2026/11/22 18:30 UTC", "1,234,567", "123.5万"),
    ],
)
def test_the_forms_of_a_language(language: str, moment: str, number: str, short: str) -> None:
    formats = Formats(language)
    assert formats.moment(TIMES[0]) == moment
    assert formats.number(1_234_567) == number
    assert formats.short(1_234_567).replace("\u00a0", " ") == short
