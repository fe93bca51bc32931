"""Sign-in, keys and the authority with a real OpenID provider and real gunicorn, without a browser."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest
import requests
from cachelib.file import FileSystemCache
from sqlalchemy import select

from sluice.web.database.tables import Database, User
from tests.browser.loopback import ROOT, Site
from tests.felt import Stopwatch
from tests.integration.web.visitor import Visitor, ask_authority

pytestmark = pytest.mark.integration

_KEY = re.compile(r"sk-sluice-[A-Za-z0-9_-]{43}-[0-9a-f]{8}")


def test_a_person_signs_in_and_lands_where_they_wanted_with_a_new_session(
    site: Site, visitor: Visitor
) -> None:
    visitor.get("/auth/login")
    before = visitor.session_id()
    page = visitor.sign_in("alice", site.accounts["alice"], "/keys")
    assert page.url == f"{site.url}/keys"
    assert 'title="Alice"' in page.text
    assert before is not None
    assert visitor.session_id() not in (None, before)


def test_a_wrong_password_signs_nobody_in(visitor: Visitor) -> None:
    answer = visitor.sign_in("alice", "wrong")
    assert answer.status_code == 401
    assert 'id="sign-in"' in visitor.get("/").text


def test_a_key_is_shown_once_works_and_ends_when_revoked(site: Site, alice: Visitor) -> None:
    page = alice.post("/keys", name="notebook")
    assert page.status_code == 200
    key = _KEY.search(page.text)
    assert key
    assert _KEY.search(alice.get("/keys").text) is None
    status, principal = ask_authority(site, key[0])
    assert status == 200
    assert principal["groups"] == ["users"]
    assert re.fullmatch(r"u-[0-9a-f]{16}", principal["user"])
    assert alice.post(f"/keys/{principal['key_id']}/revoke").status_code == 200
    assert ask_authority(site, key[0]) == (404, None)


def test_groups_come_from_the_provider(site: Site, visitor: Visitor) -> None:
    visitor.sign_in("bob", site.accounts["bob"])
    bearer = visitor.post("/page-bearer").json()["bearer"]
    _, principal = ask_authority(site, bearer)
    assert principal["groups"] == ["users", "admins"]
    assert principal["class"] == "interactive"


def test_signing_out_ends_the_session_at_the_provider_too_and_the_page_bearer(
    site: Site, alice: Visitor
) -> None:
    bearer = alice.post("/page-bearer").json()["bearer"]
    assert ask_authority(site, bearer)[0] == 200
    confirm = alice.post("/auth/sign-out")
    assert confirm.url.startswith(site.issuer)
    xsrf = re.search(r'name="xsrf" value="([^"]+)"', confirm.text)
    action = re.search(r'action="([^"]+)"', confirm.text)
    assert xsrf, confirm.text
    assert action
    done = alice.http.post(action[1], data={"xsrf": xsrf[1], "logout": "yes"}, timeout=60)
    assert done.url.startswith(f"{site.url}/auth/signed-out")
    assert "You are signed out" in done.text
    assert ask_authority(site, bearer)[0] == 404
    assert alice.get("/auth/login").url.startswith(f"{site.issuer}/interaction/")


def test_the_command_line_makes_lists_and_revokes_a_service_accounts_key(site: Site) -> None:
    def keys(*arguments: str) -> str:
        command = "import sys; from sluice.cli import main; sys.exit(main())"
        argv = [sys.executable, "-c", command, "keys", *arguments]
        argv += ["--user", "robot", "--config", str(site.web_config)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "files" / "sluice" / "src")}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    key = keys("create", "--groups", "users,staff", "--name", "nightly")
    status, principal = ask_authority(site, key)
    assert (status, principal["groups"]) == (200, ["users", "staff"])
    assert principal["key_id"] in keys("list")
    keys("revoke", "--key-id", principal["key_id"])
    assert ask_authority(site, key) == (404, None)


def test_metrics_are_on_the_loopback_port_and_nothing_else_is(site: Site, alice: Visitor) -> None:
    def at(port: int, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=10)

    figures = at(site.web_metrics, "/metrics").text
    assert 'sluice_web_sign_ins_total{outcome="success"}' in figures
    assert "sluice_authority_questions_total" in at(site.authority_metrics, "/metrics").text
    assert alice.get("/metrics").status_code == 404
    for port in (site.web_metrics, site.authority_metrics):
        for path in ("/", "/health", "/keys", "/v1/principal"):
            assert at(port, path).status_code == 404


def test_the_sockets_are_not_open_to_everybody(site: Site) -> None:
    assert stat.S_IMODE(site.authority_socket.stat().st_mode) == 0o660
    assert stat.S_IMODE((site.folder / "web" / "http.sock").stat().st_mode) == 0o660


def test_no_log_holds_a_key_a_token_or_a_code(site: Site, alice: Visitor) -> None:
    key = _KEY.search(alice.post("/keys", name="looked for").text)
    assert key
    for name in ("web", "authority"):
        log = (site.folder / f"{name}.log").read_text()
        assert key[0] not in log
        assert "eyJ" not in log
        assert "code=" not in log


def test_the_provider_is_asked_again_once_in_a_while_and_its_new_word_counts(
    site: Site, alice: Visitor
) -> None:
    bearer = alice.post("/page-bearer").json()["bearer"]
    sessions = FileSystemCache(str(site.folder / "sessions"), threshold=0, mode=0o600)
    name = f"session:{alice.session_id()}"
    kept = sessions.get(name)
    assert kept
    kept["person"]["checked"] = 0.0
    sessions.set(name, kept, timeout=600)
    database = Database(f"sqlite:///{site.folder / 'sluice.db'}")
    with database.write() as session:
        for user in session.scalars(select(User)):
            user.groups = ["users", "as-it-was-long-ago"]
    database.close()
    assert alice.get("/keys").status_code == 200
    asked = sessions.get(name)["person"]
    assert "as-it-was-long-ago" not in alice.get("/auth/account").text
    assert asked["checked"] > 0
    assert (asked["csrf"], asked["tag"]) == (kept["person"]["csrf"], kept["person"]["tag"])
    assert ask_authority(site, bearer)[0] == 200


def test_a_session_that_the_provider_no_longer_knows_ends_here_too(site: Site, alice: Visitor) -> None:
    sessions = FileSystemCache(str(site.folder / "sessions"), threshold=0, mode=0o600)
    name = f"session:{alice.session_id()}"
    kept = sessions.get(name)
    kept["person"].update(checked=0.0, refresh_token="never-given", tag="another")
    sessions.set(name, kept, timeout=600)
    assert 'id="sign-in"' in alice.get("/").text
    assert "never-given" not in (site.folder / "web.log").read_text()


@pytest.mark.parametrize("length", [4_000, 7_900])
def test_an_answer_with_a_long_code_is_read(site: Site, visitor: Visitor, length: int) -> None:
    asked = visitor.begin()
    query = f"state={asked['state']}&iss={quote(site.issuer)}&code="
    answer = visitor.get(f"/auth/authorize?{query}{'c' * (length - len(query))}")
    # The provider did not give that code, and says so: it got to read it.
    assert answer.status_code == 401
    assert "Sign-in did not succeed" in answer.text
    assert "Request-URI" not in answer.text


def test_two_tabs_sign_in_at_once(site: Site, visitor: Visitor) -> None:
    first = visitor.until_the_answer("alice", site.accounts["alice"])
    begun = visitor.http.get(f"{site.url}/auth/login?next=/usage", allow_redirects=False, timeout=60)
    assert visitor.http.get(first, timeout=60).status_code == 200
    done = visitor.http.get(begun.headers["Location"], timeout=60)
    assert (done.status_code, done.url) == (200, f"{site.url}/usage")
    assert visitor.is_signed_in()


def test_a_refresh_token_that_serves_once_is_kept_for_the_next_time(site: Site, alice: Visitor) -> None:
    """This provider's access tokens live 20 s, and a refresh token shown twice ends all of them."""
    sessions = FileSystemCache(str(site.folder / "sessions"), threshold=0, mode=0o600)
    name = f"session:{alice.session_id()}"
    kept = sessions.get(name)
    before = kept["person"]["refresh_token"]
    assert before
    kept["person"]["checked"] = 0.0
    sessions.set(name, kept, timeout=600)
    assert alice.is_signed_in()
    after = sessions.get(name)["person"]
    assert after["checked"] > 0
    assert after["refresh_token"] not in ("", before)
    # The provider takes the new one: it was not redeemed on the way.
    document = json.loads((site.folder / "idp.json").read_text())
    answer = requests.post(
        f"{site.issuer}/token",
        data={"grant_type": "refresh_token", "refresh_token": after["refresh_token"]},
        headers={"Authorization": basic("sluice", document["clients"][0]["secret"])},
        verify=str(site.ca_file),
        timeout=60,
    )
    assert answer.status_code == 200, answer.text


def basic(name: str, secret: str) -> str:
    """Return credentials as RFC 6749 (2.3.1) writes them."""
    pair = f"{quote_plus(name)}:{quote_plus(secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def test_while_another_program_holds_the_database_pages_go_on_and_forms_say_so(
    site: Site, alice: Visitor
) -> None:
    """What gunicorn sends: once it was its own bare page, after three waits of five seconds."""
    other = sqlite3.connect(site.folder / "sluice.db", isolation_level=None, timeout=60)
    other.execute("BEGIN IMMEDIATE")
    try:
        with Stopwatch() as felt:
            answer = alice.post("/keys", name="locked out")
        assert felt.seconds < 10
        assert answer.status_code == 503
        assert "cannot reach what it has stored" in answer.text
        assert alice.get("/usage").status_code == 200
        assert ask_authority(site, "sk-sluice-unknown") == (404, None)
    finally:
        other.close()
    assert alice.post("/keys", name="let in").status_code == 200
