"""`sluice usage`: reports and exports, and what they leave out."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path

import pytest

from sluice.cli import main
from sluice.web.database.tables import Database, User
from sluice.web.settings.config import WebConfig
from sluice.web.usage import exports, ledger
from sluice.web.usage.reports import EVERYTHING
from tests.unit.web.settings.test_config import write
from tests.unit.web.usage.test_ledger import ALICE, BOB, DAY, NOON, record

NAMES = {ALICE: ("Alice Äquator", "alice@example.org"), BOB: ("=cmd()", "bob@example.org")}


class Commands:
    """`sluice usage` on one site."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self.err = ""
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        assert main(["usage", *arguments, "--config", str(self.config)]) == 0
        out, self.err = self._capsys.readouterr()
        return out

    def csv(self, *arguments: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self(*arguments))))


@pytest.fixture
def used(tmp_path: Path, settings: WebConfig, capsys: pytest.CaptureFixture[str]) -> Commands:
    """A site with three requests of Alice and one of Bob, who is no longer in the table of users."""
    database = Database(settings.database)
    with database.write() as session:
        for pseudonym, (name, email) in NAMES.items():
            session.add(
                User(
                    pseudonym=pseudonym, kind="person", issuer="i", subject=pseudonym, name=name, email=email,
                    groups=[], created=1.0, seen=1.0,
                )
            )  # fmt: skip
        records = [
            record(1),
            record(2, class_="interactive", model="other"),
            record(3, settled=NOON + DAY, first_byte=None),
            record(4, BOB),
        ]
        ledger.settle(session, database.dialect, records)
    database.close()
    return Commands(write(tmp_path / "web.json", settings), capsys)


# --- Reports ------------------------------------------------------------------------------------------


def test_people_get_a_table(used: Commands) -> None:
    lines = used("report", "--by", "user").splitlines()
    assert lines[0].split() == [
        *("USER", "NAME", "EMAIL", "REQUESTS", "FAILED", "ESTIMATED"),
        *("INPUT_TOKENS", "OUTPUT_TOKENS", "CACHED_TOKENS", "SECONDS"),
    ]
    assert lines[1].split() == [
        *(ALICE, "Alice", "Äquator", "alice@example.org", "3", "0", "0", "36", "24", "24", "6")
    ]
    assert len(lines) == 3


def test_a_report_is_json_or_csv_too(used: Commands) -> None:
    document = json.loads(used("report", "--by", "day,class", "--json"))
    assert document["version"] == 1
    assert [(row["day"], row["class"], row["requests"]) for row in document["rows"]] == [
        ("2026-11-18", "api", 2),
        ("2026-11-18", "interactive", 1),
        ("2026-11-19", "api", 1),
    ]
    rows = used.csv("report", "--by", "month,model", "--csv")
    assert [(row["month"], row["model"], row["requests"]) for row in rows] == [
        ("2026-11", "other", "1"),
        ("2026-11", record(1).model, "3"),
    ]


@pytest.mark.parametrize(
    ("choice", "requests"),
    [
        (("--from", "2026-11-19"), 1),
        (("--to", "2026-11-18"), 3),
        (("--from", "2026-11-18", "--to", "2026-11-19"), 4),
        (("--user", BOB), 1),
        (("--model", "other"), 1),
        (("--class", "api"), 3),
        (("--project", "physics"), 0),
    ],
)
def test_report_and_export_use_the_same_filters(
    used: Commands, choice: tuple[str, ...], requests: int
) -> None:
    document = json.loads(used("report", "--by", "project", "--json", *choice))
    assert sum(row["requests"] for row in document["rows"]) == requests
    assert len(json.loads(used("export", "--json", *choice))["records"]) == requests
    assert len(used.csv("export", *choice)) == requests


def test_a_limit_keeps_the_largest(used: Commands) -> None:
    (row,) = used.csv("report", "--by", "user", "--limit", "1", "--csv")
    assert row["user"] == ALICE


def test_csv_begins_with_a_byte_order_mark_if_asked_for(used: Commands) -> None:
    """Without the mark, Excel reads another encoding (Äquator becomes Ã„quator); programs need it absent."""
    for command in (("report", "--csv"), ("export",)):
        plain = used(*command)
        assert not plain.startswith("\ufeff")
        assert used(*command, "--bom") == "\ufeff" + plain


# --- Exports ------------------------------------------------------------------------------------------


def test_an_export_has_every_field_of_a_record(used: Commands) -> None:
    rows = json.loads(used("export", "--json"))["records"]
    assert [row["id"] for row in rows] == [record(n).id for n in (1, 2, 4, 3)]
    (row,) = (row for row in rows if row["id"] == record(1).id)
    assert {name: row[name] for name in record(1).dump()} == record(1).dump()
    assert (row["name"], row["email"]) == NAMES[ALICE]
    (line,) = (line for line in used.csv("export") if line["id"] == record(3).id)
    assert line.keys() == row.keys()
    assert (line["first_byte"], line["input_tokens"]) == ("", "12")


def test_trying_to_make_a_spreadsheet_calculate(used: Commands) -> None:
    (line,) = used.csv("export", "--user", BOB)
    assert line["name"] == "'=cmd()"


@pytest.mark.parametrize(
    "action", [("export",), ("export", "--json"), ("report", "--by", "user,key", "--csv")]
)
def test_a_pseudonymised_output_has_no_names(used: Commands, action: tuple[str, ...]) -> None:
    text = used(*action, "--pseudonymised")
    assert ALICE in text
    for name, email in NAMES.values():
        assert name.removeprefix("=") not in text
        assert email not in text
    assert "email" not in text


def test_stable_pseudonyms_are_the_same_in_all_exports_and_random_ones_in_one_only(used: Commands) -> None:
    def users(how: str) -> list[str]:
        return [row["user"] for row in used.csv("export", "--pseudonymised", how)]

    assert users("stable") == users("stable") == [ALICE, ALICE, BOB, ALICE]
    first, second = users("random"), users("random")
    for found in (first, second):
        assert found[0] == found[1] == found[3] != found[2]
    assert not set(first) & set(second)
    text = used("export", "--pseudonymised", "random")
    for known in (ALICE, BOB, f"key-{ALICE}", record(1).id):
        assert known not in text


def test_a_large_export_is_never_in_memory_as_a_whole(settings: WebConfig) -> None:
    database = Database(settings.database)
    for start in range(0, 12_000, 1_000):
        with database.write() as session:
            ledger.settle(session, database.dialect, [record(n) for n in range(start, start + 1_000)])
    with database.read() as session:
        rows = exports.records(session, EVERYTHING)
        next(rows)
        tracemalloc.start()
        assert sum(1 for _ in rows) == 11_999
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    database.close()
    # All of them would be more than 20 MB.
    assert most < 8_000_000


# --- Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("report", "--by", "colour"), "'colour' is not one of day, month, user"),
        (("report", "--by", "user,user"), "names something twice"),
        (("report", "--from", "yesterday"), "'yesterday' is not a day such as 2026-11-01"),
        (("export", "--pseudonymised", "a-little"), "invalid choice"),
    ],
)
def test_a_wrong_argument_is_named(
    used: Commands, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        used(*arguments)
    assert refused.value.code == 2
    assert words in capsys.readouterr().err
