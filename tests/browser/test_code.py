"""Code in an answer: its colours, and the button that copies it, which stays in view."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser import stored
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

pytestmark = ON_STUB

CODE = "".join(f'def f{at}(x):\n    return "a text", {at}\n' for at in range(150))


def test_long_code_has_colours_and_its_copy_button_stays_in_view(new_profile: Profiles) -> None:
    alice: Tab = new_profile("alice", permissions=["clipboard-read", "clipboard-write"])
    alice.wait_for_models()
    alice.open(stored.put(alice, "q", f"Before.\n\n```python\n{CODE}```\n\nAfter."))
    expect(alice.page.locator(".message .code pre span", has_text="def").first).to_be_attached()
    seen = """
      const scroller = document.querySelector("#scroller");
      const code = document.querySelector(".message .code").getBoundingClientRect();
      scroller.scrollTop += code.top + code.height * arguments_[0];
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      const button = document.querySelector(".message .code-bar button").getBoundingClientRect();
      const box = scroller.getBoundingClientRect();
      const at = document.elementFromPoint(button.x + button.width / 2, button.y + button.height / 2);
      return button.top >= box.top && button.bottom <= box.bottom && Boolean(at.closest(".code-bar"));
    """
    for part in (0.25, 0.5, 0.75):
        alice.wait(lambda part=part: alice.run(seen, part))  # type: ignore[misc]
    alice.find('.message [aria-label="Copy code"]').click()
    expect(alice.page.locator("#announcer")).to_have_text("Copied")
    assert alice.run("return navigator.clipboard.readText();") == CODE.rstrip("\n")
    assert alice.complaints() == []


def test_a_search_in_1000_conversations_finds_titles_and_texts(alice: Tab) -> None:
    made = """
      const user = document.body.dataset.user;
      const opening = indexedDB.open(`sluice-${user}`);
      await new Promise((resolve) => { opening.onsuccess = resolve; });
      const change = opening.result.transaction(["conversations", "messages"], "readwrite");
      for (let at = 0; at < 1_000; at += 1) {
        const id = `many-${at}`;
        const row = { id, title: `Title ${at}`, created: at, updated: at, model: "", leaf: `${id}:1` };
        change.objectStore("conversations").put(row);
        for (const [n, role] of ["user", "assistant"].entries())
          change.objectStore("messages").put({ id: `${id}:${n}`, conversation: id, role, created: n,
            parent: n ? `${id}:0` : "", content: `text word${at}end ${"x ".repeat(500)}`, state: "done" });
      }
      await new Promise((resolve) => { change.oncomplete = resolve; });
      opening.result.close();
    """
    alice.wait_for_models()
    alice.run(made)
    alice.reload()
    box = alice.find("#search")
    # The newest and the oldest, by text; one by title; none.
    wanted = {"word999end": 1, "WORD0end": 1, "Title 567": 1, "word77": 11, "nowhere": 0}
    for words, count in wanted.items():
        box.fill(words)
        expect(alice.page.locator("#search-status")).to_have_text(f"Conversations found: {count}.")
    box.fill("word0end")
    alice.wait(lambda: [title.split("\n")[0] for title in alice.titles()] == ["Title 0"])
    alice.find("a.conversation").click()
    alice.wait(lambda: alice.turns("user") and alice.turns("user")[0].startswith("text word0end"))
    assert alice.complaints() == []
