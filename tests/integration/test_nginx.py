"""What nginx answers itself and what it leaves to the proxy: the role's configuration before all parts."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from typing import Any

import pytest

from lab.bench.stack import MODEL
from sluice.contracts.paths import PATHS
from sluice.contracts.values import REQUEST_ID
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
        (post(path, f"X-Long: {'x' * 40_000}"), 431, "headers_too_large"),
        (post(f"{path}?{'x' * 10_240}"), 414, "address_too_long"),
        (post(path, f"Content-Length: {1 << 40}"), 413, "body_too_large"),
        (post(path).replace(b"POST", b"TRACE"), 405, "method_not_allowed"),
    ):
        found, headers, body = ask(stand, raw)
        answer: dict[str, Any] = json.loads(body)
        assert (found, answer["error"]["code"]) == (status, code)
        assert headers["content-type"] == "application/json"
        # Of a first line that nginx gave up before its end, it knows no path.
        if path == "/v1/messages" and status != 414:
            assert set(answer) == {"type", "error", "request_id"}
            assert answer["error"]["type"] in ("request_too_large", "invalid_request_error")
            assert answer["request_id"] == headers["x-request-id"]
        else:
            assert set(answer) == {"error"}
            assert answer["error"]["request_id"] == headers["x-request-id"]
        assert REQUEST_ID.fullmatch(headers["x-request-id"])


END = b"Host: localhost\r\nConnection: close\r\n\r\n"
LONG = b"x" * 10_240
CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
MALFORMED = {
    "CONNECT": (b"CONNECT example.org:443 HTTP/1.1\r\n" + END, 400),
    "CONNECT with a path": (b"CONNECT /v1/models HTTP/1.1\r\n" + END, 405),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + END, 400),
    "GET *": (b"GET * HTTP/1.1\r\n" + END, 400),
    "TRACE": (b"TRACE /v1/models HTTP/1.1\r\n" + END, 405),
    "TRACE of a page": (b"TRACE /keys HTTP/1.1\r\n" + END, 405),
    "an unknown method": (b"FOO /v1/models HTTP/1.1\r\n" + END, 400),
    "a method in small letters": (b"get /v1/models HTTP/1.1\r\n" + END, 400),
    "a method with odd signs": (b"G@T /v1/models HTTP/1.1\r\n" + END, 400),
    "an absolute address": (b"GET https://localhost/v1/models HTTP/1.1\r\n" + END, 401),
    "an absolute address elsewhere": (b"GET http://example.org/v1/models HTTP/1.1\r\n" + END, 401),
    "an absolute address without a host": (b"GET http:///v1/models HTTP/1.1\r\n" + END, 400),
    "a target without a slash": (b"GET v1/models HTTP/1.1\r\n" + END, 400),
    "a query alone": (b"GET ?v1 HTTP/1.1\r\n" + END, 400),
    "an escaped NUL": (b"GET /v1/models%00 HTTP/1.1\r\n" + END, 400),
    "an escaped NUL in a page's address": (b"GET /keys%00 HTTP/1.1\r\n" + END, 400),
    "half an escape": (b"GET /v1/models% HTTP/1.1\r\n" + END, 400),
    "an escape that is none": (b"GET /v1/%zz HTTP/1.1\r\n" + END, 400),
    "an escape that is none in a page's address": (b"GET /%zz HTTP/1.1\r\n" + END, 400),
    "a control character": (b"GET /v1/mod\x01els HTTP/1.1\r\n" + END, 400),
    "a space": (b"GET /v1/mod els HTTP/1.1\r\n" + END, 400),
    "dots out of everything": (b"GET /v1/../../etc/passwd HTTP/1.1\r\n" + END, 400),
    "escaped dots out of everything": (b"GET /v1/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + END, 400),
    "dots to a page": (b"GET /v1/../keys HTTP/1.1\r\n" + END, 400),
    "dots to signing in": (b"GET /v1/../auth/login HTTP/1.1\r\n" + END, 400),
    "escaped dots to a page": (b"GET /v1/models/..%2f..%2fadmin HTTP/1.1\r\n" + END, 400),
    "dots to the API": (b"GET /x/../v1/models HTTP/1.1\r\n" + END, 400),
    "a double slash": (b"GET //v1/models HTTP/1.1\r\n" + END, 400),
    "an address of 10 kB": (b"GET /v1/models?" + LONG + b" HTTP/1.1\r\n" + END, 414),
    "a path of 10 kB": (b"GET /v1/" + LONG + b" HTTP/1.1\r\n" + END, 414),
    "a page's address of 10 kB": (b"GET /" + LONG + b" HTTP/1.1\r\n" + END, 414),
    "a header of 10 kB": (b"GET /v1/models HTTP/1.1\r\nX-Long: " + LONG + b"\r\n" + END, 431),
    "a page's header of 10 kB": (b"GET /keys HTTP/1.1\r\nX-Long: " + LONG + b"\r\n" + END, 431),
    "headers of 60 kB": (b"GET /v1/models HTTP/1.1\r\n" + (b"X: " + LONG[:1000] + b"\r\n") * 60 + END, 431),
    "120 headers": (b"GET /v1/models HTTP/1.1\r\n" + b"X: y\r\n" * 120 + END, 431),
    "a header with a space in its name": (b"GET /v1/models HTTP/1.1\r\nX Y: 1\r\n" + END, 400),
    "NUL in a header": (b"GET /v1/models HTTP/1.1\r\nX: a\0b\r\n" + END, 400),
    "a folded header": (b"GET /v1/models HTTP/1.1\r\nX: a\r\n b\r\n" + END, 400),
    "a host with a slash": (b"GET /v1/models HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a host with a space": (b"GET /v1/models HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "an empty host": (b"GET /v1/models HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "two hosts": (b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + END, 400),
    "HTTP/2.0": (b"GET /v1/models HTTP/2.0\r\n" + END, 400),
    "HTTP/3.1": (b"GET /v1/models HTTP/3.1\r\n" + END, 400),
    "another protocol": (b"GET /v1/models HTTQ/1.1\r\n" + END, 400),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a TLS hello within TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "no HTTP at all": (b"\xff\xfe\xfd\r\n\r\n", 400),
    "chunks and a length": (CHUNKED + b"Content-Length: 5\r\n" + END + b"0\r\n\r\n", 400),
    "another coding": (CHUNKED.replace(b"chunked", b"gzip") + END, 400),
    "a chunk without a size": (CHUNKED + END + b"zz\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk without a size for a page": (
        CHUNKED.replace(b"/v1/chat/completions", b"/keys") + END + b"zz\r\nhello\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (post("/v1/chat/completions", "Content-Length: 5", "Content-Length: 6"), 400),
    "a negative length": (post("/v1/chat/completions", "Content-Length: -1"), 400),
    "a length of a terabyte": (post("/v1/chat/completions", "Content-Length: 1099511627776"), 413),
}


@pytest.mark.parametrize(("raw", "status"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_request_is_refused_in_the_apis_shape(stand: Stand, raw: bytes, status: int) -> None:
    found, headers, body = ask(stand, raw)
    assert found == status, body[:300]
    assert headers["content-type"] == "application/json"
    assert REQUEST_ID.fullmatch(headers["x-request-id"])
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert error["request_id"] == headers["x-request-id"]


def test_http_0_9_gets_an_error_of_the_api_and_no_page(stand: Stand) -> None:
    host, _, port = stand.url.removeprefix("https://").partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        stand.context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(b"GET /v1/models\r\n")
        got = b"".join(iter(lambda: secure.recv(65_536), b""))
    assert json.loads(got)["error"]["code"] == "invalid_request"


def test_plain_http_at_the_port_of_https_is_told_so(stand: Stand) -> None:
    host, _, port = stand.url.removeprefix("https://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", "/v1/models")
        answer = connection.getresponse()
        assert answer.status == 400
        assert "https://" in json.loads(answer.read())["error"]["message"]
    finally:
        connection.close()


@pytest.mark.parametrize("address", ["/v1/../../etc/passwd", "/v1/models%00", "/v1/%zz", "/v1/../keys"])
def test_http_2_is_refused_in_the_apis_shape_too(stand: Stand, address: str) -> None:
    argv = ["curl", "-sS", "--http2", "--path-as-is", "--cacert", str(stand.ca), "-w", "\n%{http_code}"]
    done = subprocess.run(
        [*argv, f"{stand.url}{address}"], capture_output=True, text=True, timeout=30, check=False
    )
    body, _, status = done.stdout.rpartition("\n")
    assert status == "400", (done.stdout, done.stderr)
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code", "request_id"}


def test_a_page_of_a_site_that_is_let_in_may_read_nginxs_own_refusals(stand: Stand) -> None:
    for origin, allowed in ((SITE, SITE), ("https://evil.example", None)):
        raw = post("/v1/chat/completions", f"Content-Length: {1 << 40}", f"Origin: {origin}")
        status, headers, _ = ask(stand, raw)
        assert status == 413
        assert headers.get("access-control-allow-origin") == allowed
        assert ("access-control-expose-headers" in headers) == (allowed is not None)
        assert headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "path", [*(one for one in PATHS if one.startswith("/v1/")), "/v1/models", "/v1/models/smol", "/v1/files"]
)
def test_a_base_url_without_v1_is_told_to_add_it(stand: Stand, path: str) -> None:
    raw = post(path.removeprefix("/v1"), f"Authorization: Bearer {stand.key}", "Content-Length: 0")
    for method in (b"POST", b"GET"):
        status, headers, body = ask(stand, raw.replace(b"POST", method, 1))
        assert (status, headers["content-type"]) == (404, "application/json")
        error = json.loads(body)["error"]
        assert error["code"] == "path_not_found"
        assert "Add /v1" in error["message"]


@pytest.mark.parametrize("name", ["org%2Fmodel", "org/model", "org%2F..%2Fmodel", "%C3%A9"])
def test_a_model_of_another_name_is_unknown_and_no_page(stand: Stand, name: str) -> None:
    raw = post(f"/v1/models/{name}", f"Authorization: Bearer {stand.key}").replace(b"POST", b"GET", 1)
    status, headers, body = ask(stand, raw)
    assert (status, headers["content-type"]) == (404, "application/json")
    assert json.loads(body)["error"]["code"] == "model_not_found"


def test_a_hundred_headers_reach_the_api(stand: Stand) -> None:
    more = [f"X-{number}: y" for number in range(97)]  # beside host, connection and key
    raw = post("/v1/models", f"Authorization: BEARER {stand.key}", *more).replace(b"POST", b"GET", 1)
    status, _, body = ask(stand, raw)
    assert status == 200, body


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
