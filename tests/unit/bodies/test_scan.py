"""The scanner compared with Python's JSON parser, for bodies in any spelling and cut anywhere; tricks too."""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.bodies import jsonorder
from sluice.bodies.jsonorder import MAX_DEPTH
from sluice.bodies.kinds import OTHER
from sluice.bodies.pieces import MAX_TOKENS
from sluice.bodies.positions import KINDS, NAMES, SCALARS, TEXTS
from sluice.bodies.prefix import MAX_PREFIX
from sluice.bodies.scan import MAX_KEY, BodyScanner
from sluice.errors import SluiceError
from sluice.proxy.api.spellings import other_spellings
from tests.trials import examples

DATA = "data:image/png;base64,iVBORw0KGgo="


def scan(raw: bytes, *cuts: int) -> BodyScanner:
    """Feed the body in pieces that end at `cuts`, and finish it."""
    scanner = BodyScanner("rerank")
    edges = [0, *sorted(cuts), len(raw)]
    for start, end in zip(edges, edges[1:]):
        scanner.feed(raw[start:end])
    scanner.finish()
    return scanner


def refusal(raw: bytes) -> str:
    """Return the error code of the body, which must be the same for the whole body and byte by byte."""
    codes = set()
    for cuts in ((), range(len(raw))):
        with pytest.raises(SluiceError) as caught:
            scan(raw, *cuts)
        codes.add(caught.value.code)
    assert len(codes) == 1
    return codes.pop()


# --- beside json.loads ----------------------------------------------------------------------------------

KEYS = st.sampled_from(
    ["model", "stream", "messages", "prompt", "content", "role", "text", "url", "uri", "image_url",
     "IMAGE_URL", "a_Uri", "urls", "curl", "type", "x", "é", "", 'q"\\uote', "\ud800"]
) | st.text(max_size=6)  # fmt: skip
WORDS = st.text(max_size=12) | st.sampled_from(
    [DATA, "data:", "http://x/", "user", "DATA:,", " data:", "\\", '"', '\\\\"', "日本",
     "\U0001f600", "{", "],"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(st.dictionaries(KEYS, VALUES, max_size=4) | VALUES, max_size=4)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.text(max_size=8),
        "stream": st.booleans() | st.none(),
        "messages": MESSAGES,
        "prompt": VALUES,
        "input": MESSAGES,
        "max_tokens": VALUES,
        "tools": VALUES,
        "zürl": VALUES,
    },
)


def write(value: Any, chance: random.Random) -> str:
    """Write JSON with random spaces and escapes: one document has many spellings."""
    gap = "".join(chance.choices(" \t\r\n", k=chance.choice((0, 0, 0, 1, 3))))
    if isinstance(value, dict):
        members = (gap + spell(key, chance) + gap + ":" + write(item, chance) for key, item in value.items())
        return gap + "{" + ",".join(members) + gap + "}" + gap
    if isinstance(value, list):
        return gap + "[" + ",".join(write(item, chance) for item in value) + gap + "]" + gap
    if isinstance(value, str):
        return gap + spell(value, chance) + gap
    return gap + json.dumps(value) + gap


def spell(text: str, chance: random.Random) -> str:
    """Write a string; half of the time, with escapes that are not necessary."""
    if chance.random() < 0.5:
        return json.dumps(text)
    return '"' + "".join(spell_character(character, chance) for character in text) + '"'


def spell_character(character: str, chance: random.Random) -> str:
    code = ord(character)
    if character == "/" and chance.random() < 0.5:
        return "\\/"
    if chance.random() < 0.2 and code < 0x10000:
        return f"\\u{code:04x}"
    surrogate = 0xD800 <= code < 0xE000
    return json.dumps(character, ensure_ascii=surrogate)[1:-1]


def refuses(top: Any) -> bool:
    """Return whether a document refers to media by address."""
    if isinstance(top, dict):
        return any(_bad(key, item) or refuses(item) for key, item in top.items())
    return isinstance(top, list) and any(map(refuses, top))


def _bad(key: str, item: Any) -> bool:
    name = key.lower()
    if name not in ("url", "uri") and not name.endswith(("_url", "_uri")):
        return False
    if isinstance(item, list):
        return any(_bad(key, one) for one in item)
    return isinstance(item, str) and not item.startswith("data:")


