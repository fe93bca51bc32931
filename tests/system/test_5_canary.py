"""No prompt and no answer is ever stored: a word that occurs nowhere else is looked for everywhere."""

from __future__ import annotations

import base64
import json
import pickle
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.browser import canaries
from tests.browser.chromium import Target, launched
from tests.browser.profiles import Profiles
from tests.system.canary import TOKENS, Words, packed
from tests.system.service import LIGHT, MARGIN, MODEL, Answer, Service

HOSTS = ("gw", "login", "c1", "c2", "idp")
SIZES = {"50 B": 50, "200 KB": 200_000, "5 MB": 5_000_000}
# Events of a stream, before its reader goes.
READ = 5
TURN = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
BASES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": TURN, "max_tokens": 1},
    "/v1/completions": {"prompt": "hi", "max_tokens": 1},
    "/v1/responses": {"input": "hi", "max_output_tokens": 1},
    "/v1/messages": {"messages": TURN, "max_tokens": 1},
}
FIELDS = (
    "messages", "prompt", "input", "system", "instructions", "suffix", "stop", "stop_sequences", "tools",
    "tool_choice", "response_format", "structured_outputs", "text", "metadata", "user", "safety_identifier",
    "prompt_cache_key", "prediction", "reasoning", "logit_bias", "bad_words", "chat_template",
    "chat_template_kwargs", "documents", "store", "previous_response_id", "mcp_servers", "service_tier",
    "temperature", "stream_options", "a_field_that_nobody_knows",
)  # fmt: skip
HEADERS = (
    "User-Agent", "Referer", "Origin", "Cookie", "X-Request-Id", "Idempotency-Key", "OpenAI-Organization",
    "X-Anything", "Traceparent", "Accept-Language",
)  # fmt: skip


@pytest.fixture(scope="module")
def words() -> Words:
    """Every canary word that this module sent."""
    return Words()


def filled(text: str, size: int) -> str:
    """Return `text` repeated to about `size` characters."""
    return (text + " ") * max(1, size // (len(text) + 1))


def padded(canary: str, size: int) -> bytes:
    """Return a valid body of `size` bytes: a short question, and a long field that means nothing."""
    head = b'{"model": "%s", "max_tokens": 24, "echo": true, "prompt": "Say %s twice: %s", "user": "' % (
        MODEL.encode(), canary.encode(), canary.encode(),
    )  # fmt: skip
    return head + filled(canary, max(0, size - len(head))).encode() + b'"}'


@pytest.mark.parametrize("size", SIZES)
def test_success(service: Service, words: Words, size: str) -> None:
    canary = words.new()
    answer = service.request("POST", "/v1/completions", padded(canary, SIZES[size]))
    assert answer.status == 200, answer.body[:300]
    assert canary in answer.json()["choices"][0]["text"]


@pytest.mark.parametrize("size", SIZES)
def test_refusal_by_the_engine(service: Service, words: Words, size: str) -> None:
    """Too long for the model's context, or (short) a parameter that the engine refuses."""
    answer = service.chat(filled(words.new(), SIZES[size]), max_tokens=100_000)
    assert 400 <= answer.status < 500, answer.body[:300]


@pytest.mark.parametrize("size", SIZES)
def test_abort(service: Service, words: Words, size: str) -> None:
    """Of a stream that would go on for long, some events are read, and the connection is closed."""
    more = b'"max_tokens": 900, "stream": true, "ignore_eos": true'
    body = padded(words.new(), SIZES[size]).replace(b'"max_tokens": 24', more)
    events = service.first_events("/v1/completions", body, READ)
    assert len(events) == READ
    assert not any(b"[DONE]" in event or b'"error"' in event for event in events), events


def test_every_field_of_a_request(service: Service, words: Words) -> None:
    """Each field that the paths know, one by one; most are refused, some are used."""
    for path, base in BASES.items():
        for field in FIELDS:
            word = words.new()
            shapes: list[Any] = [word, {word: word}, [word]]
            for shape in shapes if path == CHAT else shapes[:1]:
                service.request("POST", path, {"model": MODEL, **base, field: shape})
    for name in HEADERS:
        service.request(
            "POST",
            "/v1/completions",
            {"model": MODEL, "prompt": "x", "max_tokens": 1},
            headers={name: words.new()},
        )
    service.request("GET", f"/v1/models?{words.new()}={words.new()}")


def test_tokens_are_known_too(service: Service, words: Words) -> None:
    """A prompt may be kept as the numbers that it is to the model: they are looked for as well."""
    for _ in range(2):
        words.learn_tokens(service, words.new())
    for word in words[-2:]:
        assert service.chat(f"Say {word} twice: {word} {word}", max_tokens=60).status == 200


def test_refusal_by_the_proxy(service: Service, words: Words) -> None:
    canary = words.new()
    for body in (
        b'{"model": "%s", %s' % (MODEL.encode(), canary.encode()),
        {"model": canary, "messages": [canary]},
    ):
        assert service.request("POST", "/v1/chat/completions", body).status in (400, 404)
    assert service.request("POST", f"/v1/{canary}", {}).status == 404
    assert service.request("GET", "/v1/models", key=canary).status == 401


@pytest.mark.parametrize("size", SIZES)
def test_the_light_engine(service: Service, words: Words, size: str) -> None:
    """Both engines are templates; both must keep silent."""
    with service.openai(max_retries=30) as client:
        client.chat.completions.create(
            model=LIGHT, messages=[{"role": "user", "content": "hi"}], max_tokens=2
        )
    answer = service.chat(filled(words.new(), SIZES[size]), LIGHT)
    assert answer.status < 500 or answer.status in (502, 503), answer.body[:300]


def test_the_page_and_its_attachments(service: Service, words: Words) -> None:
    """Questions, files, a title, a draft and settings, in a browser that runs on none of the hosts."""
    target = Target.named(service.deployment.read_env())
    with launched(target.pins()) as browser:
        profiles = Profiles(browser, target, None, {})
        tab = profiles("alice")
        canaries.leave(tab, words.new)
        tab.sign_out()
        profiles.end(failed=False)


@pytest.mark.parametrize("signal", ["SEGV", "KILL"])
def test_an_engine_that_is_killed_while_it_answers(service: Service, words: Words, signal: str) -> None:
    canary = words.new()
    words.learn_tokens(service, canary)
    results: list[Answer] = []
    # Put back, it waits for the successor, which may answer in time or not: this machine decides. That it
    # ends within its bound does not depend on it.
    bound = service.bound + MARGIN

    def ask() -> None:
        story = f"Write a long story about {canary}."
        results.append(service.chat(story, within=bound, max_tokens=900, ignore_eos=True))

    thread = threading.Thread(target=ask)
    thread.start()
    node = service.node_of_job(service.live_jobs()[0])
    service.shell(node, f"sleep 2; kill -{signal} $(pgrep -f '[v]llm serve' | head -1)")
    thread.join(bound + MARGIN)
    assert results, "the request has not ended within its bound"
    assert results[0].status in (200, 502, 503, 504), results[0].body[:300]
    # No message that contradicts itself.
    assert b"now: ready" not in results[0].body
    service.wait_answering(240)


@pytest.fixture(scope="module")
def searches(service: Service, words: Words) -> Iterator[dict[str, Future[str]]]:
    """Search all hosts side by side, once all words have been sent."""
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        yield {host: pool.submit(words.found_on, service, host) for host in HOSTS}


@pytest.mark.parametrize("host", HOSTS)
def test_no_word_is_found_anywhere(words: Words, searches: dict[str, Future[str]], host: str) -> None:
    assert len(words) >= 10
    assert searches[host].result() == ""


def test_the_search_finds_what_is_there(service: Service) -> None:
    """A search that cannot find proves nothing."""
    own = Words()
    word = own.new()
    own.tokens.append(list(range(300, 300 + 40 * TOKENS, 40)))
    tokens = own.tokens[0]
    planted = {
        "/var/tmp/plain": word.encode(),
        "/run/plain": word.encode(),
        "/dev/shm/wide": f"x{word}x".encode("utf-16-le"),
        "/var/tmp/base64": base64.b64encode(f"ab{word}cd".encode()),
        "/var/tmp/hex": word.encode().hex().encode(),
        "/var/tmp/numbers": json.dumps({"prompt_token_ids": [1, *tokens, 2]}).encode(),
        "/dev/shm/array": struct.pack(f"<{len(tokens)}q", *tokens),
        "/dev/shm/pickled": pickle.dumps({"ids": [7, *tokens]}),
        "/dev/shm/packed": b"".join(packed(one) for one in (9, *tokens)),
    }
    files = {path: content.hex() for path, content in planted.items()}
    plant = (
        "import json, os, subprocess, sys\n"
        "given = json.load(sys.stdin)\n"
        "for path, content in given['files'].items():\n"
        "    open(path, 'wb').write(bytes.fromhex(content))\n"
        "subprocess.run(['systemd-cat', 'echo', given['word']], check=True)\n"
        "subprocess.Popen(['sleep', '60'], env={'W': given['word'], 'PATH': os.environ['PATH']},\n"
        "    start_new_session=True, stdin=-3, stdout=-3, stderr=-3)\n"
    )
    service.bed.run(
        "login", ["python3", "-c", plant], stdin=json.dumps({"files": files, "word": word}), check=True
    )
    found = own.found_on(service, "login")
    service.shell("login", "rm " + " ".join(planted))
    for place in (*(f"file: {path}" for path in planted), "journal: ", "process: b'sleep 60"):
        assert place in found, (place, found)
