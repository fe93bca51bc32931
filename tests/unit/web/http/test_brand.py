"""Pages of a site with a name, a logo, a colour and texts of its own."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from sluice.errors import ConfigError
from sluice.web.database.tables import Database
from sluice.web.http.brand import Brand
from sluice.web.settings.branding import Branding, Colour
from sluice.web.settings.config import WebConfig
from sluice.web.words import markdown
from tests.unit.web.settings.test_branding import png, svg
from tests.unit.web.visitor import get, sign_in

LOGOS = {"svg": svg('<path d="M0 0h9v9z"/>'), "png": png()}
HOSTILE = """# Top

<script>alert(1)</script> <b onclick="x">bold</b>

[a](javascript:alert(1)) [b](https://example.org/ "title") ![c](https://example.org/c.png)

[d](data:text/html,x) <https://example.org/e>
"""


@pytest.fixture(params=LOGOS)
def settings(settings: WebConfig, tmp_path: Path, request: pytest.FixtureRequest) -> WebConfig:
    """A site with a branding of its own."""
    logo = tmp_path / f"logo.{request.param}"
    logo.write_bytes(LOGOS[request.param])
    given = Branding(
        name="KI & Co",
        logo=str(logo),
        accent=Colour("#0b4f9e", "#8ab8ff"),
        welcome={"de": "Willkommen **hier**.", "en": "Welcome *here*."},
        imprint={"de": "# Wer\n\nWir.", "ja": "私たち"},
        privacy={"en": "https://example.org/privacy"},
    )
    return dataclasses.replace(settings, branding=given)


def text(client: FlaskClient, path: str, language: str = "en") -> str:
    return get(client, path, Accept_Language=language).get_data(as_text=True)


def test_every_page_has_the_sites_name_and_no_other(client: FlaskClient, database: Database) -> None:
    pages = [text(client, path) for path in ("/", "/auth/signed-out", "/nothing")]
    sign_in(client, database)
    pages += [text(client, path) for path in ("/", "/keys", "/usage", "/auth/account")]
    for page in pages:
        assert "KI &amp; Co" in page
        title = re.search(r"<title>(.*)</title>", page)
        assert title
        assert "Sluice" not in title[1]


def test_logo_and_colour_come_in_place_of_sluices_and_are_kept_permanently(
    client: FlaskClient, settings: WebConfig
) -> None:
    page = text(client, "/")
    logo = re.search(r'<link rel="icon" href="(/static/logo-[A-Z2-7]{8}\.(\w+))" type="([^"]+)">', page)
    assert logo
    assert page.count(logo[1]) == 3, "icon, bar and welcome"
    assert logo[3] == {"svg": "image/svg+xml", "png": "image/png"}[logo[2]]
    with get(client, logo[1]) as answer:
        assert answer.data == LOGOS[logo[2]]
        assert answer.mimetype == logo[3]
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "script-src 'unsafe" not in answer.headers["Content-Security-Policy"]
        if logo[2] == "svg":
            assert answer.headers["Content-Security-Policy"].endswith("; sandbox")
    sheet = re.search(r'<link rel="stylesheet" href="(/static/sluice-[A-Z2-7]{8}\.css)">', page)
    assert sheet
    css = get(client, sheet[1]).get_data(as_text=True)
    assert "--accent:light-dark(#0b4f9e,#8ab8ff)" in css
    assert "--on-accent:light-dark(#ffffff,#000000)" in css
    assert ".brand" in css, "with Sluice's own rules"


@pytest.mark.parametrize(
    ("language", "words", "shown"),
    [
        ("en", "Welcome <em>here</em>.", "<div><p>Welcome"),
        ("de", "Willkommen <strong>hier</strong>.", "<div><p>Willkommen"),
        ("ja", "Welcome <em>here</em>.", '<div lang="en"><p>Welcome'),
    ],
)
def test_the_first_visit_has_the_sites_text(
    client: FlaskClient, language: str, words: str, shown: str
) -> None:
    page = text(client, "/", language)
    assert words in page
    assert shown in page


def test_imprint_and_privacy_are_pages_or_lead_elsewhere(client: FlaskClient) -> None:
    page = text(client, "/imprint", "de")
    assert "<h1>Impressum</h1>" in page
    assert "<h2>Wer</h2>" in page
    assert '<div lang="de"><h2>Wer</h2>' in text(client, "/imprint", "en")
    assert get(client, "/privacy").location == "https://example.org/privacy"


def test_only_imprint_and_privacy_lead_elsewhere() -> None:
    address = {"en": "https://example.org/page\n"}
    brand = Brand(Branding(welcome=address, imprint=address))
    imprint, welcome = brand.passage("imprint", "en"), brand.passage("welcome", "en")
    assert imprint and imprint.link == "https://example.org/page"
    assert welcome and not welcome.link and "example.org/page" in welcome.html


def test_every_page_leads_to_them(client: FlaskClient, database: Database) -> None:
    assert '<a href="/imprint">Impressum</a>' in text(client, "/", "de")
    assert '<a href="https://example.org/privacy">Datenschutz</a>' in text(client, "/", "de")
    sign_in(client, database)
    assert '<a href="/imprint">' in text(client, "/keys")
    # The chat page shows them in its list.
    assert "&#34;/imprint&#34;" in text(client, "/")


def test_markdown_cannot_become_script_and_asks_nobody(client: FlaskClient) -> None:
    html = markdown.html(HOSTILE)
    assert "<script" not in html
    assert "<b" not in html.replace("<blockquote", "")
    assert "<img" not in html
    assert 'href="javascript' not in html
    assert 'href="data' not in html
    assert '<a href="https://example.org/" title="title" rel="noopener noreferrer">b</a>' in html
    assert html.startswith("<h2>Top</h2>")


@pytest.mark.parametrize("content", [None, b"GIF89a"])
def test_a_logo_that_is_wrong_on_the_host_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"branding.logo: {path}")):
        Brand(Branding(logo=str(path)))
