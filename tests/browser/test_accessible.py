"""The pages serve people with a screen reader, a keyboard alone, large letters, or colours of their own."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser import accessible, attaching, pixels, states, stored
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab

pytestmark = ON_STUB


@pytest.mark.parametrize("name", states.VISITS)
def test_every_state_of_a_visit_is_without_a_fault(name: str, new_profile: Profiles) -> None:
    visit = states.VISITS[name]
    tab = new_profile(visit.login, reduced_motion="reduce")
    found = []
    for state, step in visit.states.items():
        step(tab)
        found += [f"{state}: {fault}" for fault in accessible.faults(tab)]
    assert not found, "\n".join(found)


def test_a_planted_fault_of_each_kind_is_found(alice: Tab) -> None:
    """A check that cannot fail proves nothing."""
    alice.open("/status")
    alice.find("#models tbody tr")
    alice.run(
        """
        const main = document.querySelector("main");
        const add = (name, given) => main.append(Object.assign(document.createElement(name), given));
        add("button", {});
        add("p", { textContent: "pale", style: "color: #888; background: #999" });
        add("div", { textContent: "wide", style: "width: 2000px" });
        add("button", { textContent: "gone", style: "position: fixed; left: -90px; top: 0; width: 60px" });
        """
    )
    found = "\n".join(accessible.faults(alice))
    assert "360 px, light: button-name" in found
    assert "1280 px, dark: color-contrast" in found
    assert "1280 px, light: wider than the window" in found
    assert "400 %: out of reach" in found


# --- Colours of the reader's own ---------------------------------------------------------------------------

# What takes the keyboard, by page.
FOCUSED = {
    "/": ("#send", "#settings-open", "#model", "#new-chat", "#input", "a.conversation"),
    "/keys": ("#make-key", "#key-name", ".make-key summary", ".bar .link"),
    "/admin/users": (".tabs .link", "#search", "#users a", "#kind"),
}
# Where it shows that something has the keyboard, if not at itself.
AROUND = {"#input": "#composer .composer-box"}
# What must be told from what is around it by a line.
EDGED = {
    "/": ("#composer .composer-box", "#model", "#new-chat", "#search"),
    "/keys": ("#make-key", "#key-name", ".button.danger"),
    "/admin/users": ("#search", "#kind", ".filter .primary"),
}
# So many pixels are a mark; the letters alone, a little bolder, are fewer.
MARKED = 200
# What is chosen, and the attribute that says so.
CHOSEN = {
    "/": (
        ("a.conversation[aria-current]", "aria-current"),
        (".bar .link[aria-current]", "aria-current"),
        ('[aria-label="Ask two models at once"][aria-pressed=true]', "aria-pressed"),
    ),
    "/admin/users": ((".tabs .link[aria-current]", "aria-current"),),
}


@pytest.fixture
def forced(new_profile: Profiles) -> Tab:
    """A tab of an administrator whose system has a few colours of its own, with one conversation."""
    tab = new_profile("bob", forced_colors="active", reduced_motion="reduce")
    states.chat(tab)
    tab.page.goto(tab.target.url + stored.put(tab, "one", "1", title="First"))
    tab.find(".message.assistant")
    return tab


def go(tab: Tab, path: str) -> None:
    """Open a page; the chat page with its conversation."""
    if path != "/":
        tab.open(path)
        return
    tab.open()
    tab.find("a.conversation").click()
    tab.find(".message.assistant")


def test_the_focus_is_seen_in_forced_colours(forced: Tab) -> None:
    for path, selectors in FOCUSED.items():
        go(forced, path)
        # From now on the browser takes the reader for one with a keyboard.
        forced.press("Tab")
        for selector in selectors:
            forced.run("document.activeElement.blur()")
            around = AROUND.get(selector, selector)
            before = pixels.picture(forced, around)
            forced.find(selector).focus()
            seen = pixels.changed(before, pixels.picture(forced, around))
            assert seen >= len(before), f"{path} {selector}: {seen} pixels tell that it has the focus"


def test_buttons_and_fields_have_an_edge_in_forced_colours(forced: Tab) -> None:
    for path, selectors in EDGED.items():
        go(forced, path)
        if path == "/keys" and not forced.sees(".button.danger"):
            forced.make_key("edge")
            forced.open("/keys")
        for selector in selectors:
            found = pixels.edge(pixels.picture(forced, selector))
            assert found >= 3, f"{path} {selector}: {found:.1f} to 1"


def test_what_is_chosen_is_seen_in_forced_colours(forced: Tab) -> None:
    for path, chosen in CHOSEN.items():
        go(forced, path)
        if path == "/":
            forced.find('[aria-label="Ask two models at once"]').click()
        forced.find("#main").focus()
        for selector, attribute in chosen:
            seen = _told(forced, selector, attribute)
            assert seen >= MARKED, f"{path} {selector}: {seen} pixels tell that it is chosen"
    go(forced, "/")
    forced.find("#model").click()
    assert _told(forced, "#model-list [aria-selected=true]", "aria-selected") >= MARKED


def _told(tab: Tab, selector: str, attribute: str) -> int:
    """Count the pixels by which something that is chosen differs from itself when it is not."""
    tab.page.mouse.move(0, 0)
    chosen = pixels.picture(tab, selector)
    one = tab.find(selector).element_handle()
    one.evaluate("(one, name) => { one.id ||= 'told'; one.removeAttribute(name); }", attribute)
    found = pixels.changed(chosen, pixels.picture(tab, f"#{one.get_attribute('id')}"))
    one.evaluate("(one) => { if (one.id === 'told') one.removeAttribute('id'); }")
    return found


# --- The keyboard alone -------------------------------------------------------------------------------------


def test_the_first_visit_by_keyboard_alone(tab: Tab) -> None:
    tab.open()
    _enter(tab, "#sign-in")
    tab.find("#login").focus()
    tab.page.keyboard.type("alice")
    tab.tab_to("#password")
    tab.page.keyboard.type(tab.target.accounts["alice"])
    tab.press("Enter")
    tab.find("#model:enabled")
    expect(tab.page.locator("#input")).to_be_focused()
    for number, question in enumerate(("one", "two")):
        tab.page.keyboard.type(question)
        tab.press("Enter")
        expect(tab.page.locator(".usage-note")).to_have_count(number + 1)
    assert tab.turns("user") == ["one", "two"]
    tab.page.keyboard.type("a draft")
    _enter(tab, "#new-chat")
    expect(tab.page.locator(".message")).to_have_count(0)
    expect(tab.page.locator("#input")).to_be_focused()
    _enter(tab, "a.conversation")
    expect(tab.page.locator("#input")).to_have_value("a draft")
    _enter(tab, "#settings-open")
    tab.tab_to("#set-temperature")
    tab.page.keyboard.type("0.5")
    tab.press("Escape")
    expect(tab.page.locator("#settings-open")).to_be_focused()
    _enter(tab, '.bar a[href="/keys"]')
    tab.find("#key-name")
    tab.tab_to("#key-name")
    tab.page.keyboard.type("by keys")
    tab.press("Enter")
    tab.find("#new-key")
    _enter(tab, "#sign-out")
    # The provider asks too.
    tab.find("#confirm")
    tab.tab_to("#confirm")
    tab.press("Enter")
    tab.page.wait_for_url("**/auth/signed-out*")
    tab.tab_to("#sign-in")


# What the page does before another key can come.
_PRESSED = """
  document.querySelector(arguments_[0]).click();
  for (let step = 0; step < 20; step += 1) await null;
  return document.querySelector("dialog")?.matches(":modal") ?? false;
"""


def test_the_next_key_belongs_to_the_dialogue_that_opens(alice: Tab) -> None:
    attaching.choose(alice, {"notes.txt": b"The capital of Norway is Oslo."})
    attaching.ready(alice, 1)
    for button in ("#settings-open", "#tray .chip-name"):
        assert alice.run(_PRESSED, button), button
        alice.press("Escape")
        alice.gone("dialog")


def _enter(tab: Tab, selector: str) -> None:
    """Come to something with Tab, and press Enter on it."""
    tab.find(selector)
    tab.tab_to(selector)
    tab.press("Enter")
