"""The scenes: every page that people see, and what is done on it before the picture."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from playwright.sync_api import Route, expect

from lab.screenshots import said
from lab.screenshots.people import NEW_KEY
from tests.browser import samples
from tests.browser.attaching import choose, ready
from tests.browser.tab import Tab

Device = Literal["desktop", "phone"]
Theme = Literal["light", "dark"]
DEVICES: tuple[Device, ...] = ("desktop", "phone")
THEMES: tuple[Theme, ...] = ("light", "dark")
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}

# What answers to GET and is no page that people look at.
NO_PAGES = {
    "static": "scripts, styles, pictures",
    "oidc_auth.login": "leads to the provider",
    "oidc_auth.authorize": "comes back from the provider",
    "oidc_auth.logout": "leads to the provider",
    "legacy_oidc_callback": "comes back from the provider",
    "chat.health": "for nginx",
    "chat.personas": "for the chat page's script",
    "chat.drawing": "the empty frame in which a diagram is drawn",
}


def nothing(_tab: Tab, _language: str) -> None:
    """Do nothing: the page shows what there is."""


@dataclass(frozen=True)
class Scene:
    """A picture: who sees which page, and what they have done there.

    `endpoint` is the Flask view's; `path` may name parts that `people.settle` returns. `who` is "" before
    sign-in. `shows` has to be there before the picture is taken.
    """

    name: str
    endpoint: str
    path: str
    who: str = "alice"
    act: Callable[[Tab, str], None] = nothing
    shows: str = "main"
    devices: tuple[Device, ...] = DEVICES


@dataclass(frozen=True)
class Picture:
    """A picture for the README."""

    scene: str
    language: str
    theme: Theme
    device: Device

    @property
    def name(self) -> str:
        """Its file, without the ending."""
        return f"{self.scene}-{self.language}-{self.theme}-{self.device}"


# The reader is at the begin of the answer; on a phone, of the question.
_TO_BEGIN = """
  const scroller = document.querySelector("#scroller");
  scroller.scrollTop = 0;
  if (innerWidth > 760) document.querySelector(".message.assistant").scrollIntoView();
