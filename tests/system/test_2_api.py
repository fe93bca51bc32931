"""The API from outside, with the public client, and every kind of bad input."""

from __future__ import annotations

import contextlib
import http.client
import json
import shlex
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.clients import examples, programs
from tests.clients.examples import EXPECTED, OF_A_REAL_ENGINE, Example
from tests.system.service import LIGHT, MODEL, QUESTION, Service

CHAT = "/v1/chat/completions"
# What the demo's inventory says that its first model serves.
SERVED = ("chat", "completions", "responses", "messages", "count_tokens", "tokenize")
MESSAGES = [{"role": "user", "content": "hi"}]
MEDIA = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://192.0.2.1/cat.png"}}]}
]


def environment(service: Service) -> dict[str, str]:
    """Return what a program gets that is to use the service."""
    return {"SLUICE_URL": service.url, "SLUICE_API_KEY": service.key, "SLUICE_CA": service.ca}


def test_the_public_client_lists_the_models(client: openai.OpenAI) -> None:
    assert {MODEL, LIGHT} <= {model.id for model in client.models.list()}


def test_the_public_client_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=40
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_the_public_client_chats_streaming(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=40,
        stream=True,
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len(pieces) > 3
    assert "Paris" in "".join(pieces)
    assert all(chunk.usage is None for chunk in chunks), "nobody asked for it"


def test_the_public_client_completes(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="The capital of France is", temperature=0, max_tokens=8
    )
    assert "Paris" in answer.choices[0].text


def test_the_public_client_gets_responses(client: openai.OpenAI) -> None:
    programs.ask_for_responses(client, MODEL)


def test_the_public_client_knows_the_errors(client: openai.OpenAI) -> None:
    programs.meet_errors(client, MODEL)


def test_the_public_client_for_node_is_served(service: Service) -> None:
    programs.run_on_node(environment(service), MODEL, SERVED)


def test_the_public_client_for_messages_is_served(service: Service) -> None:
    programs.ask_for_messages(environment(service), MODEL, counts=True)


@pytest.mark.parametrize("example", examples.examples(), ids=lambda one: one.heading)
def test_the_examples_of_the_page_do_as_they_say(service: Service, example: Example) -> None:
    expected = {**EXPECTED, **OF_A_REAL_ENGINE}[example.heading]
    printed = example.run(environment(service), MODEL)
    if expected.capability and expected.capability not in SERVED:
        assert examples.refused(printed) == "capability_missing"
    elif example.heading == "Images":
        assert "not a multimodal model" in printed
        assert examples.refused(printed) == "invalid_request"
    else:
        expected.check(printed)


def test_a_stream_that_is_left_is_accounted_to_the_token(service: Service) -> None:
    """Of the tokens that the client has seen none is missing, and none is there but those on their way."""
    body = {"messages": [{"role": "user", "content": "Tell me a long story."}], "max_tokens": 400}
    request_id, prompt, seen = leave(service, {"model": MODEL, "return_token_ids": True, **body}, 20)
    record = accounted(service, request_id)
    assert (record["status"], record["measured"], record["input_tokens"]) == (499, 1, prompt)
    assert seen <= record["output_tokens"] <= seen + 8


def leave(service: Service, body: dict[str, Any], tokens: int) -> tuple[str, int, int]:
    """Go when so many tokens of a stream were seen; return its id, the prompt's tokens, and those seen."""
    sent = {"Authorization": f"Bearer {service.key}", "Content-Type": "application/json"}
    connection = http.client.HTTPSConnection(
        service.url.removeprefix("https://"), context=service.context, timeout=60
    )
    prompt = seen = 0
    with contextlib.closing(connection):
        connection.request("POST", CHAT, json.dumps({**body, "stream": True}), sent)
        with connection.getresponse() as response:
            assert response.status == 200
            while seen < tokens:
                line = response.readline()
                assert line, "the stream ended too early"
                assert b'"usage"' not in line, "nobody asked for it"
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    prompt = prompt or len(event.get("prompt_token_ids") or ())
                    seen += sum(len(choice.get("token_ids") or ()) for choice in event["choices"])
    return response.headers["X-Request-Id"], prompt, seen


READ = """
import json, sqlite3, sys
tables = sqlite3.connect("/var/lib/sluice-web/sluice.db")
tables.row_factory = sqlite3.Row
query = "SELECT status, measured, input_tokens, output_tokens FROM usage WHERE id = ?"
print(json.dumps([dict(row) for row in tables.execute(query, sys.argv[1:])]))
"""


def accounted(service: Service, request_id: str) -> dict[str, Any]:
    """Return the record of a request, once the database has it."""
    argv = ["runuser", "-u", "sluice-web", "--", "python3", "-c", READ, request_id]
    for _ in range(60):
        found = json.loads(service.shell("gw", shlex.join(argv)))
        if found:
            record: dict[str, Any] = found[0]
            return record
        time.sleep(0.5)
    raise AssertionError(f"{request_id} was never accounted for")


def test_the_models_say_what_they_serve(service: Service) -> None:
    assert service.request("GET", f"/v1/models/{MODEL}").json()["capabilities"] == list(SERVED)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (CHAT, {"model": "nothing-like-it", "messages": MESSAGES}, 404, "model_not_found"),
        (CHAT, b'{"model": ', 400, "malformed_json"),
        (CHAT, b'{"model": "a", "model": "b"}', 400, "malformed_json"),
        (CHAT, {"messages": MESSAGES}, 400, "invalid_request"),
        (CHAT, {"model": MODEL, "messages": "hi"}, 400, "invalid_request"),
        (CHAT, {"model": MODEL, "messages": MEDIA}, 400, "media_url_refused"),
        ("/v1/embeddings", {"model": MODEL, "input": "x"}, 400, "capability_missing"),
        ("/v1/images/generations", {"model": MODEL, "prompt": "x"}, 404, "path_not_found"),
    ],
)
def test_bad_input_is_told_so(service: Service, path: str, body: Any, status: int, code: str) -> None:
    answer = service.request("POST", path, body)
    assert (answer.status, answer.code) == (status, code)


