"""What goes out of a browser and comes in: exports, imports of others, a reminder, the end of all."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jsonschema_rs
from playwright.sync_api import expect

from tests.browser import stored
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

SCHEMA = Path(__file__).parents[2] / "page" / "export.schema.json"

pytestmark = ON_STUB


def download(tab: Tab, selector: str) -> bytes:
    """Press what saves a file, and return what it saved."""
    with tab.page.expect_download() as saved:
        tab.find(selector).click()
    return Path(saved.value.path()).read_bytes()


def take(tab: Tab, name: str, content: bytes) -> list[str]:
    """Import a file, and return what the page says became of it."""
    if not tab.sees("#data"):
        tab.find("#data-open").click()
    tab.find("#import").set_input_files({"name": name, "mimeType": "application/json", "buffer": content})
    expect(tab.page.get_by_role("list", name=f"Import of {name}")).to_be_visible()
    return tab.texts("#import-report li")


def chatgpt(count: int, size: int = 10) -> list[dict[str, Any]]:
    """Return conversations as ChatGPT exports them, each of a question with two answers."""
    made = []
    for at in range(count):
        said = [("q", "user", None), ("a", "assistant", "q"), ("b", "assistant", "q")]
        nodes = {
            name: {
                "id": name,
                "parent": parent,
                "children": ["a", "b"] if name == "q" else [],
                "message": {
                    "id": f"{name}{at}",
                    "author": {"role": role},
                    "create_time": 1_700_000_000 + at,
                    "content": {"content_type": "text", "parts": [f"{name} {at} " + "x" * size]},
                    "metadata": {},
                    "recipient": "all",
                },
            }
            for name, role, parent in said
        }
        made.append(
            {"title": f"From elsewhere {at}", "id": f"id-{at}", "mapping": nodes, "current_node": "b"}
        )
    return made


def test_everything_is_exported_and_comes_back_in_an_empty_browser(alice: Tab, new_profile: Profiles) -> None:
    alice.ask("before")
    alice.finished_answer()
    alice.ask_again()
    alice.finished_answer()
    alice.find("#data-open").click()
    content = download(alice, "#export-all")
    exported = json.loads(content)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema_rs.meta.validate(schema)
    assert [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(exported)] == []
    assert len(exported["conversations"][0]["messages"]) == 3
    assert "Last exported" in alice.find("#data").inner_text()
    there = new_profile("alice")
    assert "New conversations: 1." in take(there, "all.json", content)
    there.find("#data-close").click()
    there.find("a.conversation").click()
    there.wait(lambda: there.turns("user") == ["before"])
    assert there.find(".message.assistant .branches").inner_text() == "2/2"
    assert there.path == alice.path
    stored_there = sorted(stored.messages(there), key=lambda row: str(row["id"]))
    assert stored_there == sorted(stored.messages(alice), key=lambda row: str(row["id"]))
    assert "unchanged: 1." in " ".join(take(there, "again.json", content))
    assert len(stored.messages(there)) == 3


def test_markdown_has_the_branch_on_view(alice: Tab) -> None:
    address = stored.put(alice, "first", "**one**", title="A title: with signs?")
    alice.open(address)
    alice.page.get_by_role("button", name="Actions for “A title: with signs?”").click()
    with alice.page.expect_download() as saved:
        alice.page.get_by_role("menuitem", name="Export as Markdown").click()
    assert saved.value.suggested_filename == "A title with signs.md"
    text = Path(saved.value.path()).read_text(encoding="utf-8")
    assert text == "# A title: with signs?\n\n## You\n\nfirst\n\n## Answer\n\n**one**\n"


def test_chatgpts_archive_comes_in_with_its_branches_and_twice_makes_no_doubles(alice: Tab) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chat.html", "<html>" * 1_000)
        archive.writestr("conversations.json", json.dumps(chatgpt(3)))
    assert take(alice, "export.zip", buffer.getvalue()) == ["New conversations: 3."]
    said = " ".join(take(alice, "twice.zip", buffer.getvalue()))
    assert said == "Conversations that were here already and are unchanged: 3."
    alice.find("#data-close").click()
    alice.wait(lambda: sorted(alice.titles()) == [f"From elsewhere {at}" for at in range(3)])
    assert len(stored.messages(alice)) == 9
    alice.page.get_by_text("From elsewhere 1").click()
    alice.wait(lambda: alice.turns("user") == ["q 1 xxxxxxxxxx"])
    assert alice.find(".message.assistant .branches").inner_text() == "2/2"
    alice.ask("go on")
    assert "message 3" in alice.finished_answer()


def test_a_broken_file_gives_what_is_whole_and_says_what_is_wrong(alice: Tab) -> None:
    text = json.dumps(chatgpt(3))
    said = take(alice, "cut.json", text[: len(text) - 100].encode())
    assert "New conversations: 2." in said
    assert any("ends in the middle" in line for line in said)
    said = take(alice, "picture.json", b"\x89PNG\r\n\x1a\n" + bytes(1_000))
    assert any("no export of conversations" in line for line in said)
    assert "No conversation was taken in." in said
    assert alice.complaints() == []


def test_what_reads_files_and_cannot_be_loaded_is_said_and_tried_again(alice: Tab) -> None:
    content = json.dumps(chatgpt(1)).encode()
    alice.page.route("**/static/read-*.js", lambda route: route.abort())
    said = take(alice, "some.json", content)
    assert any("could not be loaded" in line for line in said)
    alice.page.unroute("**/static/read-*.js")
    alice.reload()
    assert take(alice, "some.json", content) == ["New conversations: 1."]


# Makes a file of many conversations in the page, and gives it to the page as a reader does.
LARGE = """
  const [sample, count, name] = arguments_;
  const rows = Array.from({ length: count }, (_none, at) => JSON.stringify({ ...sample, id: `id-${at}` }));
  const chosen = new DataTransfer();
  chosen.items.add(new File(["[", rows.join(","), "]"], name));
  const input = document.getElementById("import");
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
"""


def test_a_large_import_shows_how_far_it_is_and_can_be_stopped(alice: Tab) -> None:
    (sample,) = chatgpt(1, 20_000)
    alice.find("#data-open").click()
    alice.run(LARGE, sample, 400, "large.json")
    alice.find("#import-progress")
    alice.find("#import-cancel").click()
    expect(alice.page.locator("#import-report")).to_contain_text("You stopped the import")
    assert len(stored.messages(alice)) < 1_200
    alice.run(LARGE, sample, 400, "rest.json")
    expect(alice.page.get_by_role("list", name="Import of rest.json")).to_be_visible(timeout=90_000)
    assert any(line.startswith("New conversations:") for line in alice.texts("#import-report li"))
    assert len(stored.messages(alice)) == 1_200


def test_a_full_storage_ends_an_import_in_words_and_the_rest_comes_when_there_is_room(alice: Tab) -> None:
    content = json.dumps(chatgpt(5)).encode()
    alice.run(
        """
        window.add = IDBObjectStore.prototype.add;
        let left = 8;
        IDBObjectStore.prototype.add = function (...row) {
          left -= 1;
          if (left < 0) throw new DOMException("full", "QuotaExceededError");
          return window.add.apply(this, row);
        };
        """
    )
    said = take(alice, "full.json", content)
    assert "New conversations: 2." in said
    assert any("storage is full" in line for line in said)
    assert len(stored.messages(alice)) == 6
    alice.run("IDBObjectStore.prototype.add = window.add;")
    said = take(alice, "more.json", content)
    assert "New conversations: 3." in said
    assert len(stored.messages(alice)) == 15


def test_without_storage_an_import_lasts_as_long_as_the_tab_and_says_so(alice: Tab) -> None:
    alice.page.add_init_script(stored.FORBIDDEN)
    alice.open()
    said = take(alice, "some.json", json.dumps(chatgpt(2)).encode())
    assert "New conversations: 2." in said
    assert any("does not let the page store anything" in line for line in said)
    alice.find("#data-close").click()
    alice.page.get_by_text("From elsewhere 1").click()
    alice.wait(lambda: alice.turns("user") == ["q 1 xxxxxxxxxx"])


def test_everything_is_deleted_here_and_in_other_tabs_after_a_question(alice: Tab) -> None:
    address = stored.put(alice, "a secret", "kept", title="Secret")
    alice.run("localStorage.setItem('sluice-model', 'x'); await caches.open('sluice');")
    second = alice.another_tab()
    second.open(address)
    second.wait(lambda: second.turns("user") == ["a secret"])
    second.type("a secret draft")
    alice.reload()
    alice.find("#data-open").click()
    alice.find("#erase").click()
    alice.press("Escape")
    assert len(stored.messages(alice)) == 2
    alice.find("#erase").click()
    alice.page.locator("#asking").get_by_role("button", name="Delete everything").click()
    alice.gone("#data")
    expect(alice.page.locator("#announcer")).to_have_text("Everything is deleted.")
    assert alice.titles() == []
    second.wait(lambda: second.path == "/" and second.titles() == [])
    assert stored.everything(second) == []
    left = second.run("return [Object.keys(localStorage), await caches.keys()]")
    assert left == [[], []]
    second.ask("a new beginning")
    second.finished_answer()
    alice.wait(lambda: alice.titles() == ["a new beginning"])


def test_the_page_reminds_of_exporting_where_the_reader_wants_it(alice: Tab) -> None:
    stored.put(alice, "old", "older", title="Of old")
    alice.reload()
    alice.wait(lambda: alice.titles() == ["Of old"])
    assert not alice.sees("#reminder")
    alice.find("#data-open").click()
    alice.find("#remind").select_option("7")
    alice.find("#data-close").click()
    assert "Days since your last export" in alice.find("#reminder").inner_text()
    download(alice, "#reminder .button")
    alice.gone("#reminder")
    alice.reload()
    alice.wait(lambda: alice.titles() == ["Of old"])
    assert not alice.sees("#reminder")
