"""Each error of the proxy's table: status, code, format and headers."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.values import REQUEST_ID
from sluice.proxy.api import handler
from sluice.proxy.bodies import reader as body_reader
from sluice.proxy.bodies.body import INLINE_PARSE
from tests.fakes.authority import make_key
from tests.fakes.wire_relay import Call, FakeRelay, model
from tests.unit.proxy.conftest import CHAT, COMPLETIONS, Bed, answer_well, chat, config, eventually, open_bed


def check_shape(status: int, headers: Any, answer: Any, code: str) -> dict[str, Any]:
    """Check what every error has; return its `error`."""
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert error["code"] == code
    assert error["message"]
    assert REQUEST_ID.fullmatch(error["request_id"])
    assert headers["X-Request-Id"] == error["request_id"]
    assert headers["Content-Type"] == "application/json"
    return dict(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"model":"smol","model":"other","messages":[]}',
        b'{"model":"smol","messages":[{"role":"user","content":"x","content":"y"}]}',
        b'{"model":"smol","temperature":NaN,"messages":[{"role":"user","content":"x"}]}',
        json.dumps(chat()).encode("utf-16"),
        b"[" * 100_000,
        b'{"n":' + b"9" * 10_000 + b"}",
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "text",
        "bytes",
        "twice",
        "twice-deep",
        "nan",
        "utf-16",
        "deep",
        "long-number",
    ],
)
async def test_malformed_json_is_400(bed: Bed, body: bytes) -> None:
    status, headers, answer = await bed.post(body)
    assert status == 400
    error = check_shape(status, headers, answer, "malformed_json")
    assert error["type"] == "invalid_request_error"
    assert not bed.relay.calls


async def test_malformed_json_in_a_large_body_is_400_too(bed: Bed) -> None:
    status, headers, answer = await bed.post(b'{"x":"' + b"a" * 500_000)
    assert status == 400
    check_shape(status, headers, answer, "malformed_json")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "x"}]}, "model"),
        (CHAT, chat(model=7), "model"),
        (CHAT, chat(model=""), "model"),
        (CHAT, {"model": "smol"}, "messages"),
        (CHAT, chat(messages=[]), "messages"),
        (CHAT, chat(messages={"role": "user"}), "messages"),
        (CHAT, chat(messages=["x"]), "messages[]"),
        (CHAT, chat(messages=[{"content": "x"}]), "messages[0].role"),
        (CHAT, chat(messages=[{"role": "user", "content": 5}]), "messages[].content"),
        (CHAT, chat(stream="yes"), "stream"),
        (CHAT, chat(stream=1), "stream"),
        (COMPLETIONS, {"model": "smol"}, "prompt"),
        (COMPLETIONS, {"model": "smol", "prompt": ""}, "prompt"),
        (COMPLETIONS, {"model": "smol", "prompt": 5}, "prompt"),
    ],
)
async def test_a_wrong_field_is_400_and_named(bed: Bed, path: str, body: Any, param: str) -> None:
    status, headers, answer = await bed.post(body, path)
    assert status == 400
    assert check_shape(status, headers, answer, "invalid_request")["param"] == param
    assert not bed.relay.calls


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}},
        {"type": "image_url", "image_url": "https://example.org/x.png"},
        {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
        {"type": "audio_url", "audio_url": {"url": "//example.org"}},
        {"type": "image_url", "image_url": {"url": " data:image/png;base64,AA=="}},
        {"image_url": {"detail": {"nested": [{"url": "ftp://x"}]}}},
    ],
)
async def test_media_by_address_is_refused(bed: Bed, part: Any) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    status, headers, answer = await bed.post(chat(messages=messages))
    assert status == 400
    error = check_shape(status, headers, answer, "media_url_refused")
    assert error["param"].startswith("messages[].content[].")
    assert not bed.relay.calls


async def test_media_in_the_body_itself_passes(bed: Bed) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    status, _, _ = await bed.post(chat(messages=[{"role": "user", "content": [part]}]))
    assert status == 200


KEY = make_key()


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer x",
        "Basic dXNlcjpwYXNz",
        f"Bearer {KEY[:-1]}{'1' if KEY[-1] == '0' else '0'}",
        f"Bearer {KEY} x",
    ],
    ids=["none", "empty", "short", "basic", "checksum", "more"],
)
async def test_a_key_of_the_wrong_form_is_401_and_nobody_is_asked(bed: Bed, authorization: str) -> None:
    async with bed.http.post(
        f"http://proxy{CHAT}", json=chat(), headers={"Authorization": authorization} if authorization else {}
    ) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        error = check_shape(401, response.headers, await response.json(), "invalid_api_key")
    assert error["type"] == "authentication_error"
    assert bed.authority.questions == 0


async def test_an_unknown_key_is_401_and_asked_once(bed: Bed) -> None:
    bed.key = make_key()
    for _ in range(5):
        status, headers, answer = await bed.get("/v1/models")
        assert status == 401
        check_shape(status, headers, answer, "invalid_api_key")
    assert bed.authority.questions == 1


async def test_a_key_past_its_time_is_401_even_if_it_is_cached(bed: Bed) -> None:
    expires = time.time() + 1.0
    bed.key = bed.authority.add_key(expires=expires)
    assert (await bed.get("/v1/models"))[0] == 200
    await eventually(lambda: time.time() > expires)
    assert (await bed.get("/v1/models"))[0] == 401


async def test_a_model_of_other_groups_is_403(bed: Bed) -> None:
    bed.relay.models = [model("theirs", groups=("physics",))]
    await eventually(lambda: "theirs" in bed.service.fleet.clusters[0].models)
    status, headers, answer = await bed.post(chat(model="theirs"))
    assert status == 403
    assert check_shape(status, headers, answer, "model_not_allowed")["type"] == "permission_error"
    assert (await bed.get("/v1/models/theirs"))[0] == 403


@pytest.mark.parametrize("name", ["other", "../smol", "x" * 65, "smol\n"])
async def test_an_unknown_model_is_404(bed: Bed, name: str) -> None:
    status, headers, answer = await bed.post(chat(model=name))
    assert status == 404
    check_shape(status, headers, answer, "model_not_found")
    assert not bed.relay.calls


async def test_an_unknown_model_is_404_on_its_own_path(bed: Bed) -> None:
    status, headers, answer = await bed.get("/v1/models/other")
    assert status == 404
    check_shape(status, headers, answer, "model_not_found")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/audio/speech", "/v1/models/", "/metrics"])
async def test_an_unknown_path_is_404(bed: Bed, path: str) -> None:
    status, headers, answer = await bed.get(path)
    assert status == 404
    check_shape(status, headers, answer, "path_not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CHAT, "POST"),
        ("DELETE", COMPLETIONS, "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/models/smol", "GET"),
    ],
)
async def test_a_wrong_method_is_405_and_says_which_is_right(
    bed: Bed, method: str, path: str, allow: str
) -> None:
    async with bed.http.request(method, f"http://proxy{path}", headers=bed.headers()) as response:
        assert response.status == 405
        assert response.headers["Allow"] == allow
        check_shape(405, response.headers, await response.json(), "method_not_allowed")


async def raw_exchange(bed: Bed, head: str) -> bytes:
    """Send only a request's head; return the answer."""
    reader, writer = await asyncio.open_unix_connection(bed.config.socket)
    writer.write(head.replace("\n", "\r\n").encode())
    try:
        async with asyncio.timeout(5):
            return await reader.readuntil(b"}}")
    finally:
        writer.close()


