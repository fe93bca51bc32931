"""No text of others runs a script, asks another host or leads the page away: watched in a real browser.

The payloads are in page/test/payloads.json, by kind. Each is a question and an answer here, and those of each
kind stand wherever the page shows what others wrote. tests/browser/watching.py says what is watched; the log
of Chromium's network has the lookups and connections that no event of a page tells of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Error, Route, StorageState, expect

from tests.browser import attaching, samples, stored
from tests.browser.chromium import Target, started
from tests.browser.marks import ON_STUB
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab
from tests.browser.watching import (
    EVIL,
    PAYLOADS,
    Watch,
    asked_of_network,
    batches,
    events,
    flags,
    of_kind,
    some,
)

pytestmark = ON_STUB

# The page shows so many messages of a conversation at first: half of them are answers.
AT_ONCE = 20
POLLUTION = {"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}}


@pytest.fixture(scope="module")
def network(chromium: Browser, target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium that logs its network; when it has ended, no host of a payload may be in its log."""
    log = tmp_path_factory.mktemp("network") / "net.json"
    browser = started(chromium.browser_type, target.pins(), *flags(log))
    yield browser
    browser.close()
    assert log.stat().st_size > 10_000
    assert asked_of_network(log) == set(), "hosts that were looked up, connected to or asked"


@pytest.fixture
def watched(network: Browser, target: Target, signed_in: dict[str, StorageState]) -> Iterator[Watch]:
    """A tab of alice, watched."""
    profiles = Profiles(network, target, None, signed_in)
    tab = profiles("alice")
    tab.wait_for_models()
    yield Watch(tab)
    profiles.end(failed=False)


def settled(tab: Tab) -> None:
    """Wait until all of a conversation is drawn."""
    tab.wait(
        lambda: tab.run(
            """
            const count = (selector) => document.querySelectorAll(selector).length;
            return !count(".part:empty, .piece:empty, .formula:empty")
              && count(".diagram img, .diagram .fault") === count(".diagram");
            """
        ),
        120,
    )


def show(tab: Tab, payloads: Sequence[str]) -> None:
    """Show each of these as a question, and as the answer to it."""
    tab.open(stored.put(tab, *[text for one in payloads for text in (one, one)], title=payloads[0]))
    expect(tab.page.locator(".message.assistant")).to_have_count(len(payloads))
    for fold in tab.page.locator(".reasoning summary").all():
        fold.click()
    settled(tab)


def test_no_question_and_no_answer_does_anything(watched: Watch) -> None:
    did: dict[str, list[str]] = {}
    for kind in PAYLOADS:
        for batch in batches(of_kind(kind), AT_ONCE):
            show(watched.tab, batch)
            together = watched.found()
            if not together:
                continue
            # Which of them it was: each by itself.
            before = len(did)
            for one in batch:
                show(watched.tab, [one])
                if found := watched.found():
                    did[one] = found
            if len(did) == before:
                did[f"some of {kind}"] = together
    assert did == {}


def test_no_answer_does_anything_while_it_comes(watched: Watch) -> None:
    """All of a kind in one answer, in pieces, and as what the model thinks."""
    tab = watched.tab
    bodies: list[str] = []
    tab.page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(body=bodies[-1], content_type="text/event-stream"),
    )
    for kind in PAYLOADS:
        text = "\n\n".join(of_kind(kind))
        pieces = [text[at : at + 40] for at in range(0, len(text), 40)]
        thoughts: list[dict[str, Any]] = [{"reasoning_content": one} for one in pieces]
        bodies.append(events(*thoughts, *({"content": one} for one in pieces)))
        tab.find("#new-chat").click()
        tab.ask(f"show {kind}")
        tab.finished_answer()
        tab.find(".reasoning summary").click()
        settled(tab)
        assert (kind, watched.found()) == (kind, [])


# --- Imports ---------------------------------------------------------------------------------------------


def _own(text: str, at: int) -> dict[str, Any]:
    ends = {"created": at, "model": text, "state": "done"}
    file = {"id": f"f{at}", "name": text, "kind": "text", "size": 1, "type": text}
    said = [
        {"id": f"q{at}", "parent": "", "role": "user", "content": text, "attachments": [file], **ends},
        {"id": f"a{at}", "parent": f"q{at}", "role": "assistant", "content": text, **ends,
         "reasoning": {"text": text, "milliseconds": 1}},
    ]  # fmt: skip
    return {
        "id": f"own-{at}",
        "title": text,
        "created": at,
        "updated": at,
        "model": text,
        "leaf": f"a{at}",
        "folder": text,
        "settings": {"system": text, "persona": text},
        "messages": said,
        "attachments": [{**file, "pages": [{"name": text, "text": text}]}],
    }


