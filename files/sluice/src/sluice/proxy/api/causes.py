"""The cause of each error and what a client can do: for the API's description and docs/errors.md.

`on` says which requests can get the error: `any` request of the API, one that names a `model`, one with a
`body`, or `none` on the described paths (an unknown path, a wrong method).
"""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """Why a client gets an error code, what it can do, and which requests can get the code."""

    cause: str
    remedy: str
    on: str


CAUSES: dict[str, Cause] = {
    "malformed_json": Cause(
        "The body is not one JSON object, has a member twice, has a known member in another case "
        "(`Model`), contains NaN, or is more than 64 levels deep.",
        "Let a JSON library write the body. Check that the body was not cut off.",
        "body",
    ),
    "invalid_request": Cause(
        "A field is missing or has the wrong type; `param` is its path. Or the engine refused the request.",
        "Correct the field that `param` and `message` name.",
        "any",
    ),
    "context_length_exceeded": Cause(
        "The engine refused the request: the prompt, or the prompt plus the requested answer, is longer "
        "than the model's context. Some engines give a shorter answer instead.",
        "Shorten the conversation, or lower `max_tokens`. `max_model_len` (GET /v1/models) is the bound.",
        "body",
    ),
    "media_url_refused": Cause(
        "The request has media as a URL. Sluice fetches nothing from the network.",
        "Send the image or sound itself, as a `data:` URL.",
        "body",
    ),
    "model_mismatch": Cause(
        "The cluster found a different `model` in the body than the gateway did.",
        "Report it with the request id. A client cannot cause it.",
        "body",
    ),
    "capability_missing": Cause(
        "The model does not serve this path; the message names what it serves.",
        "Use a model that has this capability (GET /v1/models lists `capabilities`), or use another path.",
        "body",
    ),
    "invalid_api_key": Cause(
        "The key is missing, malformed, unknown, revoked or expired.",
        "Send `Authorization: Bearer sk-sluice-…`. If you have no valid key, create one on the keys page.",
        "any",
    ),
    "model_not_allowed": Cause(
        "None of your groups may use the model.",
        "Use a model that GET /v1/models lists, or ask your administrators for the group.",
        "model",
    ),
    "key_not_allowed": Cause(
        "The key's list of models does not include this model.",
        "Use another key, or create one that may use the model.",
        "model",
    ),
    "model_not_found": Cause(
        "No cluster has a model of this name.",
        "Use a name that GET /v1/models lists. Upper and lower case matter.",
        "model",
    ),
    "path_not_found": Cause(
        "The path does not exist.",
        "Check the base URL. It must end in one /v1; for Anthropic's clients, which add /v1, without it.",
        "none",
    ),
    "method_not_allowed": Cause(
        "The path does not take this method.",
        "Use the method that the header `Allow` names.",
        "none",
    ),
    "length_required": Cause(
        "The body has no `Content-Length` and is not sent in chunks.",
        "Let the HTTP library set the length.",
        "body",
    ),
    "body_too_large": Cause(
        "The body is larger than the gateway or the cluster accepts. It was not read.",
        "Send smaller images or a shorter conversation.",
        "body",
    ),
    "address_too_long": Cause(
        "The URL, with its query, is longer than 8 kB.",
        "Send long values in the body.",
        "none",
    ),
    "rate_limited": Cause(
        "Your address sent too many requests, or the request met a limit of the cluster.",
        "Wait as long as `Retry-After` says.",
        "any",
    ),
    "requests_limited": Cause(
        "A limit on requests per minute is used up; the message names the limit.",
        "Wait as long as `Retry-After` says. Send requests more slowly.",
        "body",
    ),
    "tokens_limited": Cause(
        "A limit on tokens per minute is used up, or this request alone is larger than the limit.",
        "Wait as long as `Retry-After` says. Without it, shorten the request or lower `max_tokens`.",
        "body",
    ),
    "day_limited": Cause(
        "A limit on tokens per day (UTC) is used up.",
        "Wait until midnight UTC (`Retry-After`), or ask your administrators for a higher limit.",
        "body",
    ),
    "concurrency_limited": Cause(
        "More requests run at the same time than a limit allows.",
        "Wait until a request has ended before you send the next.",
        "body",
    ),
    "headers_too_large": Cause(
        "The request has more than 100 header fields, one of more than 8 kB, or more than 32 kB in all.",
        "Send fewer and shorter headers. A tool or a proxy between you and the service may add some.",
        "any",
    ),
    "internal_error": Cause(
        "The service has a fault, which it logged. With status 502, the gateway is restarting.",
        "Try again. If it happens again, report it with the request id.",
        "any",
    ),
    "instance_failed": Cause(
        "Two attempts at this request failed: an instance broke off or gave an invalid answer.",
        "Try again later. If it fails again at once, the request itself may be the cause: change it.",
        "body",
    ),
    "answer_too_large": Cause(
        "The answer is larger than the cluster allows.",
        "Ask for less: fewer inputs, a smaller `n`, fewer `logprobs`.",
        "body",
    ),
    "no_instance": Cause(
        "No instance of the model is ready, and none became ready while the request waited. The cluster was "
        "asked for one.",
        "Wait as long as `Retry-After` says, or use a stream. A stream waits longer and tells its position.",
        "body",
    ),
    "overloaded": Cause(
        "All instances, the queue or the memory for bodies are full, or the service is restarting.",
        "Wait as long as `Retry-After` says.",
        "any",
    ),
    "cluster_unreachable": Cause(
        "The gateway has no connection to the cluster.",
        "Wait as long as `Retry-After` says. Administrators see the reason in the gateway's state.",
        "any",
    ),
    "closed": Cause(
        "The cluster's administrators have closed the gate: the cluster takes no requests.",
        "Wait until they open the gate again.",
        "any",
    ),
    "model_stopped": Cause(
        "An administrator has stopped the model at this gateway; the message says why.",
        "Use another model until then.",
        "body",
    ),
    "authority_unreachable": Cause(
        "The gateway cannot check the key at the moment, because its control plane does not answer.",
        "Wait as long as `Retry-After` says. Keep the key: it was not refused.",
        "any",
    ),
    "instance_timeout": Cause(
        "The instance did not answer in time or stopped in the middle of its answer, or the request took "
        "longer than a request may take (an hour, unless the site has another bound).",
        "Try again. Use a stream, or ask for a shorter answer.",
        "body",
    ),
}
