"""The errors of all parts, each with its code, HTTP status and exit code.

docs/contracts.md, "Errors", has the table of codes. Clients get errors in OpenAI's format.
"""

from __future__ import annotations

from typing import Any, Optional

CODES: dict[str, int] = {
    "malformed_json": 400,
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "media_url_refused": 400,
    "model_mismatch": 400,
    "capability_missing": 400,
    "invalid_api_key": 401,
    "model_not_allowed": 403,
    "key_not_allowed": 403,
    "model_not_found": 404,
    "path_not_found": 404,
    "method_not_allowed": 405,
    "length_required": 411,
    "body_too_large": 413,
    "address_too_long": 414,
    "rate_limited": 429,
    "requests_limited": 429,
    "tokens_limited": 429,
    "day_limited": 429,
    "concurrency_limited": 429,
    "headers_too_large": 431,
    "internal_error": 500,
    "instance_failed": 502,
    "answer_too_large": 502,
    "no_instance": 503,
    "overloaded": 503,
    "cluster_unreachable": 503,
    "closed": 503,
    "model_stopped": 503,
    "authority_unreachable": 503,
    "instance_timeout": 504,
}

EXIT_FAILURE = 1
EXIT_CONFIG = 2


def error_type(status: int) -> str:
    """Return OpenAI's `type` for an HTTP status."""
    if status == 401:
        return "authentication_error"
    if status == 403:
        return "permission_error"
    if status == 429:
        return "rate_limit_error"
    if status < 500:
        return "invalid_request_error"
    return "server_error"


class SluiceError(Exception):
    """An error for a user, a client or an operator.

    `code`: one of CODES. `param`: the wrong field. `retry_after`: seconds to wait, if waiting helps.
    """

    exit_code = EXIT_FAILURE

    def __init__(
        self, code: str, message: str, *, param: Optional[str] = None, retry_after: Optional[float] = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = CODES[code]
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def to_openai(self, request_id: str) -> dict[str, Any]:
        """Return the body of the answer, in OpenAI's format."""
        return {
            "error": {
                "message": self.message,
                "type": error_type(self.status),
                "param": self.param,
                "code": self.code,
                "request_id": request_id,
            }
        }


class ConfigError(SluiceError):
    """A configuration file cannot be used; the message names the key and the file."""

    exit_code = EXIT_CONFIG

    def __init__(self, message: str) -> None:
        super().__init__("internal_error", message)


class RecordError(ValueError):
    """A document violates its contract.

    `field` is the path of the wrong field, such as `models.smollm2.instances[0].port`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem
