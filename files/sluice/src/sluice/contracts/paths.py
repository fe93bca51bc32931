"""The paths of the API, and the capability that each asks of a model. Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from sluice.contracts.fields import Fields
from sluice.errors import RecordError

CAPABILITIES = (
    "chat",
    "completions",
    "responses",
    "embeddings",
    "rerank",
    "messages",
    "count_tokens",
    "input_tokens",
    "tokenize",
)
# What every engine that Sluice brings can serve; the other paths are the model's to claim.
DEFAULT_CAPABILITIES = ("chat", "completions")
PATHS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
    "/v1/responses/input_tokens": "input_tokens",
    # vLLM's own, where its users look for it.
    "/tokenize": "tokenize",
}
# What these answer is a count: nothing is generated.
COUNTING = frozenset(("count_tokens", "input_tokens", "tokenize"))
# No engine bounds what it counts, as it bounds a prompt: one text of 32 MiB keeps all others waiting.
MOST_COUNTED = 1 << 20
_COUNTED_A_TOKEN = 8
INSTANCE_PATHS = ("/health", "/metrics", *PATHS)


def most_counted(context_length: int) -> int:
    """Return how many bytes a body may have of which the tokens are to be counted: more fits no prompt."""
    return max(MOST_COUNTED, _COUNTED_A_TOKEN * context_length)


def read_capabilities(fields: Fields, default: Any = dataclasses.MISSING) -> tuple[str, ...]:
    """Read the field `capabilities`: a list out of CAPABILITIES. Raises RecordError."""
    found = []
    for where, item in fields.items("capabilities", default):
        if not isinstance(item, str) or item not in CAPABILITIES:
            raise RecordError(where, "must be one of " + ", ".join(CAPABILITIES))
        found.append(item)
    return tuple(found)
