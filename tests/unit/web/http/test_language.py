"""The language of pages: the browser's, or the one that the reader chose, before and after sign-in."""

from __future__ import annotations

import contextlib
import re

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sluice.web.database.tables import Database
from sluice.web.words.languages import LANGUAGES
from tests.unit.web.visitor import PUBLIC_URL, get, sign_in

OURS = {"Sec-Fetch-Site": "same-origin", "Origin": PUBLIC_URL}
SIGN_IN = {"en": "Sign in", "de": "Anmelden", "ja": "サインイン"}


def language_of(answer: TestResponse) -> str:
    """Return the language of a page, which its first button has too."""
    page = answer.get_data(as_text=True)
    found = re.search(r'<html lang="(\w+)">', page)
    assert found
    assert SIGN_IN[found[1]] in page
    return found[1]


def choose(client: FlaskClient, language: str, back: str = "/", **headers: str) -> TestResponse:
    """Choose a language, as the buttons below a page do."""
    data = {"language": language, "next": back}
    return client.post("/language", base_url=PUBLIC_URL, headers=OURS | headers, data=data)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("ja-JP", "ja"),
        ("fr,ja;q=0.5,de;q=0.4", "ja"),
        ("en-US,en;q=0.9,de;q=0.8", "en"),
        ("fr-FR,fr", "en"),
        ("*", "en"),
        ("de;q=0,ja;q=0.1", "ja"),
        ("\x7f;;q=x,,", "en"),
    ],
)
def test_the_browser_names_the_language(client: FlaskClient, header: str, language: str) -> None:
    assert language_of(get(client, "/", Accept_Language=header)) == language


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_choice_holds_before_sign_in_and_against_the_browser(client: FlaskClient, language: str) -> None:
    answer = choose(client, language, "/auth/signed-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/auth/signed-out")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"__Host-sluice-language={language}; ")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert language_of(get(client, "/", Accept_Language="fr,de;q=0.5")) == language


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_choice_holds_after_sign_in(client: FlaskClient, database: Database, language: str) -> None:
    choose(client, language)
    sign_in(client, database)
    for path in ("/", "/keys", "/usage", "/auth/account"):
        assert f'<html lang="{language}">' in get(client, path).get_data(as_text=True)


def test_an_unknown_language_in_the_cookie_is_ignored(client: FlaskClient) -> None:
    client.set_cookie("__Host-sluice-language", "../de", domain="sluice.example.org", secure=True)
    assert language_of(get(client, "/", Accept_Language="ja")) == "ja"


@pytest.mark.parametrize("language", ["", "fr", "../en", "en\0", "EN"])
def test_a_language_that_there_is_not_is_refused(client: FlaskClient, language: str) -> None:
    assert choose(client, language).status_code == 400


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "/\\evil.example", "", "x"])
def test_trying_to_be_led_to_another_site(client: FlaskClient, back: str) -> None:
    assert choose(client, "de", back).headers["Location"] == "/"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_trying_to_choose_from_another_sites_page(client: FlaskClient, site: str) -> None:
    answer = choose(client, "de", **{"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_caches_are_told_that_pages_differ_and_files_do_not(client: FlaskClient) -> None:
    page = get(client, "/")
    assert {"Accept-Language", "Cookie"} <= set(page.vary)
    path = re.search(r'href="(/static/sluice-[^"]+)"', page.get_data(as_text=True))
    assert path
    with get(client, path[1]) as answer:
        assert not answer.vary


@pytest.mark.parametrize("path", ["/", "/auth/signed-out", "/nothing"])
def test_every_page_before_sign_in_offers_the_languages(client: FlaskClient, path: str) -> None:
    page = get(client, path, Accept_Language="de").get_data(as_text=True)
    offered = re.findall(r'name="language" value="(\w+)" lang="(\w+)"( aria-current="true")?>([^<]+)<', page)
    assert {code: name for code, _, _, name in offered} == LANGUAGES
    assert [(code, lang) for code, lang, current, _ in offered if current] == [("de", "de")]
    # What cannot be loaded again leads to the start page.
    assert f'name="next" value="{path}"' in page


def test_the_account_page_offers_the_languages(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    page = get(client, "/auth/account").get_data(as_text=True)
    assert page.count('name="language"') == len(LANGUAGES)
    assert 'name="next" value="/auth/account"' in page


@pytest.mark.parametrize(("language", "send"), [("en", "Send"), ("de", "Senden"), ("ja", "送信")])
def test_scripts_get_the_texts_of_the_pages_language(client: FlaskClient, language: str, send: str) -> None:
    page = get(client, "/", Accept_Language=language).get_data(as_text=True)
    found = re.search(r'<script src="(/static/early-\w+\.js)"></script>', page)
    assert found
    with contextlib.closing(get(client, found[1])) as answer:
        assert f'send:"{send}"' in answer.get_data(as_text=True)


def test_programs_get_english_errors(client: FlaskClient) -> None:
    answer = client.post(
        "/page-bearer", base_url=PUBLIC_URL, headers={"Accept": "application/json", "Accept-Language": "de"}
    )
    assert answer.get_json()["error"]["message"].startswith("It did not come from a page of this site")
