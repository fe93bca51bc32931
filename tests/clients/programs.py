"""What programs with the public clients do, whoever serves them: each function asks, and looks at answers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anthropic
import openai
import pytest

from tests.clients import node

QUESTION = "What is the capital of France?"
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
CITY = "Paris"
NODE_CLIENTS = ("openai", "openai-4")
DAY, LONGEST_RETRY = 86_400, 60


@contextmanager
def openai_client(environment: Mapping[str, str], **options: Any) -> Iterator[openai.OpenAI]:
    """Open the public client as anybody would make it, with a certificate that this machine does not know."""
    context = ssl.create_default_context(cafile=environment["SLUICE_CA"])
    with openai.OpenAI(
        base_url=f"{environment['SLUICE_URL']}/v1",
        api_key=environment["SLUICE_API_KEY"],
        http_client=openai.DefaultHttpx2Client(verify=context),
        **options,
    ) as client:
        yield client


def ask_for_responses(client: openai.OpenAI, model: str) -> None:
    """Ask in the shape of OpenAI's responses, whole and streaming; nothing can be stored."""
    answer = client.responses.create(model=model, input=QUESTION, max_output_tokens=40, temperature=0)
    assert CITY in answer.output_text
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0
    words, tokens = "", 0
    for event in client.responses.create(
        model=model, input=QUESTION, max_output_tokens=40, temperature=0, stream=True
    ):
        if event.type == "response.output_text.delta":
            words += event.delta
        elif event.type == "response.completed" and event.response.usage is not None:
            tokens = event.response.usage.output_tokens
    assert CITY in words
    assert tokens > 0
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=model, input=QUESTION, previous_response_id="resp_1")
    assert (refused.value.code, refused.value.param) == ("invalid_request", "previous_response_id")


def ask_for_embeddings(client: openai.OpenAI, model: str) -> None:
    """Turn two texts into vectors, in both encodings: the client asks for base64 by itself."""
    own = client.embeddings.create(model=model, input=["Paris", "bread"])
    plain = client.embeddings.create(model=model, input=["Paris", "bread"], encoding_format="float")
    for one, other in zip(own.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
        assert one.embedding


def meet_errors(client: openai.OpenAI, model: str) -> None:
    """Each error is of the class that programs catch, with our code and the request's id."""
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    assert str(missing.value.request_id).startswith("req-")
    with pytest.raises(openai.AuthenticationError) as unknown:
        client.with_options(api_key="sk-nonsense").models.list()
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=model, messages=[{"role": 1}])  # type: ignore[typeddict-item]
    assert (wrong.value.code, wrong.value.param) == ("invalid_request", "messages[].role")


def ask_for_messages(environment: Mapping[str, str], model: str, *, counts: bool) -> None:
    """Ask with the public client of Anthropic's: whole, streaming, a count, and errors of its classes."""
    context = ssl.create_default_context(cafile=environment["SLUICE_CA"])
    with anthropic.Anthropic(
        base_url=environment["SLUICE_URL"],
        api_key=environment["SLUICE_API_KEY"],
        http_client=anthropic.DefaultHttpxClient(verify=context),
    ) as client:
        answer = client.messages.create(
            model=model, max_tokens=40, messages=MESSAGES, extra_body={"temperature": 0}
        )
        assert CITY in "".join(block.text for block in answer.content if block.type == "text")
        assert answer.usage.output_tokens > 0
        with client.messages.stream(
            model=model, max_tokens=40, messages=MESSAGES, extra_body={"temperature": 0}
        ) as stream:
            assert CITY in "".join(stream.text_stream)
            assert stream.get_final_message().usage.output_tokens > 0
        assert model in {one.id for one in client.models.list()}
        if counts:
            assert client.messages.count_tokens(model=model, messages=MESSAGES).input_tokens > 0
        with pytest.raises(anthropic.NotFoundError) as missing:
            client.messages.create(model="no-such-model", max_tokens=4, messages=MESSAGES)
        assert str(missing.value.request_id).startswith("req-")
        with pytest.raises(anthropic.AuthenticationError):
            client.with_options(api_key="sk-nonsense").messages.create(
                model=model, max_tokens=4, messages=MESSAGES
            )