def _of_wrong_kind(name: str, value: Any) -> bool:
    kinds = KINDS[name][0] if name in KINDS else {type(value)}
    if value is None or type(value) in kinds:
        return False
    return not (int in kinds and isinstance(value, float) and value.is_integer())


@examples(400)
@given(BODIES, st.randoms(use_true_random=False), st.lists(st.integers(0, 400), max_size=6))
def test_reads_what_a_parser_reads(body: dict[str, Any], chance: random.Random, cuts: list[int]) -> None:
    raw = write(body, chance).encode()
    parsed = json.loads(raw)
    lone = "\\ud800" in ascii(parsed)
    expected = {"media_url_refused" for name in TEXTS if refuses(parsed.get(name))}
    if "model" not in parsed or any(itertools.starmap(_of_wrong_kind, parsed.items())):
        expected.add("invalid_request")
    found: list[object] = []
    for edges in ((), [cut for cut in cuts if cut < len(raw)], range(len(raw))):
        try:
            scanner = scan(raw, *edges)
        except SluiceError as error:
            # With escapes, an address may start with `data:` only after it is decoded.
            odd = error.code == "media_url_refused" and b"\\u" in raw
            assert error.code in expected or odd or lone
            found.append((error.code, error.param))
        else:
            assert not expected
            assert not lone
            assert scanner.model == parsed["model"]
            assert scanner.stream is parsed.get("stream")
            assert scanner.seen == NAMES & parsed.keys()
            literals = {name: parsed[name] for name in SCALARS if name in parsed}
            assert scanner.given == {
                name: OTHER if isinstance(value, (str, list, dict)) else value
                for name, value in literals.items()
            }
            found.append(scanner.prefix)
    assert lone or len(set(found)) == 1


@examples(400)
@given(BODIES, st.randoms(use_true_random=False), st.data())
def test_what_is_no_json_outside_strings_is_refused(
    body: dict[str, Any], chance: random.Random, data: st.DataObject
) -> None:
    raw = bytearray(write({"model": "m", **body}, chance).encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place : place + data.draw(st.integers(0, 2))] = data.draw(
        st.sampled_from(
            [b"", b",", b":", b"{", b"}", b"[", b"]", b'"', b"'", b"//", b"0", b"t", b"\\", b"NaN"]
        )
    )
    try:
        scanner = scan(bytes(raw))
    except SluiceError:
        return
    # A body that passes is JSON and is read the same, except for control characters and escapes in strings.
    try:
        parsed = json.loads(raw.decode(), strict=False)
    except ValueError as error:
        assert "escape" in str(error)
        return
    assert scanner.model == parsed["model"]


