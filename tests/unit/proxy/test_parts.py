"""The small pure parts: counting tokens, demand, configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.bodies.costs import Bounds
from sluice.config import load
from sluice.errors import ConfigError, SluiceError
from sluice.proxy.bodies.body import BodySummary, parse, summary_of
from sluice.proxy.clusters.demand import Demand
from sluice.proxy.config import ClusterConfig, ProxyConfig
from sluice.proxy.config import check as check_config
from sluice.proxy.requests.tokens import TokenCount, TokenMeter

from .conftest import event

# --- tokens ---------------------------------------------------------------------------------------------


def count(data: bytes, size: int, capability: str = "chat") -> TokenCount:
    meter = TokenMeter(capability)
    for at in range(0, len(data), size):
        meter.feed(data[at : at + size])
    return meter.count()


STREAM = b"".join(event(word) for word in ("a", "b", "c", 'say "usage": {"prompt_tokens": 9}', "d"))
FINAL = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6,"details":{"cached":1}}}\n\n'


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_chunks_are_counted_however_the_bytes_are_cut(size: int) -> None:
    assert count(STREAM, size) == TokenCount(0, 5, measured=False)


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_the_engines_own_figures_win(size: int) -> None:
    assert count(STREAM + FINAL + b"data: [DONE]\n\n", size) == TokenCount(5, 6, measured=True)


def test_completions_are_counted_by_their_text() -> None:
    data = b'data: {"choices":[{"text":"a"}]}\n\n' * 4
    assert count(data, 11, "completions").output == 4


def test_what_a_model_writes_is_never_taken_for_figures() -> None:
    text = '{"usage": {"prompt_tokens": 1000000, "completion_tokens": 1000000}}'
    answer = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
    assert not count(answer, 10_000).measured


@pytest.mark.parametrize(
    "usage",
    [
        '{"prompt_tokens": -1}',
        '{"prompt_tokens": true}',
        '{"prompt_tokens": "x"}',
        "{}",
        "{x}",
        '{"x": ' + "[" * 3000 + "}",
    ],
)
def test_figures_without_sense_are_not_taken(usage: str) -> None:
    assert not count(b'{"usage": ' + usage.encode() + b"}", 10_000).measured


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_any_bytes_can_be_counted(data: bytes, size: int) -> None:
    assert count(data, size).output >= 0


# --- bodies ---------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, JSON)
def test_any_body_is_taken_or_refused_with_a_named_fault(messages: object, part: object) -> None:
    document = {"model": "smol", "messages": messages}
    chat = {"model": "smol", "messages": [{"role": "user", "content": [part]}]}
    for asked in (document, chat):
        try:
            check(asked, "chat")
        except SluiceError as fault:
            assert fault.code in ("invalid_request", "media_url_refused")


def check(document: object, capability: str) -> BodySummary:
    return summary_of(json.dumps(document).encode(), capability, Bounds())


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        assert isinstance(parse(raw), dict)
    except SluiceError as fault:
        assert fault.code == "malformed_json"


def test_a_prompt_of_tokens_is_taken() -> None:
    assert check({"model": "smol", "prompt": [1, 2, 3], "stream": None}, "completions").stream is False


def prefix(content: object) -> bytes:
    return check({"model": "smol", "messages": [{"role": "user", "content": content}]}, "chat").prefix


def test_only_text_makes_conversations_alike() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert prefix([{"type": "text", "text": "Look:"}, image]).strip() == b"Look:"
    assert prefix("one") != prefix("two")
    assert len(prefix("x" * 1_000_000)) == 4096
    tokens = [check({"model": "smol", "prompt": prompt}, "completions").prefix for prompt in ([1, 2], [1, 3])]
    assert tokens[0] != tokens[1]


# --- demand ---------------------------------------------------------------------------------------------


def test_held_and_sent_away_requests_wait_together() -> None:
    demand = Demand()
    demand.hold("a")
    demand.send_away("a", until=10)
    demand.send_away("a", until=20)
    demand.send_away("b", until=10)
    assert demand.waiting(5) == {"a": 3, "b": 1}
    assert demand.waiting(15) == {"a": 2}
    demand.release("a")
    assert demand.waiting(15) == {"a": 1}
    assert demand.waiting(25) == {}


def test_a_request_sent_away_counts_as_when_it_is_held_by_its_places() -> None:
    demand = Demand()
    demand.hold("a", 8)
    demand.send_away("a", 10, 8)
    demand.send_away("a", 20, 3)
    assert demand.waiting(5) == {"a": 19}
    assert demand.waiting(15) == {"a": 11}
    demand.release("a", 8)
    assert demand.waiting(15) == {"a": 3}


@pytest.mark.parametrize("places", [1, 128])
def test_the_number_sent_away_is_bounded(places: int) -> None:
    demand = Demand()
    for number in range(5000):
        demand.send_away("a", 10 + number, places)
    assert demand.waiting(0)["a"] == 1000


# --- configuration --------------------------------------------------------------------------------------

CLUSTER = {
    "name": "demo",
    "host": "login",
    "port": 22,
    "user": "sluice-relay",
    "key_file": "/etc/sluice/ssh/id_ed25519",
    "known_hosts": "/etc/sluice/ssh/known_hosts",
    "connect_timeout": 10,
    "ping_interval": 15,
    "ping_timeout": 10,
    "models_interval": 2,
    "backoff_max": 30,
}
FILE = {
    "version": 1,
    "socket": "/run/sluice-proxy/http.sock",
    "status_port": 9464,
    "authority_socket": "/run/sluice-authority/http.sock",
    "max_body": 8388608,
    "log_level": "info",
    "principal_ttl": 5,
    "principal_stale": 900,
    "usage_batch": 1,
    "clusters": [CLUSTER],
}


def read(tmp_path: Path, document: object) -> ProxyConfig:
    path = tmp_path / "proxy.json"
    path.write_text(json.dumps(document))
    return check_config(load(ProxyConfig, path), str(path))


def test_the_file_of_the_contract_is_read(tmp_path: Path) -> None:
    config = read(tmp_path, FILE)
    assert config.clusters[0].connect_timeout == 10.0
    assert replace(config.clusters[0]) == ClusterConfig(**CLUSTER)  # type: ignore[arg-type]  # mixed values


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"socket": None}, "socket"),
        ({"clusters": []}, "clusters"),
        ({"status_port": 0}, "status_port"),
        ({"max_body": 5}, "max_body"),
        ({"log_level": "loud"}, "log_level"),
        ({"principal_ttl": 0}, "principal_ttl"),
        ({"surprise": 1}, "surprise"),
        ({"clusters": [{**CLUSTER, "port": 70000}]}, "clusters[0].port"),
        ({"clusters": [{**CLUSTER, "name": "A B"}]}, "clusters[0].name"),
        ({"clusters": [{**CLUSTER, "host": "-x"}]}, "clusters[0].host"),
        ({"clusters": [{**CLUSTER, "backoff_max": -1}]}, "clusters[0].backoff_max"),
        ({"clusters": [{**CLUSTER, "user": 5}]}, "clusters[0].user"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(tmp_path: Path, change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, {**FILE, **change})
    assert named in str(caught.value)
    assert "proxy.json" in str(caught.value)
