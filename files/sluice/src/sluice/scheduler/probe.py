"""Whether a front's engine answers, and whether an instance answers a question as users put it."""

from __future__ import annotations

import json
from typing import Any

from sluice.records import Instance, JobRecord, RoutedModel
from sluice.scheduler.asking import Unanswered, ask


def healthy(record: JobRecord, timeout: float) -> str:
    """Return "" when the front answers 200 to its health path within `timeout` seconds, else why not."""
    try:
        answer = ask(record, "GET", "/health", b"", timeout)
    except Unanswered as problem:
        return str(problem)
    return "" if answer.status == 200 else f"health answers {answer.status or answer.code}"


def answers(name: str, model: RoutedModel, instance: Instance, timeout: float) -> str:
    """Return "" when an instance answers a question of one token, else why not."""
    question: dict[str, Any] = {"model": name, "max_tokens": 1}
    if "chat" in model.capabilities:
        path = "/v1/chat/completions"
        question["messages"] = [{"role": "user", "content": "Hello"}]
    else:
        path = "/v1/completions"
        question["prompt"] = "Hello"
    body = json.dumps(question).encode()
    try:
        answer = ask(instance, "POST", path, body, timeout)
    except Unanswered as problem:
        return f"does not answer ({problem})"
    if answer.status == 200 and b'"choices"' in answer.body:
        return ""
    return f"answers {path} with {answer.status or answer.code}"
