"""A site below a path of its host: everything that pages name, remember and redirect to is below it."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sluice.web.settings.config import Access, WebConfig
from tests.unit.web.issuer import Issuer
from tests.unit.web.visitor import ISSUER, PUBLIC_URL

SITE = f"{PUBLIC_URL}/ai"
PAGES = (
    "/",
    "/keys",
    "/usage",
    "/auth/account",
    "/auth/signed-out",
    "/nothing",
    "/admin",
    "/admin/users",
    "/admin/limits",
    "/admin/models",
    "/admin/announcements",
    "/admin/audit",
)


@pytest.fixture(params=[f"{SITE}", f"{SITE}/"])
def settings(settings: WebConfig, request: pytest.FixtureRequest) -> WebConfig:
    """A site whose public URL has a path, with and without a slash at its end."""
    return dataclasses.replace(settings, public_url=request.param, access=Access(admins=("users",)))


def get(client: FlaskClient, path: str, **query: str) -> TestResponse:
    """Load a page, as nginx asks for it: without the prefix. The browser's cookies go by the whole path."""
    return client.get(path, base_url=SITE, query_string=query)


def post(client: FlaskClient, path: str, **fields: str) -> TestResponse:
    headers = {"Sec-Fetch-Site": "same-origin"}
    return client.post(path, base_url=SITE, headers=headers, data=fields)


def sign_in(client: FlaskClient, issuer: Issuer, back: str = "/ai/") -> TestResponse:
    asked = parse_qs(urlsplit(get(client, "/auth/login", next=back).location).query)
    assert asked["redirect_uri"] == [f"{SITE}/auth/authorize"]
    answer = {"code": issuer.grant(asked), "state": asked["state"][0], "iss": ISSUER}
    return get(client, "/auth/authorize", **answer)


def token(client: FlaskClient) -> str:
    found = re.search(r'data-csrf="([^"]+)"', get(client, "/").get_data(as_text=True))
    assert found
    return found[1]


def test_signing_in_leads_back_below_the_prefix(client: FlaskClient, issuer: Issuer) -> None:
    answer = sign_in(client, issuer, "/ai/keys?sort=name")
    assert answer.location == "/ai/keys?sort=name"
    cookies = answer.headers.getlist("Set-Cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == ["__Secure-sluice"]
    assert {"Secure", "HttpOnly", "Path=/ai"} <= set(cookies[0].split("; "))
    assert 'id="sign-out"' in get(client, "/").get_data(as_text=True)


def test_every_address_of_every_page_is_below_the_prefix(client: FlaskClient, issuer: Issuer) -> None:
    def addresses() -> set[str]:
        found: set[str] = set()
        for path in PAGES:
            page = get(client, path).get_data(as_text=True)
            found |= set(re.findall(r'(?:href|src|action|data-icon)="([^"#][^"]*)"', page))
            assert "<!doctype html>\n<html lang=en>" in page or 'data-prefix="/ai"' in page
        return found

    before = addresses()
    sign_in(client, issuer)
    for address in before | addresses():
        assert address.startswith("/ai/"), address
        if address.startswith("/ai/static/"):
            with get(client, address.removeprefix("/ai")) as answer:
                assert answer.status_code == 200


def test_a_page_that_needs_a_sign_in_leads_there_and_back(client: FlaskClient) -> None:
    assert get(client, "/keys").location == "/ai/auth/login?next=/ai/keys"


@pytest.mark.parametrize(
    "back",
    [
        *("/", "/keys", "/aix/keys", "/ai", "//ai/", "https://evil.example/ai/"),
        # Browsers resolve these before they ask.
        *("/ai/../other", "/ai/..", "/ai/keys/../../other", "/ai/./../other", "/ai/%2e%2e/other"),
        *("/ai/.%2E/other", "/ai/..?next=/ai/"),
    ],
)
def test_trying_to_be_led_out_of_the_prefix(client: FlaskClient, back: str) -> None:
    assert get(client, "/auth/login", next=back).status_code == 400
    assert post(client, "/language", language="de", next=back).location == "/ai/"


def test_signing_out_leads_back_below_the_prefix(client: FlaskClient, issuer: Issuer) -> None:
    sign_in(client, issuer)
    answer = post(client, "/auth/sign-out", csrf_token=token(client))
    query = parse_qs(urlsplit(answer.location).query)
    assert query["post_logout_redirect_uri"] == [f"{SITE}/auth/signed-out"]
    assert 'id="sign-out"' not in get(client, "/").get_data(as_text=True)


def test_the_language_is_remembered_below_the_prefix(client: FlaskClient) -> None:
    answer = post(client, "/language", language="ja", next="/ai/auth/signed-out")
    assert answer.location == "/ai/auth/signed-out"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Secure-sluice-language=ja; ")
    assert "Path=/ai" in cookie.split("; ")
    assert '<html lang="ja"' in get(client, "/").get_data(as_text=True)


def test_the_keys_page_names_the_api_below_the_prefix(client: FlaskClient, issuer: Issuer) -> None:
    sign_in(client, issuer)
    assert f"<code>{SITE}/v1</code>" in get(client, "/keys").get_data(as_text=True)
    made = post(client, "/keys", name="mine", csrf_token=token(client))
    # Half of the key: nobody else on the host is to have it.
    (cookie,) = [one for one in made.headers.getlist("Set-Cookie") if "sluice-new-" in one]
    assert cookie.startswith("__Secure-sluice-new-key-")
    assert "Path=/ai" in cookie.split("; ")
    path, _, which = made.location.removeprefix("/ai").partition("?new=")
    shown = get(client, path, new=which)
    assert "sk-sluice-" in shown.get_data(as_text=True)
    (gone,) = [one for one in shown.headers.getlist("Set-Cookie") if "sluice-new-" in one]
    assert {"Max-Age=0", "Path=/ai"} <= set(gone.split("; "))
    page = get(client, "/keys").get_data(as_text=True)
    key = re.search(r'href="/ai/keys/(key-[0-9a-f]+)"', page)
    assert key
    answer = post(client, f"/keys/{key[1]}/revoke", csrf_token=token(client))
    assert answer.location == "/ai/keys"
