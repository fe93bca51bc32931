"""Attacks and mishaps of sign-in on a real OpenID provider, with real cookies and a real gunicorn.

Those that need a provider that lies are in tests/unit/web: this one tells the truth.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from flask import Flask

from sluice.web import app as web_app
from sluice.web.database.tables import Database
from sluice.web.settings.config import WebConfig, load
from tests.browser.loopback import Site
from tests.integration.web.visitor import Visitor, ask_authority

pytestmark = pytest.mark.integration


def tell(site: Site, token: str) -> requests.Response:
    """Send a logout token, as anybody may."""
    url = f"{site.url}/auth/backchannel-logout"
    return requests.post(url, data={"logout_token": token}, verify=str(site.ca_file), timeout=60)


def test_signing_out_at_the_provider_ends_the_sign_in_here_back_channel(site: Site, alice: Visitor) -> None:
    """The browser never comes back: the provider itself tells, and its page bearers end too."""
    elsewhere = Visitor(site)
    elsewhere.sign_in("alice", site.accounts["alice"])
    bearer = alice.post("/page-bearer").json()["bearer"]
    assert ask_authority(site, bearer)[0] == 200
    confirm = alice.http.get(f"{site.issuer}/session/end", timeout=60)
    action = re.search(r'action="([^"]+)"', confirm.text)
    xsrf = re.search(r'name="xsrf" value="([^"]+)"', confirm.text)
    assert action, confirm.text
    assert xsrf
    alice.http.post(action[1], data={"xsrf": xsrf[1], "logout": "yes"}, timeout=60)
    assert not alice.is_signed_in()
    assert ask_authority(site, bearer)[0] == 404
    assert elsewhere.is_signed_in()
    assert "back-channel logout failed" not in (site.folder / "idp.log").read_text()


def test_an_id_token_is_no_logout_token(site: Site, alice: Visitor) -> None:
    answer = tell(site, alice.kept()["person"]["id_token"])
    assert answer.status_code == 400
    assert "events" in answer.json()["error_description"]
    assert alice.is_signed_in()


def test_signing_out_everywhere_ends_each_browser(site: Site, alice: Visitor) -> None:
    elsewhere = Visitor(site)
    elsewhere.sign_in("alice", site.accounts["alice"])
    assert alice.post("/auth/sign-out-everywhere").url.startswith(site.issuer)
    assert not alice.is_signed_in()
    assert not elsewhere.is_signed_in()


def test_rotated_signing_keys_do_not_keep_anybody_out(site: Site, alice: Visitor) -> None:
    def keys() -> str:
        return requests.get(f"{site.issuer}/jwks", verify=str(site.ca_file), timeout=60).text

    before = keys()
    site.processes["idp"].send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while keys() == before:
        assert time.monotonic() < deadline, "the provider goes on with its old key"
        time.sleep(0.05)
    newcomer = Visitor(site)
    newcomer.sign_in("bob", site.accounts["bob"])
    assert newcomer.is_signed_in()
    assert alice.is_signed_in()


def test_who_refuses_to_sign_in_is_told_what_happened(site: Site, visitor: Visitor) -> None:
    form = visitor.get("/auth/login")
    page = visitor.http.post(form.url, data={"refuse": "yes"}, timeout=60)
    assert page.url.startswith(f"{site.url}/auth/authorize")
    assert page.status_code == 403
    assert "did not agree to tell this service who you are" in page.text
    assert not visitor.is_signed_in()


def test_somebody_of_another_group_is_told_so(site: Site, visitor: Visitor) -> None:
    page = visitor.sign_in("carol", site.accounts["carol"])
    assert page.status_code == 403
    assert "none of your groups may use this service" in page.text
    assert not visitor.is_signed_in()


def test_groups_give_role_and_projects(site: Site, visitor: Visitor) -> None:
    visitor.sign_in("bob", site.accounts["bob"])
    page = visitor.get("/auth/account").text
    assert "Administrator" in page
    assert "climate" in page


def test_replayed_code_at_a_real_provider(site: Site, visitor: Visitor) -> None:
    answer = visitor.until_the_answer("alice", site.accounts["alice"])
    first = visitor.http.get(answer, allow_redirects=False, timeout=60)
    assert first.status_code == 302
    again = visitor.http.get(answer, allow_redirects=False, timeout=60)
    assert (again.status_code, again.headers["Location"]) == (302, "/"), (
        "it is signed in: nothing is redeemed"
    )
    visitor.post("/auth/sign-out")
    assert visitor.http.get(answer, timeout=60).status_code == 401
    mallory = Visitor(site)
    state = mallory.begin()["state"]
    stolen = re.sub(r"state=[^&]+", f"state={state}", answer)
    assert stolen != answer
    assert mallory.http.get(stolen, timeout=60).status_code == 401
    assert not mallory.is_signed_in()


def test_a_stolen_code_is_worth_nothing_without_the_verifier_pkce(site: Site, visitor: Visitor) -> None:
    """The code was never used; it was stolen on the way back, and belongs to another browser's question."""
    answer = visitor.until_the_answer("alice", site.accounts["alice"])
    mallory = Visitor(site)
    stolen = re.sub(r"state=[^&]+", f"state={mallory.begin()['state']}", answer)
    assert mallory.http.get(stolen, timeout=60).status_code == 401
    assert not mallory.is_signed_in()