def _chatgpt(text: str, at: int) -> dict[str, Any]:
    def node(name: str, role: str, parent: str | None, children: list[str]) -> dict[str, Any]:
        content = {"content_type": "text", "parts": [text]}
        metadata = {"attachments": [{"name": text, "mime_type": text}], "model_slug": text}
        message = {"id": f"{name}{at}", "author": {"role": role}, "content": content, "metadata": metadata}
        return {"id": name, "parent": parent, "children": children, "message": message}

    nodes = {"q": node("q", "user", None, ["a"]), "a": node("a", "assistant", "q", [])}
    return {"title": text, "id": f"gpt-{at}", "mapping": nodes, "current_node": "a"}


def _openwebui(text: str, at: int) -> dict[str, Any]:
    said = [{"role": role, "content": text, "model": text} for role in ("user", "assistant")]
    chat = {"title": text, "models": [text], "params": {"system": text}, "messages": said}
    return {"id": f"web-{at}", "title": text, "chat": chat}


def _chatai(text: str, at: int) -> dict[str, Any]:
    said = [{"role": role, "content": text} for role in ("system", "user", "assistant")]
    return {"id": f"ai-{at}", "title": text, "model": text, "messages": said}


def polluted(value: Any) -> Any:
    """Return what an import holds, with keys in each object that would change all objects."""
    if isinstance(value, list):
        return [polluted(one) for one in value]
    if isinstance(value, dict):
        return {**{key: polluted(one) for key, one in value.items()}, **POLLUTION}
    return value


FORMATS = {"own": _own, "chatgpt": _chatgpt, "openwebui": _openwebui, "chatai": _chatai}


@pytest.mark.parametrize("form", FORMATS)
def test_no_import_does_anything(watched: Watch, form: str) -> None:
    """Titles, folders, names of files and models, and keys that would change all objects."""
    tab = watched.tab
    texts = some(2)
    rows: Any = [FORMATS[form](text, at + 1) for at, text in enumerate(texts)]
    if form in ("own", "chatai"):
        rows = {"format": "sluice-conversations", "version": 1, "conversations": rows}
        if form == "chatai":
            del rows["format"]
    document = json.dumps(polluted(rows))
    tab.find("#data-open").click()
    name = f"{texts[0]}.json"
    file = {"name": name, "mimeType": "application/json", "buffer": document.encode()}
    tab.find("#import").set_input_files(file)  # type: ignore[arg-type]
    expect(tab.find("#import-report")).to_contain_text(f"New conversations: {len(texts)}.")
    tab.find("#data-close").click()
    for fold in tab.page.locator("#conversations summary").all():
        fold.click()
    tab.wait(lambda: tab.count("a.conversation") == len(texts))
    assert watched.found() == []
    for link in tab.page.locator("a.conversation").all()[::6]:
        link.click()
        tab.find(".message.assistant")
        settled(tab)
        for chip in tab.page.locator(".message .chip button").all()[:1]:
            chip.click()
            tab.find("dialog")
            tab.press("Escape")
        assert watched.found() == []
    tab.find("#search").fill("broken_in")
    tab.wait(lambda: tab.sees(".conversation .place"))
    assert watched.found() == []


# --- Other places ----------------------------------------------------------------------------------------


def test_no_persona_and_no_prompt_does_anything(watched: Watch) -> None:
    tab = watched.tab
    texts = some(2)
    personas = [{"name": one, "description": one, "settings": {"system": one}} for one in texts]
    prompts = [{"name": one, "text": one} for one in texts]
    document = {"format": "sluice-personas", "version": 1, "personas": personas, "prompts": prompts}
    given = json.dumps(document)[:-1] + ', "__proto__": {"polluted": 1}}'
    tab.find("#settings-open").click()
    tab.page.locator("summary", has_text="Your personas").click()
    file = {"name": "p.json", "mimeType": "application/json", "buffer": given.encode()}
    tab.page.locator("#panel input[type=file]").first.set_input_files(file)  # type: ignore[arg-type]
    expect(tab.find("#panel")).to_contain_text("Added: ")
    assert watched.found() == []
    tab.find("#persona").select_option(index=3)
    tab.press("Escape")
    tab.find("#input").press_sequentially("/")
    tab.find("#slash")
    tab.press("ArrowDown", "Enter")
    tab.wait(lambda: tab.find("#input").input_value() != "/")
    assert watched.found() == []


def test_no_link_with_settings_does_anything(watched: Watch) -> None:
    tab = watched.tab
    texts = some(1)
    said = [f"system={quote(text)}" for text in texts[::2]]
    for text in texts[:2]:
        said += [text, f"model={quote(text)}", f"__proto__={quote(text)}"]
    for one in said:
        # Another part of an address loads no page by itself.
        tab.page.goto("about:blank")
        watched.noted.clear()
        tab.open(f"/#settings?{one}")
        tab.find("#linked")
        assert (one, watched.found()) == (one, [])
        if tab.sees("#linked-use"):
            tab.find("#linked-use").click()
            tab.gone("#linked")
            assert (one, watched.found()) == (one, [])


