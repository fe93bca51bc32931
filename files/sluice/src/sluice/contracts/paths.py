"""The paths of the API, the capability that a model needs for each, and what it reads beside text. Pure."""

from __future__ import annotations

import re

from sluice.contracts.fields import Fields

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
# What a model reads beside text, for pages and programs; an engine itself refuses what its model cannot read.
SENSES = ("vision", "audio")
KNOWN = frozenset((*CAPABILITIES, *SENSES))
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
_CAPABILITY = re.compile(r"[a-z][a-z0-9_]{0,63}")
INSTANCE_PATHS = ("/health", "/metrics", *PATHS)


def most_counted(context_length: int) -> int:
    """Return how many bytes a body may have if its tokens are to be counted: no prompt can be longer."""
    return max(MOST_COUNTED, _COUNTED_A_TOKEN * context_length)


def read_capabilities(fields: Fields) -> tuple[str, ...]:
    """Read the field `capabilities`, less what this release does not know: it cannot serve it."""
    return tuple(name for name in fields.texts("capabilities", _CAPABILITY) if name in KNOWN)
