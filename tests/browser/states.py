"""Every page, dialogue and state that people come to, by name, in visits: test_accessible.py looks at them.

A visit is one tab, in which each state follows from the one before. To add a state, add a line.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, FileSystemLoader
from playwright.sync_api import expect

from page.node import ROOT
from tests.browser import samples, stored
from tests.browser.attaching import choose, ready
from tests.browser.tab import PHONE, Tab

Step = Callable[[Tab], object]

MODELS = [
    {"id": "smollm2-135m", "status": "ready", "context_length": 2048},
    {"id": "smollm2-light", "status": "sleeping", "context_length": 2048},
    {"id": "smollm2-slow", "status": "starting", "context_length": 2048},
    {
        "id": "outside-large",
        "status": "ready",
        "context_length": 128_000,
        "capabilities": ["chat", "vision"],
        "external": True,
        "provider": "Example Cloud",
        "region": "Frankfurt",
    },
]
ANSWER = r"""# What it is

A [link](https://example.org/), `code`, a note[^a], $e^{i\pi}$, and $\frac{a$ with a fault.

- [x] done
- [ ] to do

> said

| a | b |
| - | -: |
| 1 | 2 |

```python
print("a line that is so long that a telephone has to move it sideways to show the whole of it, to the end")
```

```mermaid
graph TD
  A[Start] --> B{Is it?}
```

$$\sum_{n=1}^{\infty} \frac{1}{n^2}$$

[^a]: The note.
"""
_WIDE = (
    "| " + " | ".join(f"column {at}" for at in range(30)) + " |\n|" + " - |" * 30 + "\n" + "| 1 " * 30 + "|"
)


@dataclass(frozen=True)
class Visit:
    """A tab of whoever has this login, the states that it comes to, and options of its profile."""

    login: str | None
    states: Mapping[str, Step]
    options: Mapping[str, Any] = field(default_factory=dict)


# --- What leads to a state -------------------------------------------------------------------------------


def at(path: str, seen: str = "h1") -> Step:
    """Open a page and wait for something on it."""

    def step(tab: Tab) -> None:
        tab.open(path)
        tab.page.locator(seen).first.wait_for(state="attached")

    return step


def press(selector: str, seen: str = "") -> Step:
    """Press something, and wait for what it opens."""

    def step(tab: Tab) -> None:
        tab.find(selector).click()
        if seen:
            tab.find(seen)

    return step


def named(button: str, seen: str) -> Step:
    """Press a button by its name, and wait for what it opens."""

    def step(tab: Tab) -> None:
        tab.page.get_by_role("button", name=button).first.click()
        tab.find(seen)

    return step


def item(name: str, seen: str) -> Step:
    """Choose from the menu that is open, and wait for what it opens."""

    def step(tab: Tab) -> None:
        tab.page.get_by_role("menuitem", name=name).click()
        tab.find(seen)

    return step


def narrow(button: str, opened: str) -> Step:
    """Open, on a telephone, what stands there by itself in a wide window."""

    def step(tab: Tab) -> None:
        tab.page.set_viewport_size(PHONE)
        tab.find(button).click()
        tab.find(opened)

    return step


def after(*steps: Step) -> Step:
    """Do one after another."""

    def step(tab: Tab) -> None:
        for one in steps:
            one(tab)

    return step


def escape(tab: Tab) -> None:
    """Close the dialogue or menu on top."""
    opened = "dialog[open], :popover-open, [role=combobox][aria-expanded=true]"
    before = tab.count(opened)
    tab.press("Escape")
    tab.wait(lambda: tab.count(opened) < max(before, 1))


def chat(tab: Tab) -> None:
    """Wait for the chat page to be ready."""
    tab.open()
    tab.find("#model:enabled")


def ask(question: str, seen: str) -> Step:
    """Ask in a new conversation, and wait for what shows the state of its answer."""

    def step(tab: Tab) -> None:
        if tab.sees("#stop"):
            tab.stop()
        tab.find("#new-chat").click()
        tab.ask(question)
        tab.find(seen)

    return step


def offered(tab: Tab) -> None:
    """Have the site offer a model outside it too."""
    tab.page.route("**/v1/models", lambda route: route.fulfill(json={"object": "list", "data": MODELS}))
    tab.reload()
    tab.find("#model:enabled")


def of_nginx(status: int) -> Step:
    """Show the page that nginx has for when web does not answer."""
    templates = Environment(loader=FileSystemLoader(ROOT / "roles" / "nginx" / "templates"), autoescape=False)  # noqa: S701 a role's file
    html = str(templates.get_template("pages.j2").module.html(status, "en", ""))  # type: ignore[attr-defined]

    def step(tab: Tab) -> None:
        kind = "text/html; charset=utf-8"
        tab.page.route("**/said", lambda route: route.fulfill(status=status, body=html, content_type=kind))
        at("/said", "main")(tab)
        tab.page.unroute("**/said")

    return step


def everything_answered(tab: Tab) -> None:
    """Open a conversation with all that an answer can hold."""
    think = "<think>First this.</think>"
    tab.open(stored.put(tab, "What is it?", think + ANSWER, "And?", _WIDE, title="Everything"))
    expect(tab.page.locator(".formula .katex")).to_have_count(2)
    tab.find(".diagram img")
    tab.find(".reasoning")


def folds_open(tab: Tab) -> None:
    """Open what is folded away in an answer."""
    for fold in (".reasoning summary", ".diagram summary"):
        tab.find(fold).click()


def two_answers(tab: Tab) -> None:
    """Ask two models at once, and wait for both."""
    tab.ask("hello")
    expect(tab.page.locator(".side-answer .keep")).to_have_count(2)


def in_folder(tab: Tab) -> None:
    """Put a conversation into a new folder, pin another, and open the folder."""
    stored.put(tab, "one", "1", title="Rivers")
    stored.put(tab, "two", "2", title="Lakes")
    tab.reload()
    tab.wait(lambda: {"Rivers", "Lakes"} <= set(tab.titles()))
    after(named("Actions for “Rivers”", "#actions"), item("Move to a folder", "#asking"))(tab)
    tab.find("#asking select").select_option(label="New folder…")
    tab.find("#asking [type=submit]").click()
    tab.find("#asking input").fill("Water")
    tab.press("Enter")
    tab.find("#conversations summary").click()
    after(named("Actions for “Lakes”", "#actions"), item("Pin to the top", "#conversations h2"))(tab)


def temporary(tab: Tab) -> None:
    """Begin a chat that is not stored."""
    named("New temporary chat", "#temporary p")(tab)
    tab.ask("hello")
    tab.finished_answer()


def searched(text: str) -> Step:
    """Search the list, and wait for the count."""

    def step(tab: Tab) -> None:
        tab.find("#search").fill(text)
        expect(tab.page.locator("#search-status")).to_contain_text("found")

    return step


def escape_search(tab: Tab) -> None:
    """Leave the search."""
    tab.find("#search").fill("")
    tab.find("a.conversation")


def wrong_setting(tab: Tab) -> None:
    """Type what is no number of this setting."""
    tab.find("#set-top_p").fill("1.5")
    expect(tab.page.locator("#set-top_p-wrong")).not_to_be_empty()


def own_things(tab: Tab) -> None:
    """Save a persona and a prompt."""
    tab.find("#set-top_p").fill("0.5")
    tab.find("#set-system").fill("Answer as a pirate")
    tab.find("#set-temperature").click()
    tab.find("#persona-name").fill("Pirate")
    tab.press("Enter")
    tab.page.locator("summary", has_text="Your personas").click()
    tab.page.locator("summary", has_text="Saved prompts").click()
    tab.page.get_by_label("New prompt: name").fill("Greeting")
    tab.page.locator("#prompt-new-text").fill("Write a greeting")
    tab.press("Tab", "Enter")
    tab.wait(lambda: tab.count("#panel .shelf form") >= 2)


def slash(tab: Tab) -> None:
    """Type the slash that offers saved prompts."""
    tab.find("#input").fill("")
    tab.find("#input").press_sequentially("/")
    tab.find("#slash")


def attached(tab: Tab) -> None:
    """Attach what can be read, and what cannot."""
    tab.type("")
    choose(tab, {"paper.pdf": samples.pdf("One", "Two"), "dot.png": samples.png(9, 9), "a.exe": b"MZ\0\1"})
    ready(tab, 2)


def linked(query: str) -> Step:
    """Follow a link that carries settings."""
    return after(at("/keys"), at(f"/#settings?{query}", "#linked"))


def signed_out_meanwhile(tab: Tab) -> None:
    """Ask after the sign-in has ended elsewhere."""
    refusal = {"error": {"message": "no such key", "code": "invalid_api_key"}}
    for path in ("**/v1/**", "**/page-bearer"):
        tab.page.route(path, lambda route: route.fulfill(status=401, json=refusal))
    ask("hello", "#log .problem")(tab)


def key(tab: Tab) -> None:
    """Make a key."""
    tab.make_key(f"table {secrets.token_hex(3)}")


def wrong_key(tab: Tab) -> None:
    """Ask for a key with a limit that is none."""
    tab.open("/keys")
    tab.find("summary").click()
    tab.run("document.querySelector('.make-key').noValidate = true")
    tab.find("#key-name").fill("wrong")
    tab.find("#key-days").fill("9999")
    tab.find("#make-key").click()
    tab.find("#faults")


def used(tab: Tab) -> None:
    """Ask something, and open the page of usage when it is counted."""
    chat(tab)
    tab.ask("hello")
    tab.finished_answer()

    def counted() -> bool:
        tab.open("/usage")
        return tab.sees("#by-key")

    tab.wait(counted)
    tab.find("summary").click()


def announced(tab: Tab) -> None:
    """Announce something with a link."""
    tab.open("/admin/announcements")
    tab.find("#text").fill("Maintenance, [see here](https://example.org/)")
    tab.find("#level").select_option("warning")
    tab.press("Enter")
    tab.find("#announce").click()
    tab.find("#announcements")


def over(tab: Tab) -> None:
    """End what was announced."""
    tab.open("/admin/announcements")
    tab.find("#announcements button").click()
    tab.gone(".announcement")


def stopped(tab: Tab) -> None:
    """Stop a model that nobody asks."""
    tab.open("/admin/models")
    tab.find("#model").fill(f"model-{secrets.token_hex(3)}")
    tab.find("#new-model").check()
    tab.find("#stop-model").click()
    tab.find(".tag.bad")
    tab.find(".live:not([hidden])")


def wrong_limit(tab: Tab) -> None:
    """Set a limit of a scope that is none."""
    tab.open("/admin/limits")
    tab.page.select_option("#whom", "user")
    tab.find("#who").fill("nobody")
    tab.find("#set-limit").click()
    tab.find("#problem")


# --- The table -------------------------------------------------------------------------------------------

VISITS: Mapping[str, Visit] = {
    "signed out": Visit(
        None,
        {
            "start page": at("/"),
            "signed out": at("/auth/signed-out"),
            "imprint": at("/imprint"),
            "privacy": at("/privacy"),
            "nothing there": at("/nothing"),
            "nginx: nothing there": of_nginx(404),
            "nginx: web does not answer": of_nginx(502),
        },
    ),
    "answers": Visit(
        "alice",
        {
            "no conversation": chat,
            "an answer": ask("hello", ".usage-note"),
            "an answer with everything": everything_answered,
            "folds opened": folds_open,
            "menu of a message": named("More actions", "#actions"),
            "a message deleted": item("Delete only this message", "#undo .button"),
            "a question edited": named("Edit and send again", "#editing"),
            "an answer that is written": ask("slow", ".message.busy .body p"),
            "an answer that was stopped": after(press("#stop"), lambda tab: tab.gone(".busy")),
            "an answer that broke off": ask("break", "#log .problem"),
            "a model that is asleep": ask("asleep", ".countdown"),
            "a place in the queue": ask("line", ".wait"),
            "a sign-in that has ended": signed_out_meanwhile,
        },
    ),
    "models": Visit(
        "alice",
        {
            "models": after(offered, press("#model", "#model-list [role=option]")),
            "no such model": lambda tab: tab.find("#model").press_sequentially("nothing like it"),
            "a second model": after(escape, press('[aria-label="Ask two models at once"]', "#second")),
            "its list": press("#second", "#second-list [role=option]"),
            "two answers": after(press('#second-list [data-model="smollm2-light"]'), two_answers),
            "consent to a model outside": after(
                chat, lambda tab: tab.choose_model("outside-large"), ask("hello", "#consent")
            ),
        },
    ),
    "list": Visit(
        "alice",
        {
            "list with a folder": after(chat, in_folder),
            "list on a telephone": narrow("#menu", "#side.open"),
            "list of pages on a telephone": after(escape, narrow("#nav-open", "#nav .link")),
            "menu of a conversation": after(escape, named("Actions for “Rivers”", "#actions")),
            "question for a name": item("Rename the conversation", "#asking"),
            "question for a folder": after(
                escape, named("Actions for “Rivers”", "#actions"), item("Move to a folder", "#asking")
            ),
            "menu of a folder": after(escape, named("Actions for “Water”", "#actions")),
            "search": after(escape, searched("riv")),
            "search without result": searched("nowhere"),
            "a conversation deleted": after(
                escape_search, press('#conversations [aria-label^="Delete"]', "#undo .button")
            ),
            "data": press("#data-open", "#data"),
            "question before all is deleted": press("#erase", "#asking"),
            "temporary chat": after(escape, escape, temporary),
            "question before a temporary chat is left": press(
                "a.conversation:not([aria-current])", "#asking"
            ),
        },
    ),
    "settings": Visit(
        "alice",
        {
            "settings": after(chat, press("#settings-open", "#panel")),
            "a wrong value": wrong_setting,
            "personas and prompts": own_things,
            "prompts after a slash": after(escape, slash),
            "files beside a message": attached,
            "a document": press('.chip[data-state="ready"] .chip-name', "#attachment"),
            "a picture": after(escape, press('.chip-name:has-text("dot.png")', "#attachment .picture")),
            "a link with settings": linked("temperature=0.5&system=Be+kind"),
            "a link that cannot be read": linked("temperature=9"),
        },
    ),
    "no storage": Visit("alice", {"a browser that stores nothing": chat}, {"script": stored.FORBIDDEN}),
    "account": Visit(
        "alice",
        {
            "new key": key,
            "keys": at("/keys", "#live-keys"),
            "a key": after(at("/keys", "#live-keys"), press("#live-keys a", "#key-facts")),
            "a key that cannot be made": wrong_key,
            "usage": used,
            "sessions": at("/auth/account", "#browsers"),
            "status": at("/status", "#models tbody tr"),
            "not for this user": at("/admin"),
        },
    ),
    "administration": Visit(
        "bob",
        {
            "no keys": at("/keys"),
            "no usage": at("/usage"),
            "announcements": announced,
            "chat with an announcement": after(chat, lambda tab: tab.find(".announcement")),
            "status with an announcement": at("/status", ".announced"),
            "overview": at("/admin"),
            "users": at("/admin/users", "#users"),
            "a user": after(at("/admin/users"), press("#users tbody a", ".facts")),
            "question before a user is signed out": press(".confirm summary", ".confirm-box"),
            "projects": at("/admin/projects", "#projects"),
            "a project": at("/admin/projects/climate"),
            "limits": at("/admin/limits"),
            "a limit that cannot be set": wrong_limit,
            "models and their state": stopped,
            "audit log": after(over, at("/admin/audit", "#audit")),
        },
    ),
}
