"""What a body must be: one table of what is let through, one of what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice.errors import SluiceError
from sluice.relay.body import check

DATA = "data:image/png;base64,iVBORw0KGgo="


def messages(*parts: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": list(parts)}]}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": "m"}',
        b' \n{"model": "m", "messages": []}\n',
        b'{"model": "m", "prompt": "https://example.org/ is text"}',
        '{"model": "m", "prompt": "Grüße, 日本"}'.encode(),
        b'{"model": "m", "prompt": "\\ud83d\\ude00"}',
        b'{"model": "m", "messages": "not a list: the engine says so"}',
        messages({"type": "text", "text": "see http://example.org"}),
        messages({"type": "image_url", "image_url": {"url": DATA}}),
        messages({"type": "image_url", "image_url": DATA}),
        messages({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        b'{"model": "m", "tools": [{"function": {"parameters": {"url": {"type": "string"}}}}]}',
    ],
)
def test_lets_through(raw: bytes) -> None:
    check(raw, "m")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/cat.png",
        "HTTP://example.org",
        "file:///etc/passwd",
        "ftp://example.org",
        "//example.org",
        "/etc/passwd",
        " data:image/png;base64,AA",
        "\tdata:,",
        "DATA:image/png;base64,AA",
        "",
        "blob:1",
    ],
)
@pytest.mark.parametrize(
    "part",
    [
        lambda url: {"type": "image_url", "image_url": {"url": url}},
        lambda url: {"type": "image_url", "image_url": url},
        lambda url: {"type": "video_url", "video_url": {"url": url}},
        lambda url: {"type": "audio_url", "audio_url": {"url": url}},
        lambda url: {"type": "input_image", "image_url": url},
        lambda url: {"type": "file", "file": {"file_url": url}},
        lambda url: {"image_url": [url]},
        lambda url: {"anything": [{"deep": {"URL": url}}]},
        lambda url: {"uri": url},
    ],
)
def test_refuses_media_by_url(part: Any, url: str) -> None:
    with pytest.raises(SluiceError) as caught:
        check(messages({"type": "text", "text": "look"}, part(url)), "m")
    assert caught.value.code == "media_url_refused"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "malformed_json"),
        (b"null", "malformed_json"),
        (b'"m"', "malformed_json"),
        (b'{"model": "m"} {"model": "n"}', "malformed_json"),
        (b'\xef\xbb\xbf{"model": "m"}', "malformed_json"),
        ('{"model": "m"}'.encode("utf-16"), "malformed_json"),
        (b'{"model": "m", "prompt": "\xff"}', "malformed_json"),
        (b'{"model": "n", "model": "m"}', "malformed_json"),
        (b'{"model": "m", "mod\\u0065l": "n"}', "malformed_json"),
        (b'{"model": "m", "a": {"b": 1, "b": 2}}', "malformed_json"),
        (b'{"model": "m", "a": NaN}', "malformed_json"),
        (b'{"model": "m", "a": -Infinity}', "malformed_json"),
        (b'{"model": "m", "a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "malformed_json"),
        (b'{"model": "m", "a": ' + b"9" * 10_000 + b"}", "malformed_json"),
        (b"{'model': 'm'}", "malformed_json"),
        (b'{"Model": "m"}', "invalid_request"),
        (b'{"model": ["m"]}', "invalid_request"),
        (b'{"model": null}', "invalid_request"),
        (b'{"model": "M"}', "model_mismatch"),
        (b'{"model": "m\\u0000"}', "model_mismatch"),
        (b'{"model": ""}', "model_mismatch"),
    ],
)
def test_refuses(raw: bytes, code: str) -> None:
    with pytest.raises(SluiceError) as caught:
        check(raw, "m")
    assert caught.value.code == code


def test_a_refusal_quotes_nothing_and_has_no_cause() -> None:
    with pytest.raises(SluiceError) as caught:
        check(b'{"model": "m", "prompt": "canary"', "m")
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__
