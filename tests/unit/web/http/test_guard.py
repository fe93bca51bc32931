"""Rules for every request: forged ones are refused, and answers have the security headers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import sluice.web
from sluice.web.database.tables import Database
from sluice.web.http import assets, guard
from tests.unit.web.visitor import PUBLIC_URL, TOKEN, get, sign_in

PAGE = Path(__file__).resolve().parents[4] / "page" / "src"
TEMPLATES = Path(sluice.web.__file__).parent / "templates"
FORMS = ["/keys", "/keys/key-000000000000/revoke", "/auth/sign-out", "/page-bearer"]
OURS = {"Sec-Fetch-Site": "same-origin", "Origin": PUBLIC_URL}


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("token", ["", "x" * 43, TOKEN + "x", "ü"])
def test_trying_a_form_without_the_sessions_token_csrf(
    client: FlaskClient, database: Database, path: str, token: str
) -> None:
    sign_in(client, database)
    answer = client.post(path, base_url=PUBLIC_URL, headers=OURS, data={"csrf_token": token, "name": "x"})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": PUBLIC_URL},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": PUBLIC_URL + ".evil.example"},
        {"Origin": PUBLIC_URL.replace("https", "http")},
    ],
)
def test_trying_a_form_from_another_site_even_with_the_token(
    client: FlaskClient, database: Database, path: str, headers: dict[str, str]
) -> None:
    sign_in(client, database)
    answer = client.post(path, base_url=PUBLIC_URL, headers=headers, data={"csrf_token": TOKEN, "name": "x"})
    assert answer.status_code == 403


def test_a_form_whose_origin_the_referrer_policy_hides_is_accepted(
    client: FlaskClient, database: Database
) -> None:
    sign_in(client, database)
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": "null"}
    answer = client.post(
        "/keys", base_url=PUBLIC_URL, headers=headers, data={"csrf_token": TOKEN, "name": "x"}
    )
    assert answer.status_code == 303


@pytest.mark.parametrize("path", FORMS)
def test_a_form_without_a_sign_in_is_refused(client: FlaskClient, path: str) -> None:
    assert client.post(path, base_url=PUBLIC_URL, headers=OURS, data={"csrf_token": ""}).status_code == 403


def test_trying_anothers_token(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    with client.session_transaction(base_url=PUBLIC_URL) as session:
        session["csrf"] = "u" * 43
    assert (
        client.post("/page-bearer", base_url=PUBLIC_URL, headers=OURS, data={"csrf_token": TOKEN}).status_code
        == 403
    )


@pytest.mark.parametrize("path", ["/", "/keys", "/nothing", "/auth/signed-out", "/health"])
def test_every_answer_has_the_headers(client: FlaskClient, path: str) -> None:
    headers = get(client, path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["worker-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "sluice-worker"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"


def test_diagrams_are_drawn_in_a_document_that_may_nothing_but_draw(client: FlaskClient) -> None:
    answer = get(client, "/drawing")
    policy = dict(
        (part + " ").split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none' "
    assert policy["script-src"] == policy["frame-ancestors"] == "'self' "
    assert policy["sandbox"] == "allow-scripts "
    assert not {"img-src", "connect-src", "font-src", "frame-src", "form-action"} & {
        name for name, value in policy.items() if value != "'none' "
    }
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    # The frame has an origin of its own, to which its scripts come from elsewhere.
    scripts = re.findall(r'<script src="([^"]+)"', answer.get_data(as_text=True))
    assert len(scripts) == 2
    page = get(client, "/").get_data(as_text=True)
    others = [part for part in page.split('"') if part.startswith("/static/")]
    for path in [*scripts, *others]:
        with get(client, path) as loaded:
            expected = "cross-origin" if path in scripts else "same-origin"
            assert loaded.headers["Cross-Origin-Resource-Policy"] == expected


def test_fonts_are_served_as_fonts(client: FlaskClient) -> None:
    fonts = json.loads((assets.FOLDER / "manifest.json").read_text())["files"]["formulas.css"]["fonts"]
    assert fonts
    with get(client, f"/static/{fonts[0]}") as answer:
        assert answer.headers["Content-Type"] == "font/woff2"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_the_page_makes_no_policy_for_trusted_types_but_the_named_one() -> None:
    """It may admit fixed paths of workers alone: markup and code from texts stay impossible."""
    sources = {path: path.read_text(encoding="utf-8") for path in PAGE.rglob("*.ts*")}
    making = {path.name: text for path, text in sources.items() if "createPolicy" in text}
    assert list(making) == ["policy.ts"]
    assert f'"{guard.WORKER_POLICY}"' in making["policy.ts"]
    assert "createHTML" not in making["policy.ts"]
    assert re.search(r"createScript\b", making["policy.ts"]) is None
    starting = [path.name for path, text in sources.items() if re.search(r"\bnew (?:Shared)?Worker\b", text)]
    assert starting == ["policy.ts"]


def test_static_files_may_be_kept_for_good_since_their_names_change_with_them(client: FlaskClient) -> None:
    page = get(client, "/").get_data(as_text=True)
    paths = [part for part in page.split('"') if part.startswith("/static/")]
    assert len(paths) >= 3
    for path in paths:
        assert re.fullmatch(r"/static/[a-z]+-[A-Z0-9]{8}\.(?:js|css|svg)", path)
        with get(client, path) as answer:
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            # Signing in must not have a browser load everything anew.
            assert "Vary" not in answer.headers


@pytest.mark.parametrize(
    "name", ["manifest.json", "licenses.txt", "..%2fapp.py", "chat-AAAAAAAA.js", "chat.js"]
)
def test_nothing_but_the_built_files_is_served(client: FlaskClient, name: str) -> None:
    answer = get(client, f"/static/{name}")
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"


def test_pages_hold_no_inline_script_and_no_style(client: FlaskClient, database: Database) -> None:
    sign_in(client, database)
    for path in ("/", "/keys"):
        page = get(client, path).get_data(as_text=True)
        assert "<style" not in page
        assert "style=" not in page
        assert "onclick" not in page
        assert page.count("<script") == page.count("<script src=") + page.count(
            '<script type="application/json"'
        ) + page.count('<script type="module" src="/static/')


@pytest.mark.parametrize("template", sorted(TEMPLATES.rglob("*.html")), ids=lambda path: path.stem)
def test_no_template_holds_an_inline_script_or_a_style(template: Path) -> None:
    """The Content-Security-Policy forbids both."""
    text = template.read_text(encoding="utf-8")
    assert re.findall(r"<style|\bstyle=|\bon[a-z]+=", text) == []
    assert re.findall(r"<script(?![^>]*(?: src=| type=\"application/json\"))[^>]*", text) == []