# --- by hand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model": "m"}',
        b' \n{"model": "m", "messages": []}\n',
        b'{"model": "m", "prompt": "https://example.org/ is text"}',
        '{"model": "m", "prompt": "Grüße, 日本"}'.encode(),
        b'{"m\\u006fdel": "m"}',
        b'{"model": "\\u006d"}',
        b'{"a": {"model": "n"}, "b": [{"model": "n"}], "model": "m", "c": {"model": {}}}',
        b'{"model": "m", "prompt": "\\"model\\": \\"n\\" \\\\"}',
        b'{"model": "m", "tools": [{"function": {"parameters": {"url": "http://x"}}}]}',
        b'{"model": "m", "messages": [{"image_url": {"url": "data:,"}}, "http://x", ["http://x"]]}',
        b'{"model": "m", "messages": [{"url": ["data:,"]}, [["http://x"], "http://x"]]}',
        b'{"model": "m", "messages": [{"url": {"detail": "http"}, "x": "http://x"}]}',
        b'{"model": "m", "a": [0, -0, 1.5e+3, 1E-2, true, false, null, [], {}, [[]]]}',
        b'{"model": "m", "prompt": [1, 2,3 ,\n4,0,5]}',
        b'{"model": "m", "prompt": "\\ud83d\\ude00\\uD83D\\uDE00 \\\\ud83d \\ud7ff\\ue000"}',
        b'{"model": "m", "stream_options": {"url": "http://x"}, "n": 1}',
    ],
)
def test_lets_through(raw: bytes) -> None:
    assert scan(raw).model == "m"
    assert scan(raw, *range(len(raw))).model == "m"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"  ",
        b"null",
        b'"model"',
        b"[]",
        b'[{"model": "m"}]',
        b'{"model": "m"',
        b'{"model": "m',
        b'{"model": "m"}\\',
        b'{"model": "m"} {"model": "n"}',
        b'{"model": "m"}{}',
        b'{"model": "m"},',
        b'{"model": "m"} x',
        b'{"model": "m"}"',
        b'{"model": "m"}1',
        b'\xef\xbb\xbf{"model": "m"}',
        '{"model": "m"}'.encode("utf-16"),
        '{"model": "m"}'.encode("utf-16-le"),
        '{"model": "m"}'.encode("utf-16-be"),
        '{"model": "m"}'.encode("utf-32-le"),
        b'{"model": "m", "prompt": "\xff"}',
        b'{"model": "m", "prompt": "\xc0\xa2"}',
        b'{"model": "m", "prompt": "\xed\xa0\x80"}',
        b'{"model": "m", "prompt": "a\x00b"}',
        b'{"model": "m"\x00}',
        b'{"model": "n", "model": "m"}',
        b'{"model": "m", "mod\\u0065l": "n"}',
        b'{"\\u006dodel": "m", "model": "n"}',
        b'{"model": "m", "stream": true, "stream": false}',
        b'{"model": "m", "messages": [], "messages": []}',
        b'{"model": "m", "input": [], "input": []}',
        b'{"model": "m", "max_tokens": 1, "max_tokens": 2}',
        b'{"model": "m", "Max_Tokens": 1}',
        b'{"model": "m", "STORE": true}',
        b'{"model": "m", "prompt": "\\ud83d"}',
        b'{"model": "m", "prompt": "\\ude00"}',
        b'{"model": "m", "prompt": "\\ud83d \\ude00"}',
        b'{"model": "m", "prompt": "\\ud83d\\ud83d\\ude00"}',
        b'{"model": "m", "prompt": "\\ud83d\\ude00\\ude00"}',
        b'{"model": "m", "\\udc00": 1}',
        b'{"model": "m", "a": NaN}',
        b'{"model": "m", "a": -Infinity}',
        b'{"model": "m", "a": 01}',
        b'{"model": "m", "a": [1 2]}',
        b'{"model": "m", "a": 1 2}',
        b'{"model": "m", "a": 1.}',
        b'{"model": "m", "a": +1}',
        b'{"model": "m", "a": tru}',
        b'{"model": "m", "a": truefalse}',
        b'{"model": "m", "a": [1,]}',
        b'{"model": "m",}',
        b'{,"model": "m"}',
        b'{"model": "m" "a": 1}',
        b'{"model" "m"}',
        b'{"model": : "m"}',
        b'{"model"}',
        b'{"model": "m", "a"}',
        b'{"model": "m", "a": ["b": 1]}',
        b'{"model": "m", 1: 2}',
        b'{"model": "m", "a": [}]',
        b'{"model": "m", "a": {]}',
        b"{'model': 'm'}",
        b'{"model": "m", /* "x" */ "a": 1}',
        b'{"model": "m" // "n"\n}',
        b'{\\"model": "m"}',
        b'{"model": \\"m"}',
        b'{"mod\\xel": "m"}',
        b'{"model": "\\x6d"}',
        b'{"model": "m", "a": ' + b"9" * 10_000 + b"}",
        b'{"model": "m", "' + b"k" * (MAX_KEY + 1) + b'": 1}',
        b'{"model": "m", "a": {"' + b"k" * (MAX_KEY + 1) + b'": 1}}',
        b'{"model": "m", "a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"model": "m", "a": ' + b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"}",
    ],
)
def test_refuses_what_is_not_one_json_object(raw: bytes) -> None:
    assert refusal(raw) == "malformed_json"


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"{}", "model"),
        (b'{"modes": "m"}', "model"),
        (b'{"a": {"model": "m"}}', "model"),
        (b'{"model": ["m"]}', "model"),
        (b'{"model": {"model": "m"}}', "model"),
        (b'{"model": {"content": "m"}}', "model"),
        (b'{"model": null}', "model"),
        (b'{"model": 5}', "model"),
        (b'{"model": "' + b"m" * (MAX_KEY + 1) + b'"}', "model"),
        (b'{"model": "m", "stream": "true"}', "stream"),
        (b'{"model": "m", "stream": 1}', "stream"),
        (b'{"model": "m", "stream": [true]}', "stream"),
        (b'{"model": "m", "stream": {"a": true}}', "stream"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(raw: bytes, param: str) -> None:
    assert refusal(raw) == "invalid_request"
    with pytest.raises(SluiceError) as caught:
        scan(raw)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/", "HTTP://example.org", "file:///etc/passwd", "//x", "/etc", " data:,",
     "\tdata:,", "DATA:,", "", "blob:1", "dat"],
)  # fmt: skip
@pytest.mark.parametrize(
    "part",
    [
        lambda url: {"type": "image_url", "image_url": {"url": url}},
        lambda url: {"type": "image_url", "image_url": url},
        lambda url: {"file": {"file_url": url}},
        lambda url: {"image_url": ["data:,", url]},
        lambda url: {"image_url": [{"url": DATA}, [], 1, url]},
        lambda url: {"image_url": {"url": DATA}, "video_url": url},
        lambda url: {"anything": [{"deep": {"URL": url}}]},
        lambda url: {"uri": url, "text": "x"},
    ],
)
@pytest.mark.parametrize("top", ["messages", "prompt", "input", "documents", "query"])
def test_refuses_media_by_address(part: Any, url: str, top: str) -> None:
    body = {"model": "m", top: [{"role": "user", "content": [{"type": "text", "text": "look"}, part(url)]}]}
    assert refusal(json.dumps(body).encode()) == "media_url_refused"