def test_forged_state_at_a_real_provider(site: Site, visitor: Visitor) -> None:
    answer = visitor.until_the_answer("alice", site.accounts["alice"])
    for forged in ("made-up", "", Visitor(site).begin()["state"]):
        page = visitor.http.get(re.sub(r"state=[^&]+", f"state={forged}", answer), timeout=60)
        assert page.status_code == 401
    assert not visitor.is_signed_in()
    assert visitor.http.get(answer, timeout=60).status_code == 200
    assert visitor.is_signed_in()


def test_mixed_up_issuer_at_a_real_provider(site: Site) -> None:
    for issuer in ("https%3A%2F%2Fevil.example", None):
        visitor = Visitor(site)
        answer = visitor.until_the_answer("alice", site.accounts["alice"])
        forged = re.sub(r"&iss=[^&]+", f"&iss={issuer}" if issuer else "", answer)
        assert forged != answer
        page = visitor.http.get(forged, timeout=60)
        assert page.status_code == 401
        assert "came from another sign-in service" in page.text
        assert not visitor.is_signed_in()


def test_the_cookie_is_as_it_should_be_through_the_front(site: Site, alice: Visitor) -> None:
    (found,) = [cookie for cookie in alice.http.cookies if cookie.name == "__Host-sluice"]
    assert (found.secure, found.path, found.domain_initial_dot) == (True, "/", False)
    assert found.has_nonstandard_attr("HttpOnly")
    assert found.get_nonstandard_attr("SameSite") == "Lax"


def test_a_cookie_is_worth_nothing_at_the_api(site: Site, alice: Visitor) -> None:
    assert alice.http.get(f"{site.url}/v1/models", timeout=60).status_code == 401
    headers = {"Authorization": f"Bearer {alice.session_id()}"}
    assert alice.http.get(f"{site.url}/v1/models", headers=headers, timeout=60).status_code == 401


@pytest.fixture
def second_app(site: Site, tmp_path: Path) -> Iterator[Flask]:
    """Another web of the same site, registered as a client that sends its secret in the form."""
    document = json.loads(site.web_config.read_text())
    document["oidc"] |= {"client_id": "sluice-post", "token_auth": "client_secret_post"}
    document |= {"database": f"sqlite:///{tmp_path / 'sluice.db'}", "session_dir": str(tmp_path / "sessions")}
    path = tmp_path / "web.json"
    path.write_text(json.dumps(document))
    settings: WebConfig = load(path)
    database = Database(settings.database)
    database.create()
    database.close()
    app = web_app.create_app(settings)
    yield app
    app.extensions["sluice"].database.close()


def test_a_client_that_sends_its_secret_in_the_form_is_taken_too(
    site: Site, visitor: Visitor, second_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The site's own client sends it in the header: every other test here."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    client = second_app.test_client()
    question = client.get("/auth/login", base_url=site.url).location
    assert "client_id=sluice-post" in question
    form = visitor.http.get(question, timeout=60)
    data = {"login": "alice", "password": site.accounts["alice"]}
    answer = visitor.http.post(form.url, data=data, timeout=60)
    # The site itself did not ask, and refuses; the code is still unused.
    assert answer.status_code == 401
    assert client.get(answer.url.removeprefix(site.url), base_url=site.url).status_code == 302
    assert "Alice" in client.get("/auth/account", base_url=site.url).text


def test_no_log_tells_of_a_token_a_code_or_a_state(site: Site, visitor: Visitor) -> None:
    answer = visitor.until_the_answer("alice", site.accounts["alice"])
    visitor.http.get(answer.replace("state=", "state=x"), timeout=60)
    visitor.http.get(answer, timeout=60)
    log = (site.folder / "web.log").read_text()
    for secret in re.findall(r"(?:code|state)=([^&]+)", answer):
        assert secret not in log
    assert "eyJ" not in log
    assert "Traceback" not in log, log[-3000:]
    assert (site.folder / "sessions").stat().st_mode & 0o077 == 0
