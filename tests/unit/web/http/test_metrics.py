"""The two listeners of an app: metrics on the loopback port, everything else on the unix socket."""

from __future__ import annotations

import socket

import pytest
from flask.testing import FlaskClient

from tests.unit.web.visitor import PUBLIC_URL


@pytest.mark.parametrize("path", ["/", "/health", "/keys", "/v1/principal", "/v1/usage", "/metrics/x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_trying_the_app_on_the_loopback_port(
    client: FlaskClient, authority: FlaskClient, path: str, method: str
) -> None:
    with socket.socket(socket.AF_INET) as tcp:
        for one in (client, authority):
            answer = one.open(path, method=method, environ_overrides={"gunicorn.socket": tcp})
            assert (answer.status_code, answer.data) == (404, b"")


def test_metrics_are_only_on_the_loopback_port(client: FlaskClient, authority: FlaskClient) -> None:
    with socket.socket(socket.AF_INET) as tcp, socket.socket(socket.AF_UNIX) as unix:
        for one, name in ((client, "web"), (authority, "authority")):
            one.get("/health", base_url=PUBLIC_URL)
            figures = one.get("/metrics", environ_overrides={"gunicorn.socket": tcp})
            assert f"sluice_{name}_requests_total{{endpoint=" in figures.get_data(as_text=True)
            hidden = one.get("/metrics", base_url=PUBLIC_URL, environ_overrides={"gunicorn.socket": unix})
            assert hidden.status_code == 404


def test_made_up_paths_make_no_new_series(client: FlaskClient) -> None:
    for number in range(5):
        client.get(f"/made-up-{number}", base_url=PUBLIC_URL)
    with socket.socket(socket.AF_INET) as tcp:
        figures = client.get("/metrics", environ_overrides={"gunicorn.socket": tcp}).get_data(as_text=True)
    assert "made-up" not in figures
    assert 'endpoint="none",method="GET",status="404"} 5.0' in figures


def test_made_up_methods_make_no_new_series(client: FlaskClient) -> None:
    """Clients can invent methods too: a series for each would fill the memory without a sign-in."""
    for number in range(5):
        client.open("/", method=f"MADE{number}", base_url=PUBLIC_URL)
    with socket.socket(socket.AF_INET) as tcp:
        figures = client.get("/metrics", environ_overrides={"gunicorn.socket": tcp}).get_data(as_text=True)
    assert "MADE" not in figures
    counted = [
        line for line in figures.splitlines() if "requests_total{" in line and 'method="other"' in line
    ]
    assert len(counted) == 1 and counted[0].endswith(" 5.0")
