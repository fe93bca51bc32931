"""A site without texts of its own has no such pages, and no links to them."""

from __future__ import annotations

from flask.testing import FlaskClient

from tests.unit.web.visitor import get


def test_pages_that_the_site_has_not_written_are_not_there(client: FlaskClient) -> None:
    for path in ("/imprint", "/privacy"):
        assert get(client, path).status_code == 404
    assert 'class="legal"' not in get(client, "/").get_data(as_text=True)
