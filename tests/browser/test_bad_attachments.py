"""Whatever is attached, it ends in words, the page goes on, and nothing that was typed is lost."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import samples
from tests.browser.attaching import chip, choose, choose_at, questions, ready, stored
from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB


def bomb() -> bytes:
    """Return a workbook whose sheet unpacks to 300 MB."""
    with zipfile.ZipFile(io.BytesIO(samples.workbook({"a": ""}))) as book:
        files: dict[str, str | bytes] = {name: book.read(name) for name in book.namelist()}
    return samples.packed({**files, "xl/sheets/0.xml": b"<worksheet>" + b" " * 300_000_000})


LAUGHS = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><d>&b;</d>'
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing.txt": (lambda: b"", "The file is empty."),
    "program.txt": (lambda: b"MZ\x90\0\3\0\0\0", "This is not text"),
    "noise.csv": (lambda: zlib.compress(bytes(range(256)) * 50)[2:] * 40, "This is not text"),
    "archive.zip": (lambda: samples.packed({"a.txt": "x"}), "Archives are not opened."),
    "nested.docx": (
        lambda: samples.packed({"a.zip": samples.packed({"b": "x"})}),
        "Archives are not opened.",
    ),
    "old.doc": (lambda: bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600, "Office's old format"),
    "locked.docx": (lambda: samples.packed({"word/document.xml": "x"}, secret=True), "a password"),
    "locked.pdf": (samples.locked_pdf, "a password"),
    "broken.pdf": (lambda: samples.pdf("x")[:300], "damaged"),
    "torn.docx": (lambda: samples.word("text " * 500)[:-40], "damaged"),
    "scan.pdf": (lambda: samples.pdf("", ""), "There is no text in it."),
    "laughs.docx": (lambda: samples.packed({"word/document.xml": LAUGHS}), "XML entities"),
    "bomb.xlsx": (bomb, "too large for this browser"),
    "broken.png": (lambda: samples.png(20, 20)[:60], "damaged"),
    "huge.png": (lambda: samples.png(1, 1, said=(60_000, 60_000)), "more pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_in_words_and_nothing_else_is_lost(alice: Tab, name: str) -> None:
    make, words = BAD[name]
    alice.wait_for_models()
    alice.type("still here")
    choose(alice, {"good.txt": b"a good one", name: make(), "another.txt": b"and another"})
    expect(chip(alice, name)).to_contain_text(words, timeout=120_000)
    ready(alice, 2)
    expect(alice.find("#input")).to_have_value("still here")
    sent = questions(alice)
    alice.find("#input").press("Enter")
    alice.wait(lambda: sent)
    text = sent[0]["messages"][0]["content"]
    assert "a good one" in text and "and another" in text and text.endswith("still here")
    assert name not in text
    assert alice.complaints() == []


def test_a_file_is_what_its_bytes_say_whatever_its_name_says(alice: Tab) -> None:
    choose(alice, {"report.txt": samples.pdf("It is a PDF"), "report.pdf": b"It is text"})
    ready(alice, 2)
    assert [one["pages"][0]["text"] for one in stored(alice)].count("It is text") == 1
    assert "It is a PDF" in [one["pages"][0]["text"] for one in stored(alice)]


def test_names_have_no_paths_and_no_tricks(alice: Tab) -> None:
    choose(alice, {"cod.\u202efdp.exe": b"x", "a\tb.txt": b"y"})
    ready(alice, 2)
    assert alice.texts("#tray .chip-name") == ["cod.fdp.exe", "ab.txt"]
    assert {one["name"] for one in stored(alice)} == {"cod.fdp.exe", "ab.txt"}


def test_a_folder_that_is_dropped_ends_in_words(alice: Tab, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("beside it")
    alice.wait_for_models()
    box = alice.find("#composer").bounding_box()
    assert box
    place = {"x": box["x"] + 20, "y": box["y"] + 10}
    paths = [str(tmp_path / name) for name in ("folder", "file.txt")]
    data = {"items": [], "files": paths, "dragOperationsMask": 1}
    session = alice.cdp()
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    expect(chip(alice, "folder")).to_contain_text("This is a folder.")
    ready(alice, 1)


def test_a_text_of_50_mb_is_cut_and_said_to_be(alice: Tab, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"a line of a log file, with its end\n" * 1_500_000)
    choose_at(alice, path)
    expect(chip(alice, "log.txt")).to_contain_text("the end is left out", timeout=120_000)
    expect(alice.find("#fits")).to_contain_text("Choose which parts to send.")
    alice.find("#fits button").click()
    expect(chip(alice, "log.txt")).to_contain_text("1 of")
    expect(alice.page.locator("#storage p")).to_have_count(0)


def test_a_spreadsheet_of_a_million_cells_can_be_stopped_at_any_time(alice: Tab) -> None:
    rows = "<row>" + "<c><v>123456</v></c>" * 100 + "</row>"
    alice.wait_for_models()
    alice.type("still here")
    choose(alice, {"large.xlsx": samples.workbook({"many": rows * 10_000})})
    expect(chip(alice, "large.xlsx")).to_contain_text("being read: ")
    assert len(alice.page.workers) == 1
    alice.page.get_by_role("button", name="Stop reading large.xlsx").click()
    alice.gone("#tray")
    alice.wait(lambda: not alice.page.workers)
    assert stored(alice) == []
    expect(alice.find("#input")).to_have_value("still here")


@pytest.mark.parametrize(
    ("script", "words", "seconds"), [("throw 1;", "could not read", 0), ("for (;;) {}", "took too long", 21)]
)
def test_a_worker_that_dies_or_hangs_is_ended(alice: Tab, script: str, words: str, seconds: int) -> None:
    body = {"body": script, "content_type": "text/javascript"}
    alice.page.route("**/static/worker-*.js", lambda route: route.fulfill(**body))
    alice.page.clock.install()
    alice.reload()
    alice.wait_for_models()
    alice.type("still here")
    choose(alice, {"good.txt": b"a good one"})
    if seconds:
        alice.wait(lambda: alice.page.workers)
        alice.page.clock.fast_forward(1_000 * seconds)
    expect(chip(alice, "good.txt")).to_contain_text(words)
    alice.wait(lambda: not alice.page.workers)
    expect(alice.find("#input")).to_have_value("still here")


def test_nothing_but_the_pages_own_workers_can_be_started(alice: Tab) -> None:
    start = """
      try { new Worker(arguments_[0]); return "started"; } catch (error) { return error.name; }
    """
    for address in ("/static/x.js", "data:text/javascript,1", "https://example.org/x.js"):
        assert alice.run(start, address) == "TypeError"
    make = """
      const rules = { createScriptURL: (one) => one, createHTML: (one) => one };
      try { trustedTypes.createPolicy(arguments_[0], rules); } catch (error) { return error.name; }
      return "made";
    """
    assert alice.run(make, "another") == "TypeError"
    # The page has made its own when it began, and no second one of its name can be.
    assert alice.run(make, "sluice-worker") == "TypeError"
