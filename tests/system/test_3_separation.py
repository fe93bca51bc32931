"""Nobody learns what others asked: by what real engines remember of prompts."""

from __future__ import annotations

import secrets

import pytest

from tests.system.neighbours import key_of_another
from tests.system.service import LIGHT, MODEL, Service

# Some blocks of the engine's cache, of 16 tokens each or more.
WORDS = 120


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


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_user_does_not_learn_whether_another_asked_a_text(service: Service, path: str) -> None:
    text = " ".join(f"{secrets.token_hex(2)} harbour" for _ in range(WORDS))
    key = key_of_another(service)
    assert cached(service, path, MODEL, text, service.key) == 0
    assert cached(service, path, MODEL, text, key) == 0, "another's prompt is not in this user's cache"
    assert cached(service, path, MODEL, text, service.key) > 0, "one's own is"
    assert cached(service, path, MODEL, text, key) > 0


def test_an_engine_without_salts_remembers_nothing(service: Service) -> None:
    text = " ".join(f"{secrets.token_hex(2)} harbour" for _ in range(WORDS))
    key = key_of_another(service)
    with service.openai(max_retries=30) as client:
        # It sleeps while nobody asks.
        client.completions.create(model=LIGHT, prompt="hi", max_tokens=1)
    for one in (service.key, key, service.key):
        assert cached(service, "/v1/chat/completions", LIGHT, text, one) == 0


def test_a_salt_of_ones_own_is_refused(service: Service) -> None:
    assert service.chat("Hello", cache_salt="a").code == "invalid_request"
    assert service.chat("Hello", model=LIGHT, cache_prompt=True).code == "invalid_request"
