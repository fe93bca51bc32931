"""What hostile texts do in a browser, if they do anything: scripts, requests, windows, breaches of a policy.

A payload of page/test/payloads.json sets `broken_in` where it runs a script, and names a host of
`evil.example` where it asks one. `numbered` gives each its number in both: what is noticed names its payload.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Dialog, Frame, Request, Route

from tests.browser.tab import Tab

PAYLOADS: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[2] / "page" / "test" / "payloads.json").read_text(encoding="utf-8")
)
EVIL = "evil.example"

# In every frame, before its own scripts.
_WATCH = """
  const note = (what) => globalThis.noted?.(`${what}`.slice(0, 300));
  Object.defineProperty(globalThis, "broken_in", { set: (value) => note(`a script ran: ${value}`) });
  addEventListener("securitypolicyviolation", (event) =>
    note(`the policy stopped ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""
# What the page's own elements never are. The address of a link is looked at when somebody follows it.
_LOOK = r"""
  const found = [];
  const own = (url) =>
    /^(?:blob:|[/](?![/]))/.test(url) || new URL(url, location.href).origin === location.origin;
  const ELEMENTS = /^(?:script|link|meta|base|object|embed|video|audio|source|track|style|template|portal)$/;
  const ATTRIBUTES = /^on|^(?:srcdoc|srcset|ping|background|formaction)$/;
  const LINKS = /^(?:https?:[/][/]|mailto:|[/](?![/])|blob:|#)/i;
  const isSafe = ({ target, relList }) =>
    target === "_blank" && relList.contains("noopener") && relList.contains("noreferrer");
  for (const one of document.body.querySelectorAll("*")) {
    const name = one.localName;
    if (ELEMENTS.test(name) || (name === "iframe" && one.className !== "drawing"))
      found.push(`an element: ${one.outerHTML}`);
    for (const { name: at, value } of one.attributes) {
      // Scripts of the page set a style too: of formulas, and how high the composer is.
      if (ATTRIBUTES.test(at) || (at === "style" && /url|expression|import/i.test(value)))
        found.push(`an attribute: ${at}=${value} of ${name}`);
      if (/^(?:src|poster|data|action)$/.test(at) && !own(value))
        found.push(`an address: ${value} of ${name}`);
      if (/href$/.test(at) && !LINKS.test(value)) found.push(`a link: ${value}`);
    }
    const outside = name === "a" && /^https?:$/.test(one.protocol) && one.origin !== location.origin;
    if (outside && !isSafe(one)) found.push(`a link that tells where it is: ${one.href}`);
  }
  if (({}).polluted !== undefined) found.push("all objects have a field of an import");
  return found.map((one) => one.slice(0, 300));
"""
# Mermaid reads labels as HTML to measure them, in the frame that has no rights: its policy stops handlers.
_MEASURED = "the policy stopped script-src-attr inline "
_MEASURES = re.compile(r"\S+/static/mermaid-[\w-]+\.js Executing inline event handler violates .*")
# Paths of the site that a page asks for by itself.
_OWN = re.compile(
    r"/(?:c/[\w-]+|drawing|static/.*|v1/(?:models|chat/completions)|page-bearer|personas|announcements)?$"
)


class Watch:
    """Notes what happens in a profile beside what the page does by itself."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.noted: list[str] = []
        self._seen = len(tab.profile.requests)
        context = tab.profile.context
        context.expose_binding("noted", self._note)
        context.add_init_script(f"(() => {{ {_WATCH} }})()")
        context.route(lambda url: not tab.target.is_own(url), self._refuse)
        context.on("page", lambda page: self.noted.append(f"a window was opened: {page.url}"))
        context.on("request", self._request)
        tab.page.on("dialog", self._dialog)
        tab.page.on("framenavigated", self._frame)
        tab.page.on("download", lambda download: self.noted.append(f"a download: {download.url}"))
        tab.profile.said.clear()

    def _note(self, source: dict[str, Any], what: object) -> None:
        if not (source["frame"].url.endswith("/drawing") and what == _MEASURED):
            self.noted.append(str(what))

    @staticmethod
    def _refuse(route: Route) -> None:
        route.abort()

    def _request(self, request: Request) -> None:
        url = request.url
        if not self.tab.target.is_own(url):
            self.noted.append(f"another host was asked: {url}")
        elif url.startswith(self.tab.target.url) and not _OWN.fullmatch(self._path(url)):
            self.noted.append(f"the site was asked: {url}")

    def _path(self, url: str) -> str:
        return urlsplit(url.removeprefix(self.tab.target.url)).path

    def _dialog(self, dialog: Dialog) -> None:
        self.noted.append(f"a dialogue: {dialog.message}")
        dialog.dismiss()

    def _frame(self, frame: Frame) -> None:
        if not _OWN.fullmatch(self._path(frame.url)) or not frame.url.startswith(self.tab.target.url):
            self.noted.append(f"a frame went to {frame.url}")

    def found(self) -> list[str]:
        """Return what was noticed since the last time, in the page as it stands too; forget it."""
        self.noted += self.tab.run(_LOOK)
        self.noted += [f"the console: {line}" for line in self.tab.complaints() if not _MEASURES.match(line)]
        found, self.noted[:] = list(self.noted), []
        # A profile's end would say it again, without the payload.
        requests = self.tab.profile.requests
        requests[:] = [one for one in requests if self.tab.target.is_own(one.url)]
        return found


def numbered(text: str, number: int) -> str:
    """Return a payload that says which one it is."""
    return text.replace("broken_in=1", f"broken_in={number}").replace(EVIL, f"n{number}.{EVIL}")


def everything() -> Iterator[tuple[int, str, str]]:
    """Go through all payloads: number, kind, text."""
    number = 0
    for kind, texts in PAYLOADS.items():
        for text in texts:
            number += 1
            yield number, kind, numbered(text, number)


def some(per_kind: int) -> list[str]:
    """Return the first payloads of each kind, numbered."""
    taken: dict[str, int] = {}
    found = []
    for _, kind, text in everything():
        taken[kind] = taken.get(kind, 0) + 1
        if taken[kind] <= per_kind:
            found.append(text)
    return found


def of_kind(kind: str) -> list[str]:
    """Return all payloads of a kind, numbered."""
    return [text for _, one, text in everything() if one == kind]


def batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut a list into parts of at most so many."""
    for at in range(0, len(texts), size):
        yield texts[at : at + size]


def flags(log: Path) -> tuple[str, str]:
    """Return Chromium's flags for a log of its network, from which no payload's host can be reached."""
    return f"--log-net-log={log}", f"--host-resolver-rules=MAP *.{EVIL} 127.0.0.9"


def asked_of_network(log: Path) -> set[str]:
    """Return the hosts of `evil.example` in a log of Chromium's network: lookups and connections too."""
    text = log.read_text(encoding="utf-8", errors="replace")
    # The address of a page may have a payload in it: a host stands at the beginning of a value.
    return set(re.findall(rf'"(?:\w+://)?([\w.-]*{re.escape(EVIL)})', text))


def events(*deltas: dict[str, Any]) -> str:
    """Return a stream of events with these pieces of an answer, as the API sends it."""
    ends: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": one}]} for one in deltas]
    ends.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return "".join(f"data: {json.dumps(one)}\n\n" for one in ends) + "data: [DONE]\n\n"
