"""What nginx answers itself and what it leaves to the proxy: the role's configuration before all parts."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest

from sluice.records import PATHS, REQUEST_ID
from tests.bench.stack import MODEL
from tests.fakes.authority import make_key
from tests.integration.stand import BALANCER, SITE, Stand

pytestmark = pytest.mark.integration


def ask(stand: Stand, raw: bytes, source: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    """Send bytes over TLS; return status, headers (names in small letters) and body of the answer."""
    host, _, port = stand.url.removeprefix("https://").partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0)) as plain,
        stand.context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(raw)
        answer = http.client.HTTPResponse(secure)
        answer.begin()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()


def post(path: str, *fields: str, body: bytes = b"") -> bytes:
    """Return a request that is the last on its connection."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_nginxs_own_refusals_are_json_in_the_paths_shape(stand: Stand, path: str) -> None:
    for raw, status, code in (
        (post(path, "Content-Length: 7, 7"), 400, "invalid_request"),
        (post(path, f"X-Long: {'x' * 40_000}"), 400, "invalid_request"),
        (post(path, f"Content-Length: {1 << 40}"), 413, "body_too_large"),
        (post(path).replace(b"POST", b"TRACE"), 405, "method_not_allowed"),
    ):
        found, headers, body = ask(stand, raw)
        answer: dict[str, Any] = json.loads(body)
        assert (found, answer["error"]["code"]) == (status, code)
        assert headers["content-type"] == "application/json"
        # Of a head that nginx gave up before its end, it knows no path.
        if path == "/v1/messages" and status != 400:
            assert set(answer) == {"type", "error", "request_id"}
            assert answer["error"]["type"] in ("request_too_large", "invalid_request_error")
            assert answer["request_id"] == headers["x-request-id"]
        elif path != "/v1/messages":
            assert set(answer) == {"error"}
            assert answer["error"]["request_id"] == headers["x-request-id"]
        assert REQUEST_ID.fullmatch(headers["x-request-id"])


def test_a_browsers_preflight_reaches_the_proxy(stand: Stand) -> None:
    fields = (
        f"Origin: {SITE}",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: x-api-key",
    )
    for path in PATHS:
        status, headers, body = ask(stand, post(path, *fields).replace(b"POST", b"OPTIONS", 1))
        assert (status, body) == (204, b"")
        assert headers["access-control-allow-origin"] == SITE
        assert headers["access-control-allow-headers"] == "x-api-key"
    status, headers, _ = ask(
        stand, post("/v1/models", "Origin: https://evil.example").replace(b"POST", b"OPTIONS", 1)
    )
    assert status == 405
    assert "access-control-allow-origin" not in headers


def test_anthropics_header_reaches_the_proxy_and_a_page_may_read_the_answer(stand: Stand) -> None:
    asked = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "Hello?"}]}
    body = json.dumps(asked).encode()
    fields = (f"x-api-key: {stand.key}", "anthropic-version: 2023-06-01", f"Origin: {SITE}")
    status, headers, got = ask(
        stand, post("/v1/messages", *fields, f"Content-Length: {len(body)}", body=body)
    )
    assert (status, json.loads(got)["type"]) == (200, "message")
    assert headers["access-control-allow-origin"] == SITE


def test_a_cookie_is_worth_nothing_at_the_api_even_one_that_holds_a_key(stand: Stand) -> None:
    for cookie in (f"__Host-sluice={stand.key}", f"Authorization=Bearer {stand.key}"):
        raw = post("/v1/models", f"Cookie: {cookie}").replace(b"POST", b"GET", 1)
        status, headers, body = ask(stand, raw)
        assert (status, json.loads(body)["error"]["code"]) == (401, "invalid_api_key")
        assert "set-cookie" not in headers


def test_a_guesser_behind_a_balancer_slows_nobody_else_there(stand: Stand) -> None:
    """A client's address is the last one that is not a balancer's; what the client says itself is ignored."""

    def guess(forwarded: str, source: str = BALANCER) -> int:
        fields = (f"Authorization: Bearer {make_key()}", f"X-Forwarded-For: {forwarded}")
        raw = post("/v1/models", *fields).replace(b"POST", b"GET", 1)
        return ask(stand, raw, source)[0]

    assert [guess("192.0.2.1") for _ in range(31)] == [401] * 30 + [429]
    assert guess("192.0.2.2, 192.0.2.1") == 429, "it only says that it is another"
    assert guess("192.0.2.2") == 401
    # Who is no balancer has the address of the connection.
    assert [guess(f"192.0.2.{number}", "127.0.0.8") for number in range(31)] == [401] * 30 + [429]
