"""Asks a front whether its engine answers, and an instance for one token as a user would."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from sluice.contracts.encoding import decode_json
from sluice.contracts.fields import Fields
from sluice.contracts.jobs import JobRecord
from sluice.contracts.routing import RoutedInstance, RoutedModel
from sluice.errors import RecordError
from sluice.scheduler.outside.front_client import Unanswered, ask

# Why a front takes no new requests: Slurm warned its job, or asked it to end.
LEAVING = ("warned", "terminated")
LONGEST_STALL = 1 << 32


class Health(NamedTuple):
    """A front's health: `problem` is "" if its engine answers; `leaving` is "" or one of LEAVING.

    `stalled`: for how many seconds the front's own one-token question has waited while nobody got anything.
    """

    problem: str
    leaving: str = ""
    stalled: int = 0


def healthy(record: JobRecord, timeout: float) -> Health:
    """Ask a front for its health; no answer within `timeout` seconds is a problem."""
    try:
        answer = ask(record, "GET", "/health", b"", timeout)
    except Unanswered as problem:
        return Health(str(problem))
    if answer.status != 200:
        return Health(f"health answers {answer.status or answer.code}")
    return Health("", _leaving(answer.body), _stalled(answer.body))


def _leaving(body: bytes) -> str:
    """Return why the front leaves; "" for anything else that a job may write."""
    try:
        said = Fields(decode_json(body))
        if said.choice("status", ("ok", "leaving")) == "ok":
            return ""
        return said.choice("why", LEAVING)
    except RecordError:
        return ""


def _stalled(body: bytes) -> int:
    """Return for how many seconds the engine has given nothing; 0 if the front does not say."""
    try:
        return Fields(decode_json(body)).integer("stalled", 0, LONGEST_STALL, 0)
    except RecordError:
        return 0


def answers(name: str, model: RoutedModel, instance: RoutedInstance, timeout: float) -> str:
    """Return "" if an instance answers a question of one token within `timeout` seconds, else why not."""
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