@pytest.mark.parametrize("key", ["ur\\u006c", "\\u0075rl", "image\\u005furl", "IMAGE_UR\\u004C"])
def test_an_escaped_key_names_a_url_all_the_same(key: str) -> None:
    raw = f'{{"model": "m", "messages": [{{"{key}": "http://x"}}]}}'.encode()
    assert refusal(raw) == "media_url_refused"


def test_a_url_that_starts_with_an_escape_is_refused() -> None:
    assert refusal(b'{"model": "m", "messages": [{"url": "\\u0064ata:,"}]}') == "media_url_refused"


def test_a_body_once_refused_is_never_found_good() -> None:
    scanner = BodyScanner("rerank")
    with pytest.raises(SluiceError):
        scanner.feed(b'{"model": "m", "model": "m"')
    with pytest.raises(SluiceError):
        scanner.finish()
    with pytest.raises(SluiceError):
        scanner.feed(b"}")
    with pytest.raises(SluiceError):
        scanner.finish()


def test_a_refusal_quotes_nothing_and_has_no_cause() -> None:
    for raw in (
        b'{"model": "m", "prompt": "canary"',
        b'{"mod\\xcanary": 1}',
        b'{"model": canary}',
        b'{"a": "\xffcanary"}',
    ):
        with pytest.raises(SluiceError) as caught:
            scan(raw)
        assert "canary" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_more_tokens_than_any_request_has_are_refused() -> None:
    scanner = BodyScanner("rerank")
    scanner.feed(b'{"model": "m", "prompt": [')
    with pytest.raises(SluiceError, match="tokens"):
        for _ in range(MAX_TOKENS // 20_000 + 1):
            scanner.feed(b"17," * 10_000)


def test_long_strings_and_numbers_pass_in_any_pieces() -> None:
    long = "x" * 300_000 + '\\"' * 20_000 + "日本" * 20_000
    body = {"messages": [{"content": long, "url": "data:" + long}], "model": "m", "n": 10**1000}
    raw = json.dumps(body, ensure_ascii=False).encode()
    for step in (1021, 65_536, len(raw)):
        assert scan(raw, *range(0, len(raw), step)).model == "m"


def test_memory_does_not_grow_with_the_body() -> None:
    scanner = BodyScanner("rerank")
    pieces = [
        b'{"messages":[',
        b'{"role":"user","content":"' + b'a\\n\\"' * 12_000 + b'","url":["data:,"]},',
        b"1]",
    ]
    scanner.feed(pieces[0] + pieces[1])
    tracemalloc.start()
    try:
        for _ in range(100):
            scanner.feed(pieces[1])
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 32_768
    assert peak < 1_000_000
    scanner.feed(pieces[2] + b',"model":"m"}')
    assert scanner.finish() == "m"


# --- the text that makes conversations alike ------------------------------------------------------------


def chat(*messages: dict[str, Any]) -> bytes:
    return scan(json.dumps({"model": "m", "messages": messages}).encode()).prefix


@pytest.mark.parametrize("order", [("role", "content"), ("content", "role")])
def test_later_turns_do_not_change_the_prefix(order: tuple[str, str]) -> None:
    turns = [("system", "be brief"), ("user", "hello"), ("assistant", "hi"), ("user", "bye")]
    messages = [
        dict(sorted({"role": r, "content": c}.items(), key=lambda i: order.index(i[0]))) for r, c in turns
    ]
    first = chat(*messages[:2])
    assert first == b"be brief\nhello\n"
    assert chat(*messages) == first
    assert chat(messages[0], {**messages[1], "content": "other"}, *messages[2:]) != first


def test_the_prefix_has_the_text_of_parts_and_prompts_and_is_bounded() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": DATA}}]
    assert chat({"role": "user", "content": parts}) == b"look\n"
    assert scan(b'{"model": "m", "prompt": "once"}').prefix == b"once\n"
    assert scan(b'{"model": "m", "prompt": ["once", "upon"]}').prefix == b"once\nupon\n"
    assert scan(b'{"model": "m", "tools": [{"text": "no"}], "prompt": [1, 2]}').prefix == b""
    long = chat({"role": "system", "content": "a" * 3000}, {"role": "user", "content": "b" * 100_000})
    assert long == b"a" * 3000 + b"\n" + b"b" * (MAX_PREFIX - 3001)


@pytest.mark.parametrize(
    "name",
    [
        "Model",
        "MESSAGES",
        "me\u017f\u017fages",
        "pRompt",
        "\\u004dessages",
        "Stream",
        "max_to\u212aens",
        "me\u00dfages",
    ],
)
def test_a_name_that_counts_in_another_case_is_refused(name: str) -> None:
    """Some parsers ignore case and use the last name: they would read a value that was not checked."""
    assert (
        refusal(f'{{"model":"a","messages":[],"{name}":[{{"url":"http://x/"}}]}}'.encode())
        == "malformed_json"
    )


def pieces() -> dict[str, list[str]]:
    """Return all characters whose case folding is plain letters, by these letters."""
    found: dict[str, list[str]] = {}
    for code in range(sys.maxunicode + 1):
        folded = chr(code).casefold()
        if re.fullmatch("[a-z_]{1,3}", folded):
            found.setdefault(folded, []).append(chr(code))
    return found


PIECES = pieces()


@given(st.sampled_from(sorted(TEXTS + SCALARS)), st.randoms(use_true_random=False))
def test_a_name_is_refused_just_where_the_description_says_so(name: str, chance: random.Random) -> None:
    spelt = ""
    while len(spelt.casefold()) < len(name):
        rest = name[len(spelt.casefold()) :]
        spelt += chance.choice(PIECES[chance.choice([one for one in PIECES if rest.startswith(one)])])
    body = json.dumps({"model": "a", "messages": [], **({} if spelt == "messages" else {spelt: None})})
    refused = bool(re.search(other_spellings(), spelt))
    assert refused is (spelt != name)
    if refused:
        assert refusal(body.encode()) == "malformed_json"
    else:
        assert scan(body.encode()).model == "a"


@pytest.mark.parametrize("name", ["x", "Messages_", "nn", "ma\u00dfes", "mod\u00e9l", "stre\u00e4m"])
def test_another_name_is_no_other_spelling(name: str) -> None:
    assert not re.search(other_spellings(), name)
    assert scan(json.dumps({"model": "a", "messages": [], name: None}).encode()).model == "a"


def test_gaps_that_nobody_writes_twice_are_not_remembered_for_ever() -> None:
    """The effect of each gap is remembered; a peer that never repeats one must not fill the memory."""
    for number in range(3 * jsonorder._MOST_KNOWN):
        spaces = format(number, "b").replace("0", " ").replace("1", "\t").encode()
        scan(b'{"model":' + spaces + b'"m"' + spaces + b"}")
    known = sum(len(point) + len(point.ends) for point in jsonorder._POINTS.values())
    assert known <= jsonorder._MOST_KNOWN
    assert len(jsonorder._POINTS) <= 2 * jsonorder._MOST_KNOWN


def test_a_long_name_is_refused_before_it_ends() -> None:
    for start in (b'{"model":"m","tools":[{"', b'{"', b'{"messages":[{"'):
        scanner = BodyScanner("chat")
        scanner.feed(start)
        with pytest.raises(SluiceError, match="key longer than 1024 bytes"):
            scanner.feed(b"x" * 1025)


def test_a_string_where_none_may_be_is_refused_before_it_ends() -> None:
    scanner = BodyScanner("chat")
    scanner.feed(b'{"model":"m"')
    with pytest.raises(SluiceError, match="where JSON allows none"):
        scanner.feed(b'"x')
