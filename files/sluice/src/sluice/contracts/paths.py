"""The paths of the API, and the capability that a model needs for each. Pure."""

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
# All bundled engines can serve these; a model entry must name the others.
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
    # vLLM's own path, where its users expect it.
    "/tokenize": "tokenize",
}
# These answer with a count and generate nothing.
COUNTING = frozenset(("count_tokens", "input_tokens", "tokenize"))
# Engines bound the length of a prompt, but not of a text to count: one of 32 MiB delays all other requests.
MOST_COUNTED = 1 << 20
_COUNTED_A_TOKEN = 8
INSTANCE_PATHS = ("/health", "/metrics", *PATHS)


def most_counted(context_length: int) -> int:
    """Return how many bytes a body may have if its tokens are to be counted: no prompt can be longer."""
    return max(MOST_COUNTED, _COUNTED_A_TOKEN * context_length)


def read_capabilities(fields: Fields, default: Any = dataclasses.MISSING) -> tuple[str, ...]:
    """Read the field `capabilities`, a list of CAPABILITIES. Raises RecordError."""
    found = []
    for where, item in fields.items("capabilities", default):
        if not isinstance(item, str) or item not in CAPABILITIES:
            raise RecordError(where, "must be one of " + ", ".join(CAPABILITIES))
        found.append(item)
    return tuple(found)
