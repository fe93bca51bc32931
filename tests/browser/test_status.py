"""The status page on the site on this machine."""

from __future__ import annotations

import json

from playwright.sync_api import Route, expect

from tests.browser.marks import ON_STUB
from tests.browser.tab import Tab

pytestmark = ON_STUB


def test_everybody_sees_the_models_their_state_and_the_expected_wait(alice: Tab) -> None:
    alice.find('.bar a[href="/status"]').click()
    rows = alice.page.locator("#models tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("ready")
    expect(rows.nth(0)).to_contain_text("2,048 tokens")
    expect(rows.nth(1)).to_contain_text("asleep: starts when you ask")
    expect(rows.nth(2)).to_contain_text("starting, ready in about 2 min")
    expect(alice.find("#models-note")).to_have_text("3 models are there for you.")
    assert alice.complaints() == []


def test_a_change_of_state_is_shown_and_announced(alice: Tab) -> None:
    status = "starting"

    def models(route: Route) -> None:
        model = {"id": "m <b>x</b>", "status": status, "capabilities": ["chat", "new_one"]}
        route.fulfill(content_type="application/json", body=json.dumps({"data": [model]}))

    alice.page.route("**/v1/models", models)
    alice.open("/status")
    row = alice.find('tr[data-model="m <b>x</b>"]')
    expect(row).to_contain_text("m <b>x</b>")
    expect(row).to_contain_text("chat, new_one")
    status = "ready"
    alice.run("document.dispatchEvent(new Event('visibilitychange'))")
    expect(row.locator(".state")).to_have_text("ready")
    expect(alice.page.locator("#models-said")).to_have_text("m <b>x</b>: ready.")


def test_without_the_proxy_the_page_says_that_the_state_is_unknown(alice: Tab) -> None:
    alice.page.route("**/v1/models", lambda route: route.abort())
    alice.open("/status")
    expect(alice.find("#models-note")).to_have_text("The models' state is unknown at the moment")