def test_a_wrong_method_is_told_which_are_right(service: Service) -> None:
    answer = service.request("DELETE", CHAT)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize("key", [None, "sk-nonsense", "sk-sluice-" + "A" * 43 + "-00000000"])
def test_without_a_good_key_nothing_is_said(service: Service, key: str | None) -> None:
    answer = service.request("POST", CHAT, {"model": MODEL, "messages": MESSAGES}, key=key)
    assert (answer.status, answer.code) == (401, "invalid_api_key")


def test_a_key_without_the_group_may_not_use_the_model(service: Service) -> None:
    other = service.deployment.create_key("outsider", ["visitors"])
    answer = service.request("POST", CHAT, {"model": LIGHT, "messages": MESSAGES}, key=other)
    assert (answer.status, answer.code) == (403, "model_not_allowed")
    listed = service.request("GET", "/v1/models", key=other).json()["data"]
    assert LIGHT not in {model["id"] for model in listed}


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(service: Service) -> None:
    answer = service.request("POST", CHAT, headers={"Content-Length": str(1 << 40)})
    assert (answer.status, answer.code) == (413, "body_too_large")


def test_a_sleeping_model_is_started_by_being_asked(service: Service) -> None:
    """Scale to zero: asleep, then an answer without a hand; 503 with Retry-After if that takes too long."""
    first = service.chat(QUESTION, LIGHT)
    assert first.status in (200, 503)
    if first.status == 503:
        assert first.code == "no_instance"
        assert int(first.headers["retry-after"]) >= 1
    with service.openai(max_retries=30) as client:
        answer = client.chat.completions.create(
            model=LIGHT, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=40
        )
    assert "Paris" in (answer.choices[0].message.content or "")


def test_a_request_can_be_followed_by_its_id_to_the_cluster(service: Service) -> None:
    answer = service.chat("hi")
    request_id = answer.headers["x-request-id"]
    for host in ("gw", "login"):
        lines = service.shell(
            host, f"sleep 1; journalctl --no-pager -o cat --since -2min | grep -c {request_id}"
        )
        assert int(lines) >= 1, host


def test_logs_are_json_and_name_no_content(service: Service) -> None:
    service.chat("pomegranate-teapot-17")
    lines = service.shell("gw", "journalctl --no-pager -o cat -n 20 -u sluice-proxy").splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert any(event.get("component") == "proxy" for event in events)
    assert "pomegranate" not in "".join(lines)


def test_prometheus_scrapes_and_no_alert_fires(
    service: Service, eventually: Callable[[Callable[[], object], float, str], None]
) -> None:
    def query(path: str) -> Any:
        return json.loads(service.shell("gw", f"curl -s 'http://127.0.0.1:9090/api/v1/{path}'"))["data"]

    def all_up() -> bool:
        targets = query("targets?state=active")["activeTargets"]
        return len(targets) >= 3 and all(target["health"] == "up" for target in targets)

    eventually(all_up, 90, "every target is up")
    rules = {rule["name"] for group in query("rules")["groups"] for rule in group["rules"]}
    assert len(rules) >= 3, rules
    assert query("query?query=sluice_scheduler_last_tick_timestamp_seconds")["result"]


def test_a_model_that_nobody_asks_goes_back_to_sleep(
    service: Service, eventually: Callable[[Callable[[], object], float, str], None]
) -> None:
    """Last: it falls asleep while the tests since the one that woke it ask others."""
    eventually(lambda: not service.live_jobs(LIGHT), 240, f"{LIGHT} stopped when idle")