def test_no_file_does_anything(watched: Watch) -> None:
    """Its name and what stands in it, in the composer, in the view of what is sent, and in the question."""
    tab = watched.tab
    texts = [one for one in some(1) if "\0" not in one]
    files = {f"{text[:150]}.txt": text.encode() for text in texts[:8]}
    files["page.html"] = f"<script>parent.broken_in=1</script><img src=https://{EVIL}/i.png>".encode()
    handler = f"onload='broken_in=1'><image href='https://{EVIL}/i.png'/>"
    files["a.svg"] = f"<svg xmlns='http://www.w3.org/2000/svg' {handler}</svg>".encode()
    files["b.docx"] = samples.word(f"&lt;img src=https://{EVIL}/i.png onerror=broken_in=1&gt;")
    files["c.pdf"] = samples.pdf("text", trailer=f"/OpenAction<</S/URI/URI(https://{EVIL}/a)>>")
    attaching.paste(tab, files)
    tab.wait(lambda: not tab.sees('#tray .chip[data-state="reading"], #tray progress'))
    tab.wait(lambda: tab.count("#tray .chip") == len(files))
    tab.wait(lambda: tab.count('#tray .chip[data-state="ready"]') >= len(files) - 2)
    assert watched.found() == []
    tab.page.locator("#tray .chip-name").first.click()
    tab.find("dialog")
    assert watched.found() == []
    tab.press("Escape")
    tab.page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(body=events({"content": "read"}), content_type="text/event-stream"),
    )
    tab.ask(texts[0])
    tab.finished_answer()
    assert watched.found() == []


def test_nothing_that_the_service_says_does_anything(watched: Watch) -> None:
    """Names and states of models, and errors: of a gateway that somebody has broken into."""
    tab = watched.tab
    texts = some(1)
    models = [{"id": one, "name": one, "status": one, "owned_by": one, "context_length": 1} for one in texts]
    # Its own has a state that means something.
    models.append({"id": "smollm2-135m", "status": "ready", "context_length": 2_048})
    tab.page.route("**/v1/models", lambda route: route.fulfill(json={"object": "list", "data": models}))
    tab.reload()
    tab.find("#model:enabled").click()
    tab.find("#model-list [data-model]")
    assert watched.found() == []
    tab.press("Escape")
    said: list[str] = []

    def refuse(route: Route) -> None:
        text = said[-1]
        error = {"message": text, "code": text, "param": text, "request_id": text, "type": text}
        route.fulfill(body=f"data: {json.dumps({'error': error})}\n\n", content_type="text/event-stream")

    tab.page.route("**/v1/chat/completions", refuse)
    for text in texts:
        said.append(text)
        tab.find("#new-chat").click()
        tab.ask("hello")
        tab.find(".problem")
        assert (text, watched.found()) == (text, [])


# --- The watch itself ------------------------------------------------------------------------------------


def test_the_watch_sees_what_is_tried(
    chromium: Browser, target: Target, signed_in: dict[str, StorageState], tmp_path: Path
) -> None:
    """A watch that cannot see proves nothing."""
    log = tmp_path / "net.json"
    browser = started(chromium.browser_type, target.pins(), *flags(log))
    profiles = Profiles(browser, target, None, signed_in)
    tab = profiles("alice")
    tab.wait_for_models()
    watch = Watch(tab)
    tab.reload()
    tab.find("#model:enabled")
    tried = {
        "a script ran: 7": "broken_in = 7",
        "the policy stopped img-src": f"new Image().src = 'https://n8.{EVIL}/i.png'",
        "another host was asked": f"new Image().src = 'https://n8.{EVIL}/j.png'",
        "an element: <link": f"const one = document.createElement('link'); one.rel = 'dns-prefetch';"
        f"one.href = 'https://n9.{EVIL}/'; document.querySelector('#app').append(one)",
        "an attribute: ping": "document.querySelector('#app').setAttribute('ping', '/a')",
        "a window was opened": "open('about:blank')",
        "a dialogue: hello": "alert('hello')",
        "the policy stopped require-trusted-types-for": "try { document.body.setAttribute('onclick', '1'); }"
        " catch { /* It is stopped. */ }",
        "a link: javascript:": "const one = document.createElement('a'); one.href = 'javascript:1';"
        "document.querySelector('#app').append(one)",
        "all objects have a field": "Object.prototype.polluted = 1",
    }
    for expected, script in tried.items():
        tab.run(script)
        found: list[str] = []

        def seen(found: list[str] = found, expected: str = expected) -> bool:
            found += watch.found()
            return any(expected in one for one in found)

        tab.wait(seen)
    profiles.end(failed=False)
    with pytest.raises(Error, match="ERR_CONNECTION_REFUSED"):
        browser.new_page().goto(f"http://n10.{EVIL}/")
    browser.close()
    assert f"n10.{EVIL}" in asked_of_network(log)
