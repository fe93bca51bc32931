"""What an engine compiles is bounded in every field, for bodies of every size, cut anywhere."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.bodies.costs import DEFAULTS, WORDS, Bounds, Costs, Excess, ambiguity, loosest, repetitions
from sluice.bodies.scan import BodyScanner
from sluice.errors import SluiceError
from sluice.proxy.api import openapi
from tests.trials import examples

USER = [{"role": "user", "content": "Hello?"}]
# All positions at which engines accept a schema: each function puts one into a body.
SCHEMA_PLACES: dict[str, Any] = {
    "response_format": lambda s: {"response_format": {"type": "json_schema", "json_schema": {"schema": s}}},
    "structured_outputs": lambda s: {"structured_outputs": {"json": s}},
    "structured_outputs as text": lambda s: {"structured_outputs": {"json": json.dumps(s)}},
    "guided_json": lambda s: {"guided_json": s},
    "guided_json as text": lambda s: {"guided_json": " " + json.dumps(s)},
    "json_schema": lambda s: {"json_schema": s},
    "chat's tools": lambda s: {"tools": [{"type": "function", "function": {"name": "f", "parameters": s}}]},
    "responses' tools": lambda s: {"tools": [{"type": "function", "name": "f", "parameters": s}]},
    "messages' tools": lambda s: {"tools": [{"name": "f", "input_schema": s}]},
    "functions": lambda s: {"functions": [{"name": "f", "parameters": s}]},
    "text.format": lambda s: {"text": {"format": {"type": "json_schema", "schema": s}}},
    "output_config": lambda s: {"output_config": {"format": {"type": "json_schema", "schema": s}}},
    "structural_tag": lambda s: {
        "response_format": {"type": "structural_tag", "structures": [{"begin": "<", "schema": s, "end": ">"}]}
    },
    "structural_tag as text": lambda s: {
        "structured_outputs": {"structural_tag": json.dumps({"structures": [{"begin": "<", "schema": s}]})}
    },
}
PATTERN_PLACES: dict[str, Any] = {
    "pattern": lambda p: {"response_format": {"json_schema": {"schema": {"pattern": p}}}},
    "patternProperties": lambda p: {"guided_json": {"patternProperties": {p: {}}}},
    "structured_outputs": lambda p: {"structured_outputs": {"regex": p}},
    "guided_regex": lambda p: {"guided_regex": p},
    "a tool's": lambda p: {"tools": [{"name": "f", "input_schema": {"properties": {"a": {"pattern": p}}}}]},
    "in a text": lambda p: {"guided_json": json.dumps({"pattern": p})},
}


def nested(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"anyOf": [schema]}
    return schema


def lengths(*numbers: int) -> Any:
    return {"properties": {f"p{n}": {"type": "string", "maxLength": n} for n in numbers}}


# For each bound: a body that exceeds it, and one that is just within it.
SCHEMAS: dict[str, tuple[Any, Any]] = {
    "bytes": ({"const": "x" * 65_600}, {"const": "x" * 60_000}),
    "depth": (nested(60), nested(10)),
    "values": ({"enum": list(range(5_000))}, {"enum": list(range(4_000))}),
    "alternatives": ({"anyOf": [{"type": "string"}] * 600}, {"anyOf": [{"type": "string"}] * 500}),
    "properties": (
        {"properties": {f"p{n}": {} for n in range(130)}},
        {"properties": {f"p{n}": {} for n in range(120)}},
    ),
    "lengths": (lengths(100, 101, 102), lengths(100, 20)),
    "ranges": (
        {"prefixItems": [{"minimum": n, "maximum": 2 * n} for n in range(33)]},
        {"prefixItems": [{"minimum": n, "maximum": 2 * n} for n in range(32)]},
    ),
    "repetition": ({"type": "array", "maxItems": 1_000_000}, {"type": "array", "maxItems": 10_000}),
}
PATTERNS: dict[str, tuple[str, str]] = {
    "repeats": ("(a*b*c*)*" * 9, "(a*b*c*)*" * 8),
    "ways": ("(a?){9}", "(a?){8}"),
    "pattern_bytes": ("é" * 4_100, "é" * 4_000),
    "lengths": ("[a-z]{100}" * 3, "[a-z]{100}" * 2),
    "repetition": ("a{200000}", "a{1000}"),
}


def verdict(
    more: dict[str, Any], step: int, bounds: Bounds = DEFAULTS, pad: int = 0, of: str = "chat"
) -> str:
    """Return the message that refuses the body, "" for none."""
    raw = json.dumps(
        {"pad": "x" * pad, "model": "m", "messages": USER, "prompt": "x", "input": "x", **more, "end": 1}
    ).encode()
    scanner = BodyScanner(of, bounds)
    try:
        for start in range(0, len(raw), step):
            scanner.feed(raw[start : start + step])
        scanner.finish()
    except SluiceError as error:
        assert error.code == "invalid_request"
        assert error.param
        assert f"`{error.param}`" in error.message
        return error.message
    return ""


@pytest.mark.parametrize("what", SCHEMAS)
@pytest.mark.parametrize("place", SCHEMA_PLACES)
def test_a_schema_is_bounded_wherever_engines_take_one(place: str, what: str) -> None:
    beyond, within = (SCHEMA_PLACES[place](schema) for schema in SCHEMAS[what])
    for step, pad in ((65_536, 0), (1_021, 0), (16_384, 70_000)):
        told = verdict(beyond, step, pad=pad)
        assert f"at most {getattr(DEFAULTS, what)} {WORDS[what]}" in told
        assert verdict(within, step, pad=pad) == ""


@pytest.mark.parametrize("what", PATTERNS)
@pytest.mark.parametrize("place", PATTERN_PLACES)
def test_a_regular_expression_is_bounded_wherever_engines_take_one(place: str, what: str) -> None:
    if (place, what) == ("patternProperties", "pattern_bytes"):
        return  # no name may be as long
    beyond, within = (PATTERN_PLACES[place](pattern) for pattern in PATTERNS[what])
    for step in (65_536, 7):
        assert f"at most {getattr(DEFAULTS, what)} {WORDS[what]}" in verdict(beyond, step)
        assert verdict(within, step) == ""


SCORED: dict[str, dict[str, Any]] = {
    "prompt_logprobs": {"prompt_logprobs": 20},
    "none but the token's own": {"prompt_logprobs": 0},
    "all": {"prompt_logprobs": -1},
    "a number as text": {"prompt_logprobs": "5"},
    "echo of a completion": {"echo": True, "logprobs": 1},
    "echo of a completion with none": {"echo": True, "logprobs": 0},
    "echo of a chat": {"echo": True, "logprobs": True, "top_logprobs": 3},
    "echo of a chat with places alone": {"echo": True, "top_logprobs": 0},
}


@pytest.mark.parametrize("capability", ["chat", "completions", "responses", "messages"])
@pytest.mark.parametrize("what", SCORED)
def test_a_prompt_is_scored_only_within_the_clusters_bound(what: str, capability: str) -> None:
    for step in (1, 65_536):
        assert "at most 0 bytes with log probabilities" in verdict(SCORED[what], step, of=capability)
        some = Bounds(scored_bytes=500)
        assert verdict(SCORED[what], step, some, of=capability) == ""
        assert "at most 500 bytes" in verdict(SCORED[what], step, some, pad=600, of=capability)


@pytest.mark.parametrize(
    "more",
    [
        {"prompt_logprobs": None},
        {"echo": True},
        {"echo": False, "logprobs": 1},
        {"logprobs": True, "top_logprobs": 5},
        {"echo": True, "logprobs": False},
        {"echo": True, "logprobs": None},
    ],
)
def test_what_scores_no_prompt_is_let_through(more: dict[str, Any]) -> None:
    assert verdict(more, 7) == ""


@pytest.mark.parametrize("name", ["guided_grammar", "grammar"])
def test_a_grammar_is_refused_unless_the_cluster_allows_it_and_then_bounded(name: str) -> None:
    some = Bounds(grammar_bytes=2_048)
    assert "at most 0 bytes of grammars" in verdict({name: 'root ::= "a"'}, 65_536)
    assert "at most 2048 bytes of grammars" in verdict({name: 'root ::= "a"\n' * 200}, 65_536, some)
    assert "repetition signs" in verdict({name: "root ::= " + "[a-z]+ " * 40}, 65_536, some)
    assert verdict({name: 'root ::= [a-z]+ "=" [0-9]{1,20}'}, 65_536, some) == ""
    for more in (
        {"structured_outputs": {"grammar": "r ::= e"}},
        {"tools": [{"type": "custom", "format": {"type": "grammar", "definition": "start: e"}}]},
    ):
        assert "bytes of grammars" in verdict(more, 3)
        assert verdict(more, 3, some) == ""


def test_choices_and_lists_are_bounded() -> None:
    assert "alternatives" in verdict({"structured_outputs": {"choice": ["x"] * 600}}, 65_536)
    assert "alternatives" in verdict({"guided_choice": ["x"] * 600}, 65_536)
    assert verdict({"guided_choice": ["x"] * 500}, 65_536) == ""
    for name in ("stop", "stop_sequences", "bad_words", "stop_token_ids", "allowed_token_ids"):
        assert "names and items" in verdict({name: ["x"] * 5_000}, 65_536)
        assert verdict({name: ["x"] * 100}, 65_536) == ""
    assert "names and items" in verdict({"logit_bias": {str(n): 1 for n in range(5_000)}}, 65_536)


def test_tools_are_bounded_by_number_and_their_words_are_free() -> None:
    tools = [
        {"type": "function", "function": {"name": f"f{n}", "description": "word " * 500, "parameters": {}}}
        for n in range(129)
    ]
    assert "at most 128 tools" in verdict({"tools": tools}, 65_536)
    assert verdict({"tools": tools[:128]}, 65_536) == ""


@pytest.mark.parametrize("step", [1 << 20, 65_536, 1_021])
def test_words_for_people_are_free_however_long_and_cut(step: int) -> None:
    tools = [{"name": "f", "description": "word " * 30_000, "input_schema": {"title": "x" * 70_000}}]
    assert verdict({"tools": tools}, step) == ""


def test_a_bound_is_of_the_whole_request_not_of_each_schema() -> None:
    tools = [{"name": f"f{n}", "input_schema": {"anyOf": [{"type": "string"}] * 200}} for n in range(3)]
    assert verdict({"tools": tools[:2]}, 65_536) == ""
    assert "alternatives" in verdict({"tools": tools}, 65_536)
    assert "alternatives" in verdict(
        {"tools": tools[:2], "response_format": {"anyOf": [{"type": "string"}] * 200}}, 65_536
    )


def test_many_pairs_of_lengths_cannot_hide_behind_few_numbers() -> None:
    """Each pair of a shortest and a longest text is compiled by itself."""
    pairs = {f"p{n}": {"minLength": n, "maxLength": 100} for n in range(2, 20)}
    assert "repetitions" in verdict({"guided_json": {"properties": pairs}}, 65_536)
    same = {f"p{n}": {"minLength": 1, "maxLength": 200} for n in range(100)}
    assert verdict({"guided_json": {"properties": same}}, 65_536) == ""


def test_a_name_that_is_a_persons_own_is_no_keyword() -> None:
    words = ("pattern", "maxLength", "grammar", "regex", "enum", "schema", "minimum")
    names = {name: {"type": "string"} for name in words}
    assert verdict({"guided_json": {"type": "object", "properties": names}}, 65_536) == ""


def test_names_may_be_written_with_escapes_and_count_all_the_same() -> None:
    raw = b'{"model":"m","guided_json":{"max\\u004cength":200,"a":{"m\\u0061xLength":101}}}'
    scanner = BodyScanner("chat")
    with pytest.raises(SluiceError, match="repetitions"):
        scanner.feed(raw)


def test_what_is_in_a_text_is_json_or_no_schema() -> None:
    assert "must be JSON" in verdict({"guided_json": '{"a": NaN}'}, 65_536)
    assert "must be JSON" in verdict({"guided_json": '{"a": '}, 65_536)
    assert verdict({"guided_json": "none"}, 65_536) == ""


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a*b+c?", (3, [])),
        ("(a|b|)(|c)d||e", (3, [])),
        ('"a" | "" | b', (1, [])),
        (r"\*\+\{5}", (0, [])),
        ("a{5}b{2,7}c{3,}", (1, [5, 7, 3])),
        ("a{,9}b{0,3}", (2, [9, 3])),
        ("a{" + "9" * 500 + "}", (0, [1 << 60])),
        ("a{x}", (0, [])),
        ("", (0, [])),
    ],
)
def test_repetitions_are_counted(pattern: str, found: tuple[int, list[int]]) -> None:
    assert repetitions(pattern) == found


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 200) | st.sampled_from(["a*", "(x{3})+", '{"a": 1}', ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["anyOf", "properties", "pattern", "maxLength", "minLength", "enum", "json", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@examples(200)
@given(JSON_VALUES, st.sampled_from(sorted(SCHEMA_PLACES)), st.integers(1, 50))
def test_a_verdict_does_not_depend_on_how_the_body_is_cut(schema: Any, place: str, step: int) -> None:
    tight = Bounds(bytes=40, depth=8, values=20, alternatives=2, properties=2, lengths=150, repeats=1)
    more = SCHEMA_PLACES[place](schema)
    whole = verdict(more, 1 << 20, tight)
    assert bool(verdict(more, step, tight)) == bool(whole)
    assert bool(verdict(more, 1, tight)) == bool(whole)


def test_a_long_text_that_counts_costs_no_more_than_its_bytes() -> None:
    """It is kept while it arrives; even in single bytes, the cost must not be the square of its length."""
    raw = json.dumps({"model": "m", "guided_grammar": "x" * 60_000}).encode()
    scanner = BodyScanner("chat", Bounds(grammar_bytes=100_000))
    began = time.process_time()
    for index in range(len(raw)):
        scanner.feed(raw[index : index + 1])
    assert time.process_time() - began < 10
    assert len(scanner._string) == 0


def test_of_several_clusters_bounds_the_loosest_of_each_lets_through() -> None:
    one, other = Bounds(depth=5, tools=200), Bounds(depth=50, tools=2)
    assert loosest(one, other) == replace(DEFAULTS, depth=50, tools=200)
    assert loosest(one) == one


def test_the_description_tells_each_bound() -> None:
    told = openapi.document(Bounds(tools=77))["info"]["description"]
    assert "- 77 tools" in told
    others = [one.name for one in fields(Bounds) if one.name != "tools"]
    assert all(f"{getattr(DEFAULTS, name)} {WORDS[name]}" in told for name in others)
    assert WORDS.keys() == {one.name for one in fields(Bounds)}


@pytest.mark.parametrize("name", [one.name for one in fields(Bounds)])
def test_a_bound_below_nothing_is_no_bound(name: str) -> None:
    assert name in Bounds(**{name: -1}).problem()
    assert Bounds().problem() == ""


@pytest.mark.parametrize(
    "pattern",
    [
        "(.{0,9}){0,9}x",
        "(.{0,50}){0,50}x",
        "(.{0,9})*x",
        "(.{0,9})+",
        "(.{0,9}){3,}",
        ".{0,9}" * 3 + "x",
        "(.?)" * 10 + "x",
        "(.?){16}x",
        "(((a?){4}){4}){4}",
        "(?:.{0,9}){0,9}",
        "[](.{0,9}){0,9}]",
        "[^](.{0,9}){0,9}x]",
        r"\((.{0,9}){0,9}\)",
    ],
)
def test_a_pattern_that_takes_a_text_apart_in_many_ways_is_refused(pattern: str) -> None:
    """One such request of sixteen characters stopped a model for all users until its job was cancelled."""
    with pytest.raises(Excess) as caught:
        Costs(Bounds()).pattern(pattern)
    assert caught.value.what == "ways"


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\d{1,3}\.){3}\d{1,3}",
        r"\d{1,3}(,\d{3})*(\.\d{1,2})?",
        r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$",
        r"(,\s*[a-z]+)*",
        r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?",
        r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})",
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        ".{0,128}",
    ],
)
def test_patterns_as_people_write_them_pass(pattern: str) -> None:
    Costs(Bounds()).pattern(pattern)


@given(st.text("(){},?*+|[]\\a.019^", max_size=200))
def test_whatever_a_pattern_is_its_ways_are_counted(pattern: str) -> None:
    ways = ambiguity(pattern)
    assert 0 <= ways < float("inf")
    assert ambiguity(f"({pattern}){{0,9}}") >= 0


def text(**more: int) -> dict[str, Any]:
    return {"type": "string", **more}


@pytest.mark.parametrize(
    "properties",
    [
        {"name": text(maxLength=100), "city": text(maxLength=101)},
        {
            "name": text(minLength=1, maxLength=40),
            "zip": text(minLength=5, maxLength=10),
            "note": text(maxLength=200),
        },
        {f"p{n}": text(minLength=1, maxLength=500) for n in range(100)},
        {
            "tags": {"type": "array", "items": text(maxLength=50), "minItems": 1, "maxItems": 20},
            "a": text(maxLength=80),
        },
        {
            "code": {"type": "string", "pattern": r"^[A-Z]{2}-?\d{4}$"},
            "mail": {"type": "string", "format": "email"},
        },
        {"any": {"type": "object", "minProperties": 1, "maxProperties": 10, "additionalProperties": True}},
    ],
)
def test_schemas_as_people_write_them_pass(properties: dict[str, Any]) -> None:
    assert verdict({"guided_json": {"type": "object", "properties": properties}}, 65_536) == ""


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"properties": {f"p{n}": text(maxLength=200 + n) for n in range(2)}}, "repetitions"),
        ({"anyOf": [{"pattern": ".?" * 8 + str(n)} for n in range(40)]}, "repetitions"),
        (
            {"properties": {f"o{o}": {"properties": {f"p{n}": True for n in range(120)}} for o in range(9)}},
            "8 times as many in all",
        ),
        ({"minProperties": 1, "properties": {f"p{n}": {} for n in range(100)}}, "`minProperties`"),
        ({"properties": {f"p{n}": {} for n in range(100)}, "maxProperties": 50}, "`minProperties`"),
    ],
)
def test_what_a_compiler_was_measured_to_work_on_for_seconds_is_refused(schema: Any, told: str) -> None:
    for step in (1 << 20, 1_021, 7):
        assert told in verdict({"guided_json": schema}, step)
        assert told in verdict({"guided_json": json.dumps(schema)}, step)


def test_a_schema_within_a_text_counts_for_its_own_objects_alone() -> None:
    """The counts of the objects around it continue unchanged."""
    inner = json.dumps({"properties": {f"i{n}": {} for n in range(100)}})
    names: dict[str, Any] = {f"p{n}": {} for n in range(100)}
    assert verdict({"structured_outputs": {"properties": {**names, "json": inner}}}, 65_536) == ""
    more = {**names, "json": inner, **{f"q{n}": {} for n in range(30)}}
    assert "properties of one object" in verdict({"structured_outputs": {"properties": more}}, 65_536)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"use_beam_search": True, "length_penalty": 1e6}, "length_penalty"),
        ({"use_beam_search": True, "length_penalty": -1e6}, "length_penalty"),
        ({"length_penalty": "much"}, "length_penalty"),
        ({"guided_json": {"$ref": "#"}}, "guided_json.$ref"),
        ({"guided_json": '{"$ref": "#"}'}, "schema.$ref"),
        ({"tools": [{"name": "f", "input_schema": {"$ref": "#"}}]}, "tools[].input_schema.$ref"),
        (
            {"guided_json": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}},
            "guided_json.$defs.….$ref",
        ),
        (
            {"structured_outputs": {"structural_tag": {"format": {"type": "token", "token": 5}}}},
            "structured_outputs.structural_tag.….token",
        ),
        (
            {"response_format": {"type": "structural_tag", "format": {"exclude_tokens": [1]}}},
            "response_format.….exclude_tokens",
        ),
        (
            {"structured_outputs": {"structural_tag": '{"format": {"trigger_tokens": [1]}}'}},
            "schema.….trigger_tokens",
        ),
    ],
)
def test_what_engines_are_known_to_fail_on_is_told_by_its_field(more: dict[str, Any], param: str) -> None:
    """Otherwise it would break the attempt, and its user would be told that the instance failed."""
    for step in (1 << 20, 3):
        assert f"`{param}`" in verdict(more, step)


@pytest.mark.parametrize(
    "more",
    [
        {"use_beam_search": True, "length_penalty": 1.2},
        {"length_penalty": None},
        {"guided_json": {"type": "object", "properties": {"next": {"$ref": "#"}, "schema": {"$ref": "#"}}}},
        {"guided_json": {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {}}, "$ref": "#/$defs/a"}},
        {"guided_json": {"properties": {"token": {"type": "string"}, "exclude_tokens": {"type": "array"}}}},
        {"guided_json": {"properties": {"$ref": {"type": "string"}}}},
    ],
)
def test_what_only_resembles_it_passes(more: dict[str, Any]) -> None:
    assert verdict(more, 65_536) == ""


@pytest.mark.parametrize(
    "number", ["-1e999", "1e999", "-1e308", "1e308", "-" + "9" * 1000, "9" * 1000, "-0.0"]
)
@pytest.mark.parametrize("name", ["minLength", "maxLength", "minItems", "maxItems", "minProperties"])
def test_a_number_beyond_all_floats_is_counted_or_refused_and_no_fault(name: str, number: str) -> None:
    schema = f'{{"type": "object", "properties": {{"p": {{"{name}": {number}}}}}}}'
    for written in (schema, json.dumps(schema)):
        scanner = BodyScanner("chat")
        try:
            scanner.feed(f'{{"model": "m", "guided_json": {written}}}'.encode())
        except SluiceError as error:
            assert error.code == "invalid_request"
            assert not number.startswith("-")
        else:
            assert number.startswith("-")


@pytest.mark.parametrize(
    "unit", ["[", "[]", "[^", "[\\\\", "{", "{9", "9", "{9,", "(", "()", ")", "(|", "\\", "a?"]
)
@pytest.mark.parametrize("start", ["", "{", "{1,", "[", "[^]"])
def test_to_count_a_pattern_costs_no_more_than_its_bytes(start: str, unit: str) -> None:
    """A search for a missing end from each position again would cost the square of the length."""
    costs = Costs(Bounds(pattern_bytes=1 << 20, repeats=1 << 30, lengths=1 << 30))
    began = time.process_time()
    with contextlib.suppress(Excess):
        costs.pattern(start + unit * 20_000)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("end", ["", ', "x": 1'])
def test_what_goes_beyond_at_the_end_of_its_field_names_that_field(end: str) -> None:
    scanner = BodyScanner("chat", Bounds(values=3))
    with pytest.raises(SluiceError) as caught:
        scanner.feed(b'{"model": "m", "guided_json": {"enum": [1, 2, 3, 4]}' + end.encode() + b"}")
        scanner.finish()
    assert caught.value.param in ("guided_json", "guided_json.enum")


# Behind a field that is counted: names that must be recognised, whatever the bounds on their bytes.
BEHIND = {
    "a schema": b'"guided_json": {"properties": {"a": {}, "b": {}}}',
    "scored tokens": b'"prompt_logprobs": 1',
    "the model again": b'"model": "other"',
    "other servers": b'"mcp_servers": [{"url": "http://192.0.2.1/"}]',
    "an address": b'"messages": [{"role": "user", "content": [{"image_url": "http://192.0.2.1/"}]}]',
    "a kind": b'"temperature": "hot"',
}


@pytest.mark.parametrize("most", [0, 1, 5])
@pytest.mark.parametrize("what", BEHIND)
def test_small_bounds_hide_no_name_that_is_cut(what: str, most: int) -> None:
    """A stricter cluster must not be a weaker one: names are always read whole."""
    raw = b'{"model": "m", "logit_bias": {}, ' + BEHIND[what] + b"}"
    bounds = Bounds(bytes=most, pattern_bytes=most)
    for cut in range(1, len(raw)):
        with pytest.raises(SluiceError):
            scanner = BodyScanner("chat", bounds)
            scanner.feed(raw[:cut])
            scanner.feed(raw[cut:])
            scanner.finish()


def test_places_are_counted_also_where_a_name_is_cut_behind_small_bounds() -> None:
    raw = b'{"model": "m", "logit_bias": {}, "best_of": 64}'
    for cut in range(1, len(raw)):
        scanner = BodyScanner("chat", Bounds(bytes=0, pattern_bytes=0))
        scanner.feed(raw[:cut])
        scanner.feed(raw[cut:])
        scanner.finish()
        assert scanner.places == 64


def test_a_number_of_places_fits_into_a_message() -> None:
    scanner = BodyScanner("chat")
    scanner.feed(b'{"model": "m", "n": ' + b"9" * 900 + b"}")
    scanner.finish()
    assert scanner.places == 1_000_000