def meet_the_days_end(environment: Mapping[str, str], model: str) -> None:
    """Ask with Anthropic's client, and its own retries, for what a limit of the day has no room for."""
    context = ssl.create_default_context(cafile=environment["SLUICE_CA"])
    began = time.monotonic()
    with (
        anthropic.Anthropic(
            base_url=environment["SLUICE_URL"],
            api_key=environment["SLUICE_API_KEY"],
            http_client=anthropic.DefaultHttpxClient(verify=context),
        ) as client,
        pytest.raises(anthropic.RateLimitError) as refused,
    ):
        client.messages.create(model=model, max_tokens=40, messages=MESSAGES)
    if int(refused.value.response.headers["retry-after"]) > LONGEST_RETRY:
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert time.monotonic() - began < LONGEST_RETRY / 2


def run_on_node(environment: Mapping[str, str], model: str, capabilities: Collection[str]) -> None:
    """Let the public clients for Node.js do the same: OpenAI's of two generations, and Anthropic's."""
    for client in NODE_CLIENTS:
        _check_openai_on_node(
            node.run("openai.mjs", environment, client, model, *capabilities), model, capabilities
        )
    if "messages" in capabilities:
        found = node.run("anthropic.mjs", environment, model, *capabilities)
        _check_anthropic_on_node(found, model, capabilities)


def _check_openai_on_node(found: dict[str, Any], model: str, capabilities: Collection[str]) -> None:
    assert model in found["models"]
    assert found["retrieved"] == model
    for name in ("chat", "stream", *_texts(capabilities)):
        assert CITY in found[name], name
    assert found["chatTokens"] > 0
    assert found["streamTokens"] > 0
    assert found["left"] == "chat.completion.chunk"
    if "embeddings" in capabilities:
        assert len(set(found["embeddings"])) == 1
    assert found.get("inputTokens", 1) > 0
    check_errors_on_node(
        found,
        {
            "missing": ("NotFoundError", 404, "model_not_found"),
            "unknown": ("AuthenticationError", 401, "invalid_api_key"),
            "wrong": ("BadRequestError", 400, "invalid_request"),
            "slash": ("NotFoundError", 404, "model_not_found"),
            "noVersion": ("NotFoundError", 404, "path_not_found"),
        },
    )


def _check_anthropic_on_node(found: dict[str, Any], model: str, capabilities: Collection[str]) -> None:
    assert model in found["models"]
    assert CITY in found["message"]
    assert CITY in found["stream"]
    assert min(found["tokens"], found["streamTokens"]) > 0
    if "count_tokens" in capabilities:
        assert found["counted"] > 0
    check_errors_on_node(
        found,
        {
            "missing": ("NotFoundError", 404, "model_not_found"),
            "unknown": ("AuthenticationError", 401, "invalid_api_key"),
            "twice": ("NotFoundError", 404, "path_not_found"),
        },
    )


def check_errors_on_node(found: dict[str, Any], expected: Mapping[str, tuple[str, int, str]]) -> None:
    """Compare what a program on Node.js told of its errors; a day's limit may be among them."""
    spent = {"spent": ("RateLimitError", 429, "day_limited")} if "spent" in found else {}
    for name, told in {**expected, **spent}.items():
        assert tuple(found[name][:3]) == told, name
        assert found[name][3].startswith("req-")
    if time.time() % DAY < DAY - LONGEST_RETRY:  # else the day is over within the time that clients wait
        assert found.get("spentSeconds", 0.0) < LONGEST_RETRY / 2


def _texts(capabilities: Collection[str]) -> Iterator[str]:
    if "completions" in capabilities:
        yield "completion"
    if "responses" in capabilities:
        yield "response"
        yield "responseStream"
