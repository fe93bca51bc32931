"""The curl commands of docs/api.md: each is run as it stands there, and its answer looked at."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs/api.md"
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 60.0


@dataclass(frozen=True)
class Example:
    """One command, and the heading that it stands under."""

    heading: str
    script: str

    def run(self, environment: Mapping[str, str], model: str) -> str:
        """Return what the command prints. Fails when it fails."""
        given = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "SLUICE_URL": environment["SLUICE_URL"],
            "SLUICE_API_KEY": environment["SLUICE_API_KEY"],
            "SLUICE_MODEL": model,
            # The page is written for a site whose certificate everybody trusts.
            "CURL_CA_BUNDLE": environment["SLUICE_CA"],
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.script],
            env=given,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{self.heading}: {done.stderr}"
        return done.stdout


def examples() -> list[Example]:
    """Return the page's commands."""
    return [
        Example(section[1], block[1])
        for section in _SECTION.finditer(PAGE.read_text())
        for block in _BLOCK.finditer(section[2])
    ]


def _message(answer: Any) -> Any:
    return answer["choices"][0]["message"]


def _chat(answer: Any) -> None:
    assert "Paris" in _message(answer)["content"]


def _stream(text: str) -> None:
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    words = [one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"]]
    assert "Paris" in "".join(words)
    assert chunks[-1]["usage"]["completion_tokens"] > 0


def _completion(answer: Any) -> None:
    assert "Paris" in answer["choices"][0]["text"]


def _response(answer: Any) -> None:
    texts = [part["text"] for item in answer["output"] for part in item.get("content") or ()]
    assert "Paris" in "".join(texts)
    assert answer["usage"]["output_tokens"] > 0


def _anthropic(answer: Any) -> None:
    assert "Paris" in "".join(block["text"] for block in answer["content"])
    assert answer["usage"]["output_tokens"] > 0


def _embeddings(answer: Any) -> None:
    first, second = (one["embedding"] for one in answer["data"])
    assert len(first) == len(second) > 0


def _ranking(answer: Any) -> None:
    assert {one["index"] for one in answer["results"]} == {0, 1}


def _counted(answer: Any) -> None:
    assert answer["input_tokens"] > 0


def _tokens(answer: Any) -> None:
    assert answer["count"] == len(answer["tokens"]) > 0
    assert answer["max_model_len"] > 0


def _models(answer: Any) -> None:
    assert all(model["context_length"] > 0 and model["capabilities"] for model in answer["data"])


def _tool(answer: Any) -> None:
    (call,) = _message(answer)["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert set(json.loads(call["function"]["arguments"])) == {"city"}


def _schema(answer: Any) -> None:
    assert set(json.loads(_message(answer)["content"])) == {"yes"}


def _logprobs(answer: Any) -> None:
    first, *_ = answer["choices"][0]["logprobs"]["content"]
    assert len(first["top_logprobs"]) == 2


def _not_found(answer: Any) -> None:
    assert answer["error"]["code"] == "model_not_found"


def _described(answer: Any) -> None:
    assert answer["openapi"].startswith("3.1")


def _parsed(check: Callable[[Any], None]) -> Callable[[str], None]:
    return lambda text: check(json.loads(text))


@dataclass(frozen=True)
class Expected:
    """What an example's answer must be, and the capability that its model needs ("": none)."""

    capability: str
    check: Callable[[str], None]


# What any engine answers; below it, what only a real one that knows the field does.
EXPECTED = {
    "Models": Expected("", _parsed(_models)),
    "Chat": Expected("chat", _parsed(_chat)),
    "Streams": Expected("chat", _stream),
    "Completions": Expected("completions", _parsed(_completion)),
    "Responses": Expected("responses", _parsed(_response)),
    "Embeddings": Expected("embeddings", _parsed(_embeddings)),
    "Rerank": Expected("rerank", _parsed(_ranking)),
    "Messages": Expected("messages", _parsed(_anthropic)),
    "Counting the tokens of messages": Expected("count_tokens", _parsed(_counted)),
    "Counting the tokens of a response's input": Expected("input_tokens", _parsed(_counted)),
    "The tokens of a text": Expected("tokenize", _parsed(_tokens)),
    "Errors": Expected("", _parsed(_not_found)),
    "The description for programs": Expected("", _parsed(_described)),
}
OF_A_REAL_ENGINE = {
    "Tools": Expected("chat", _parsed(_tool)),
    "Structured output": Expected("chat", _parsed(_schema)),
    "Log probabilities": Expected("chat", _parsed(_logprobs)),
    "Images": Expected("chat", lambda text: None),
}


def refused(text: str) -> str:
    """Return the code, or the type, with which an example's request was refused; "" if it was not."""
    answer = json.loads(text) if text.startswith("{") else {}
    error = answer.get("error") or {}
    return str(error.get("code") or error.get("type") or "")