async def test_a_body_without_a_length_is_411(bed: Bed) -> None:
    raw = await raw_exchange(bed, f"POST {CHAT} HTTP/1.1\nHost: x\nAuthorization: Bearer {bed.key}\n\n")
    assert raw.startswith(b"HTTP/1.1 411")
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"] == "length_required"


async def test_a_body_that_is_too_large_is_413_before_it_is_read(bed: Bed) -> None:
    head = f"POST {CHAT} HTTP/1.1\nHost: x\nAuthorization: Bearer {bed.key}\nContent-Length: 1048577\n\n"
    raw = await raw_exchange(bed, head)
    assert raw.startswith(b"HTTP/1.1 413")
    assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_large"
    assert bed.authority.questions == 0


async def test_a_chunked_body_that_grows_too_large_is_413(bed: Bed) -> None:
    async def pieces() -> Any:
        yield b'{"model":"smol","messages":[{"role":"user","content":"'
        for _ in range(20):
            yield b"x" * 65_536

    async with bed.http.post(f"http://proxy{CHAT}", data=pieces(), headers=bed.headers()) as response:
        assert response.status == 413
        check_shape(413, response.headers, await response.json(), "body_too_large")


async def test_a_compressed_body_is_refused(bed: Bed) -> None:
    status, headers, answer = await bed.post(b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert status == 400
    check_shape(status, headers, answer, "invalid_request")


async def test_a_body_beyond_the_relays_limit_is_413(tmp_path: Path) -> None:
    relay = FakeRelay(answer_well)
    relay.limits = relay.limits.__class__(max_body=100)
    async with open_bed(config(tmp_path), relay) as bed:
        status, headers, answer = await bed.post(chat(user="x" * 100))
        assert status == 413
        check_shape(status, headers, answer, "body_too_large")


async def test_a_path_that_the_model_does_not_serve_is_400(bed: Bed) -> None:
    bed.relay.models = [model("smol", capabilities=("chat",))]
    await eventually(lambda: bed.service.fleet.clusters[0].models["smol"].capabilities == ("chat",))
    status, headers, answer = await bed.post({"model": "smol", "prompt": "x"}, COMPLETIONS)
    assert status == 400
    error = check_shape(status, headers, answer, "capability_missing")
    assert error["param"] == "model"
    assert "it serves /v1/chat/completions." in error["message"]


@pytest.mark.parametrize(
    ("code", "status", "retry"),
    [
        ("no_instance", 503, True),
        ("overloaded", 503, True),
        ("closed", 503, True),
        ("rate_limited", 429, False),
        ("instance_failed", 502, False),
        ("instance_timeout", 504, False),
        ("model_mismatch", 400, False),
    ],
)
async def test_the_relays_errors_are_told_in_the_same_shape(
    bed: Bed, code: str, status: int, retry: bool
) -> None:
    async def answer(call: Call) -> None:
        call.fail(code)

    bed.relay.answer = answer
    got, headers, document = await bed.post(chat())
    assert got == status
    check_shape(got, headers, document, code)
    assert ("Retry-After" in headers) == retry


async def test_no_instance_says_when_one_is_expected(bed: Bed) -> None:
    async def answer(call: Call) -> None:
        call.fail("no_instance")

    bed.relay.answer = answer
    bed.relay.models = [
        model("smol", status="starting", ready=0, starting=1, expected_ready=time.time() + 100)
    ]
    await eventually(lambda: bed.service.fleet.clusters[0].models["smol"].ready == 0)
    status, headers, _ = await bed.post(chat())
    assert status == 503
    assert 95 <= int(headers["Retry-After"]) <= 100


async def test_the_relays_own_retry_after_is_passed_on(bed: Bed) -> None:
    async def answer(call: Call) -> None:
        call.fail("no_instance", 41.2)

    bed.relay.answer = answer
    assert (await bed.post(chat()))[1]["Retry-After"] == "42"


@pytest.mark.parametrize(
    ("engine", "status", "code"),
    [
        (400, 400, "invalid_request"),
        (404, 404, "invalid_request"),
        (429, 503, "overloaded"),
        (500, 502, "instance_failed"),
    ],
)
async def test_an_engines_refusal_is_told_in_the_same_shape(
    bed: Bed, engine: int, status: int, code: str
) -> None:
    async def answer(call: Call) -> None:
        await call.answer(
            {"error": {"message": "too long", "type": "x", "param": "messages", "code": 400}}, engine
        )

    bed.relay.answer = answer
    got, headers, document = await bed.post(chat(stream=True))
    assert got == status
    error = check_shape(got, headers, document, code)
    assert ("too long" in error["message"]) == (code == "invalid_request")


async def test_an_engines_refusal_without_sense_is_told_too(bed: Bed) -> None:
    async def answer(call: Call) -> None:
        call.start(422, "text/plain")
        await call.send(b"<html>")
        call.end()

    bed.relay.answer = answer
    status, headers, document = await bed.post(chat())
    assert status == 422
    check_shape(status, headers, document, "invalid_request")


async def test_a_fault_of_ours_is_500_without_a_trace(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise KeyError("a secret word")

    monkeypatch.setattr(bed.service.handler, "_affinity", break_down)
    status, headers, document = await bed.post(chat())
    assert status == 500
    check_shape(status, headers, document, "internal_error")
    assert "secret" not in json.dumps(document)
    assert "Traceback" not in json.dumps(document)


async def test_too_many_bodies_at_once_are_503(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "MEMORY_SECONDS", 0.1)
    monkeypatch.setattr(bed.service.handler._body_reader._small, "_most", 10)
    status, headers, document = await bed.post(chat())
    assert status == 503
    check_shape(status, headers, document, "overloaded")
    assert headers["Retry-After"] == "5"


LARGE = "x" * (INLINE_PARSE + 1)


async def test_a_large_body_is_never_parsed_whole(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(*_: object) -> None:
        raise AssertionError("a large body was parsed")

    monkeypatch.setattr(handler, "summary_of", parse)
    large = chat(messages=[{"role": "user", "content": LARGE}])
    answers = await asyncio.gather(*(bed.post(large) for _ in range(6)))
    assert [status for status, _, _ in answers] == [200] * 6
    assert all(json.loads(call.body) == large for call in bed.relay.calls)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": [{"role": "user", "content": LARGE}]}, "invalid_request", "model"),
        ({"model": "smol", "prompt": LARGE}, "invalid_request", "messages"),
        (chat(stream="yes", pad=LARGE), "invalid_request", "stream"),
        (
            chat(messages=[{"role": "user", "content": [{"image_url": {"url": "http://x"}}]}], pad=LARGE),
            "media_url_refused",
            "messages[].content[].image_url.url",
        ),
        (chat(model="other", pad=LARGE), "model_not_found", "model"),
    ],
)
async def test_a_large_body_is_refused_by_name_too(bed: Bed, body: Any, code: str, param: str) -> None:
    status, headers, document = await bed.post(body)
    assert check_shape(status, headers, document, code)["param"] == param
    assert not bed.relay.calls


async def test_a_large_body_has_the_same_affinity_on_every_turn(bed: Bed) -> None:
    first = [{"role": "user", "content": LARGE}]
    later = [*first, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": "Two?"}]
    for messages in (first, later, [{"role": "user", "content": "y" + LARGE}]):
        await bed.post(chat(messages=messages))
    one, two, three = (call.head.affinity for call in bed.relay.calls)
    assert one == two != three


async def test_bodies_are_let_go_of(bed: Bed) -> None:
    for body in (chat(), chat(model="other"), b"{"):
        await bed.post(body)
    assert bed.metric("sluice_proxy_held_body_bytes") == 0