"""


# --- What is done ----------------------------------------------------------------------------------------


def _send(tab: Tab, question: str) -> None:
    tab.find("#model:enabled")
    tab.type(question)
    # On a phone Enter makes a line.
    tab.find("#send").click()
    # What the pointer is on looks pressed.
    tab.page.mouse.move(1, 1)


def _answered(tab: Tab, question: str) -> None:
    _send(tab, question)
    tab.find(".message.assistant .tools")
    tab.gone(".message.busy")


def _ask(tab: Tab, language: str) -> None:
    _answered(tab, said.said(language)["question"])
    tab.find(".message .katex")
    # The colours come later than the code.
    tab.find("pre code span")
    tab.run(_TO_BEGIN)
    tab.page.locator("#input").blur()


def _draw(tab: Tab, language: str) -> None:
    _answered(tab, said.said(language)["diagram_question"])
    tab.find(".message img")


def _open_models(tab: Tab, _language: str) -> None:
    tab.find("#model:enabled").click()
    tab.find("#model-list [data-model]")


def _settings(tab: Tab, language: str) -> None:
    tab.find("#settings-open").click()
    tab.page.wait_for_selector("#persona optgroup", state="attached")
    tab.find("#persona").select_option(label=said.said(language)["personas"][0]["name"])
    tab.run("document.activeElement.blur(); document.querySelector('#panel').scrollTop = 0")


def _empty_with_persona(tab: Tab, language: str) -> None:
    _settings(tab, language)
    tab.press("Escape")
    tab.find("#persona-chip")


def _attach(tab: Tab, language: str) -> None:
    texts = said.said(language)
    document, table = texts["files"]
    cells = samples.rows(["sample", "T / K", "t / min"], ["A1", "420", "30"], ["A2", "395", "30"])
    choose(tab, {document: samples.pdf(*texts["document"]), table: samples.workbook({"Samples": cells})})
    ready(tab, 2)
    tab.type(texts["attached_question"])
    tab.find("#fits")


def _side_by_side(tab: Tab, language: str) -> None:
    tab.find("#model:enabled")
    tab.page.locator("#composer [aria-pressed]").first.click()
    tab.find("#second").click()
    tab.find(f'#second-list [data-model="{said.SECOND}"]').click()
    _send(tab, said.said(language)["side_question"])
    expect(tab.page.locator(".side-answer .keep")).to_have_count(2)
    tab.page.locator("#input").blur()
    tab.run("document.querySelector('#scroller').scrollTop = 0")


def _wait_for_a_model(tab: Tab, language: str) -> None:
    error = {"message": "No instance of the model is ready.", "type": "server_error", "code": "no_instance"}

    def asleep(route: Route) -> None:
        route.fulfill(status=503, headers={"Retry-After": "95"}, json={"error": error})

    tab.page.route("**/v1/chat/completions", asleep)
    tab.choose_model("qwen3-coder-30b")
    _send(tab, said.said(language)["wait_question"])
    tab.find(".waiting, .wait, .problem")


def _data(tab: Tab, _language: str) -> None:
    if not tab.page.locator("#data-open").is_visible():
        tab.find("#menu").click()
    tab.find("#data-open").click()
    tab.find("#data")


def _drawer(tab: Tab, _language: str) -> None:
    tab.find("#menu").click()
    tab.find("#side.open .conversation")


def _nav(tab: Tab, _language: str) -> None:
    tab.find("#nav-open").click()
    tab.find("#nav .link")


def _conversation_menu(tab: Tab, _language: str) -> None:
    tab.page.locator("#conversations .more").first.click(force=True)
    tab.find("#actions [role=menuitem]")


def _new_key(tab: Tab, _language: str) -> None:
    tab.find("#key-name").fill(NEW_KEY)
    tab.find("#make-key").click()
    tab.find("#new-key")


def _models_known(tab: Tab, _language: str) -> None:
    expect(tab.page.locator("#models tbody .live").first).to_be_visible()


SCENES = (
    Scene("welcome", "chat.index", "/", who="", shows="#sign-in"),
    Scene("signed-out", "sign.signed_out", "/auth/signed-out", who=""),
    Scene("imprint", "site.imprint", "/imprint", who=""),
    Scene("privacy", "site.privacy", "/privacy", who=""),
    Scene("chat", "chat.index", "/", act=_ask),
    Scene("conversation", "chat.conversation", "{conversation}", shows=".message .katex"),
    Scene("diagram", "chat.index", "/", act=_draw),
    Scene("empty", "chat.index", "/", act=_empty_with_persona),
    Scene("models", "chat.index", "/", act=_open_models),
    Scene("settings", "chat.index", "/", act=_settings),
    Scene("attachment", "chat.index", "/", act=_attach),
    Scene("side-by-side", "chat.index", "/", act=_side_by_side),
    Scene("waiting", "chat.index", "/", act=_wait_for_a_model),
    Scene("data", "chat.index", "/", act=_data),
    Scene("list", "chat.index", "/", act=_drawer, devices=("phone",)),
    Scene("navigation", "chat.index", "/", act=_nav, devices=("phone",)),
    Scene("menu", "chat.index", "/", act=_conversation_menu, devices=("desktop",)),
    Scene("status", "status.index", "/status", shows="#models tbody tr"),
    Scene("keys", "keys.index", "/keys"),
    Scene("new-key", "keys.index", "/keys", act=_new_key),
    Scene("key", "keys.show", "/keys/{key_id}"),
    Scene("usage", "usage.index", "/usage", shows="#by-key"),
    Scene("account", "sign.account", "/auth/account"),
    Scene("not-found", "chat.index", "/nowhere"),
    Scene("admin", "admin.index", "/admin", who="bob", shows="#by-user"),
    Scene("admin-users", "admin_users.index", "/admin/users", who="bob"),
    Scene("admin-user", "admin_users.show", "/admin/users/{user}", who="bob"),
    Scene("admin-projects", "admin_projects.index", "/admin/projects", who="bob"),
    Scene("admin-project", "admin_projects.show", "/admin/projects/{project}", who="bob"),
    Scene("admin-limits", "admin_limits.index", "/admin/limits", who="bob"),
    Scene("admin-models", "admin_models.index", "/admin/models", who="bob", act=_models_known),
    Scene("admin-announcements", "admin_announcements.index", "/admin/announcements", who="bob"),
    Scene("admin-audit", "admin_audit.index", "/admin/audit", who="bob"),
)

README = (
    Picture("chat", "en", "light", "desktop"),
    Picture("chat", "ja", "dark", "phone"),
    Picture("side-by-side", "de", "dark", "desktop"),
    Picture("admin", "en", "light", "desktop"),
)


def path_of(scene: Scene, parts: dict[str, Any]) -> str:
    """Return the path of a scene's page at a site with these parts."""
    return re.sub(r"\{(\w+)\}", lambda found: str(parts[found[1]]), scene.path)
