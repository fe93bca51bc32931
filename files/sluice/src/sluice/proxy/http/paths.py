"""Reads the API path of a request, and explains unknown paths."""

from __future__ import annotations

import re
from urllib.parse import unquote

from aiohttp import web

from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError

MODELS_PATH = "/v1/models"
MODEL_ROUTE = "/v1/models/{model}"
# Other services have model names with slashes. Here there are none, but the name is looked up like any other.
_MODEL_PATH = re.compile(r"/v1/models/(.+)")
# vLLM has this path at the root; OpenAI's clients ask below their base URL.
_ALIASES = {"/v1/tokenize": "/tokenize"}
_VERSIONS = ((1, 1), (1, 0))


def read(request: web.BaseRequest) -> str:
    """Return the path as it was sent, without the query.

    Raises SluiceError for an ambiguous path, with escapes or dots: no valid path needs them.
    """
    if request.version not in _VERSIONS:
        raise SluiceError("invalid_request", "This service supports only HTTP/1.1.")
    path = request.raw_path.partition("?")[0]
    if not path.startswith("/"):
        raise SluiceError("invalid_request", "The request's target must be a path.")
    if "Upgrade" in request.headers:
        raise SluiceError("invalid_request", "This service does not upgrade to another protocol.")
    if path.startswith(f"{MODELS_PATH}/"):
        return path  # a model's name follows, with any characters: it is decoded once and only looked up
    if "%" in path or "\\" in path or "//" in path or "/." in path:
        raise SluiceError("invalid_request", "The path must not have escapes, dots or empty parts.")
    return _ALIASES.get(path, path)


def model_name(path: str) -> str:
    """Return the model's name in a path such as `/v1/models/NAME`, "" for any other path."""
    found = _MODEL_PATH.fullmatch(path)
    return unquote(found[1]) if found else ""


def meant(path: str) -> str | None:
    """Return the path that a client means whose base URL lacks /v1 or has it twice; None if unknown."""
    whole = path.removeprefix("/v1") if path.startswith("/v1/v1/") else f"/v1{path}"
    return whole if whole in PATHS or whole in _ALIASES or whole == MODELS_PATH or model_name(whole) else None


def not_found(path: str) -> SluiceError:
    """Return the error for an unknown path."""
    if not path.startswith("/v1/"):
        why = "the API's paths begin with /v1. Add /v1 to the end of the base URL."
    elif meant(path) is not None:
        why = "it contains /v1 twice. Leave it out of the base URL, because this client adds it."
    else:
        why = f"the paths are {MODELS_PATH}, {', '.join(PATHS)}."
    return SluiceError("path_not_found", f"The path does not exist: {why}")
