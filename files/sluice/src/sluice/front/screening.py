"""Decides from a request's head whether the front accepts it, before it reads any of the body. Pure."""

from __future__ import annotations

from sluice.contracts.heads import InstanceRequest
from sluice.contracts.paths import PATHS
from sluice.errors import SluiceError

HEALTH = "/health"
METHODS = {HEALTH: "GET", "/metrics": "GET", **dict.fromkeys(PATHS, "POST")}


def check_head(head: InstanceRequest, max_body: int) -> None:
    """Check a well-formed head against the closed list of paths. Raises SluiceError."""
    method = METHODS.get(head.path)
    if method is None:
        raise SluiceError("path_not_found", "the path does not exist")
    if head.method != method:
        raise SluiceError("method_not_allowed", f"this path accepts only {method}")
    if head.length > max_body:
        raise SluiceError("body_too_large", f"a body has at most {max_body} bytes")
    if method == "GET" and head.length:
        raise SluiceError("invalid_request", "this path accepts no body")
