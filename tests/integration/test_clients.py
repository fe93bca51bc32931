"""The public clients, unchanged, against everything but a real engine; every capability has a model here."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator

import openai
import pytest

from lab.bench.stack import MODEL
from sluice.contracts.paths import CAPABILITIES
from tests.clients import examples, programs
from tests.clients.examples import EXPECTED, OF_A_REAL_ENGINE, Example
from tests.integration.stand import PLAIN, Stand

pytestmark = pytest.mark.integration


@pytest.fixture
def client(stand: Stand) -> Iterator[openai.OpenAI]:
    """The public client."""
    with programs.openai_client(stand.environment) as made:
        yield made


def test_every_example_of_the_page_is_run_somewhere() -> None:
    headings = [example.heading for example in examples.examples()]
    assert sorted(headings) == sorted([*EXPECTED, *OF_A_REAL_ENGINE])


@pytest.mark.parametrize(
    "example", [one for one in examples.examples() if one.heading in EXPECTED], ids=lambda one: one.heading
)
def test_the_examples_of_the_page_do_as_they_say(stand: Stand, example: Example) -> None:
    EXPECTED[example.heading].check(example.run(stand.environment, MODEL))


@pytest.mark.parametrize(
    "example",
    [one for one in examples.examples() if one.heading in OF_A_REAL_ENGINE],
    ids=lambda one: one.heading,
)
def test_the_fields_that_only_engines_know_reach_the_engine(stand: Stand, example: Example) -> None:
    assert examples.refused(example.run(stand.environment, MODEL)) == ""


@pytest.mark.parametrize("heading", ["Chat", "Responses", "Embeddings", "Rerank", "Messages"])
def test_a_model_without_the_capability_says_so(stand: Stand, heading: str) -> None:
    (example,) = (one for one in examples.examples() if one.heading == heading)
    assert examples.refused(example.run(stand.environment, PLAIN)) == "capability_missing"


def test_on_messages_errors_have_anthropics_shape(stand: Stand) -> None:
    (example,) = (one for one in examples.examples() if one.heading == "Messages")
    told = json.loads(example.run(stand.environment, PLAIN))
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
    assert told["request_id"].startswith("req-")


def test_every_stream_here_has_comments_before_its_first_token(stand: Stand) -> None:
    """So each of these clients meets them."""
    host = stand.url.removeprefix("https://")
    connection = http.client.HTTPSConnection(host, context=stand.context, timeout=60)
    body = json.dumps({"model": MODEL, "messages": programs.MESSAGES, "stream": True})
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {stand.key}"})
        told = connection.getresponse().read()
    finally:
        connection.close()
    assert told.startswith(b": working\n")
    assert told.endswith(b"data: [DONE]\n\n")


def test_the_openai_client_gets_responses(client: openai.OpenAI) -> None:
    programs.ask_for_responses(client, MODEL)


def test_the_openai_client_gets_embeddings(client: openai.OpenAI) -> None:
    programs.ask_for_embeddings(client, MODEL)


def test_the_openai_client_knows_the_errors(client: openai.OpenAI) -> None:
    programs.meet_errors(client, MODEL)


def test_the_openai_client_waits_as_long_as_it_is_told(stand: Stand) -> None:
    limited = {
        **stand.environment,
        "SLUICE_API_KEY": stand.authority.make_key("limited", "--concurrent", "1"),
    }
    with programs.openai_client(limited) as client, contextlib.ExitStack() as first:
        first.enter_context(waiting(stand, limited["SLUICE_API_KEY"]))
        with pytest.raises(openai.RateLimitError) as refused:
            ask(client.with_options(max_retries=0))
        assert refused.value.code == "concurrency_limited"
        assert int(refused.value.response.headers["retry-after"]) >= 1
        leaving = threading.Timer(0.3, first.close)
        leaving.start()
        assert programs.CITY in ask(client.with_options(max_retries=3))
        leaving.join()


@contextlib.contextmanager
def waiting(stand: Stand, key: str) -> Iterator[None]:
    """Hold a request for a model that sleeps: it counts as one at once while it waits."""
    host = stand.url.removeprefix("https://")
    connection = http.client.HTTPSConnection(host, context=stand.context, timeout=30)
    try:
        body = json.dumps({"model": PLAIN, "prompt": "?", "stream": True})
        connection.request("POST", "/v1/completions", body, {"Authorization": f"Bearer {key}"})
        time.sleep(1.0)  # nobody tells when it has come there
        yield
    finally:
        connection.close()


def ask(client: openai.OpenAI) -> str:
    """Ask the question that the stub engine can answer."""
    answer = client.chat.completions.create(model=MODEL, messages=programs.MESSAGES)
    return answer.choices[0].message.content or ""


def test_the_anthropic_client_is_served(stand: Stand) -> None:
    programs.ask_for_messages(stand.environment, MODEL, counts=True)


def test_the_clients_for_node_are_served(stand: Stand) -> None:
    environment = {**stand.environment, "SLUICE_SPENT_KEY": spent_key(stand)}
    programs.run_on_node(environment, MODEL, CAPABILITIES)


def test_the_anthropic_client_gives_up_at_once_when_the_day_is_used_up(stand: Stand) -> None:
    environment = {**stand.environment, "SLUICE_API_KEY": spent_key(stand)}
    programs.meet_the_days_end(environment, MODEL)


def spent_key(stand: Stand) -> str:
    """Return a key whose tokens of the day are used up, but for less than a request needs."""
    key = stand.authority.make_key("spender", "--tokens-per-day", "300")
    limited = {**stand.environment, "SLUICE_API_KEY": key}
    with programs.openai_client(limited, max_retries=0) as client:
        for _ in range(100):
            try:
                client.chat.completions.create(model=MODEL, messages=programs.MESSAGES, max_tokens=40)
            except openai.RateLimitError as refused:
                assert refused.code == "day_limited"
                return key
    raise AssertionError("a hundred answers cost less than 300 tokens")
