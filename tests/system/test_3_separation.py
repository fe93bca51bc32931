"""Nobody learns what others asked: by what real engines remember of prompts."""

from __future__ import annotations

import secrets

import pytest

from tests.system.load import stream
from tests.system.neighbours import key_of_another
from tests.system.service import LIGHT, MODEL, Service

# Two blocks of the engine's cache or more, of 128 tokens each: a word and its number are some six tokens.
WORDS = 60


def cached(service: Service, path: str, model: str, text: str, key: str) -> int:
    """Ask; return how many of the prompt's tokens the engine says that it knew."""
    asked = {"/v1/completions": {"prompt": text}, "/v1/responses": {"input": text}}
    body = asked.get(path, {"messages": [{"role": "user", "content": text}]})
    most = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    answer = service.request("POST", path, {"model": model, most: 4, **body}, key=key)
    assert answer.status == 200, answer.body
    usage = answer.json()["usage"]
    for details in ("prompt_tokens_details", "input_tokens_details"):
        if usage.get(details):
            return int(usage[details].get("cached_tokens") or 0)
    return int(usage.get("cache_read_input_tokens") or 0)


@pytest.fixture(scope="module")
def other(service: Service) -> str:
    """A key of another user."""
    return key_of_another(service)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_user_does_not_learn_whether_another_asked_a_text(service: Service, other: str, path: str) -> None:
    text = " ".join(f"{secrets.token_hex(2)} harbour" for _ in range(WORDS))
    assert cached(service, path, MODEL, text, service.key) == 0
    assert cached(service, path, MODEL, text, other) == 0, "another's prompt is not in this user's cache"
    assert cached(service, path, MODEL, text, service.key) > 0, "one's own is"
    assert cached(service, path, MODEL, text, other) > 0


def test_an_engine_without_salts_remembers_nothing(service: Service, other: str) -> None:
    text = " ".join(f"{secrets.token_hex(2)} harbour" for _ in range(WORDS))
    # It sleeps while nobody asks. A stream waits for it; anything else is told when to come back.
    assert not stream(service, LIGHT, 1).problem
    for one in (service.key, other, service.key):
        assert cached(service, "/v1/chat/completions", LIGHT, text, one) == 0


def test_a_salt_of_ones_own_is_refused(service: Service) -> None:
    assert service.chat("Hello", cache_salt="a").code == "invalid_request"
    assert service.chat("Hello", model=LIGHT, cache_prompt=True).code == "invalid_request"
