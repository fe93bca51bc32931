"""What each error means to the one who gets it, and what to do: for the API's description and docs/errors.md.

`on` says which answers an error can be: `any` request of the API, one that names a `model`, one with a
`body`, or `none` of a described path's (an unknown path, a wrong method).
"""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """Why a code is given, what to do about it, and on which requests."""

    cause: str
    remedy: str
    on: str


CAUSES: dict[str, Cause] = {
    "malformed_json": Cause(
        "The body is not one JSON object, names a member twice, names one that counts in another case "
        "(`Model`), holds NaN, or is nested deeper than 64.",
        "Send what a JSON library writes; look for a body that was cut off, or put together by hand.",
        "body",
    ),
    "invalid_request": Cause(
        "A field is missing or has the wrong type; `param` is its path. Or the engine refuses the request.",
        "Mend the field that `param` and `message` name.",
        "any",
    ),
    "context_length_exceeded": Cause(
        "The prompt, or the prompt together with the answer that it asks for, is longer than the model's "
        "context, and the engine says so; some engines give a shorter answer instead.",
        "Shorten the conversation, or lower `max_tokens`; `max_model_len` (GET /v1/models) is what fits.",
        "body",
    ),
    "media_url_refused": Cause(
        "Media by an address: nothing here fetches from the network.",
        "Send the image or sound itself, as a `data:` URL.",
        "body",
    ),
    "model_mismatch": Cause(
        "The cluster found another `model` in the body than the gateway did.",
        "Report it with the request id: no client can cause it by itself.",
        "body",
    ),
    "capability_missing": Cause(
        "The model does not serve this path; the message names what it serves.",
        "Choose a model whose `capabilities` (GET /v1/models) include the path's, or another path.",
        "body",
    ),
    "invalid_api_key": Cause(
        "No key, or one that is malformed, unknown, revoked or expired.",
        "Send `Authorization: Bearer sk-sluice-…`; make a new key on the keys page.",
        "any",
    ),
    "model_not_allowed": Cause(
        "None of your groups may use the model.",
        "Use a model that GET /v1/models lists, or ask your administrators for the group.",
        "model",
    ),
    "key_not_allowed": Cause(
        "The key's own list of models does not include this one.",
        "Use another key, or make one that may use the model.",
        "model",
    ),
    "model_not_found": Cause(
        "No cluster has a model of this name.",
        "Use a name that GET /v1/models lists; capitals count.",
        "model",
    ),
    "path_not_found": Cause(
        "There is no such path.",
        "Compare the base URL: it ends in /v1, once; without /v1 for Anthropic's clients, which add it.",
        "none",
    ),
    "method_not_allowed": Cause(
        "The path takes another method; `Allow` names it.",
        "Use that method.",
        "none",
    ),
    "length_required": Cause(
        "A body without `Content-Length` and not in chunks.",
        "Let the HTTP library set the length.",
        "body",
    ),
    "body_too_large": Cause(
        "The body is larger than the gateway or the cluster takes; it was not read.",
        "Send less: smaller images, a shorter conversation.",
        "body",
    ),
    "address_too_long": Cause(
        "The address, query included, is longer than 8 kB.",
        "Send what is long in the body.",
        "none",
    ),
    "rate_limited": Cause(
        "Too many requests from your address, or a limit of the cluster.",
        "Wait as long as `Retry-After` says.",
        "any",
    ),
    "requests_limited": Cause(
        "More requests in a minute than a limit allows; the message names the limit.",
        "Wait as long as `Retry-After` says; send fewer requests at once.",
        "body",
    ),
    "tokens_limited": Cause(
        "More tokens in a minute than a limit allows, or one request that is larger than the limit.",
        "Wait as long as `Retry-After` says; without it, shorten the request or lower `max_tokens`.",
        "body",
    ),
    "day_limited": Cause(
        "More tokens today (UTC) than a limit allows.",
        "Wait for midnight UTC (`Retry-After`), or ask your administrators for more.",
        "body",
    ),
    "concurrency_limited": Cause(
        "More requests at once than a limit allows.",
        "Let one end before you send the next.",
        "body",
    ),
    "headers_too_large": Cause(
        "More than 100 header fields, one of more than 8 kB, or more than 32 kB of them together.",
        "Send fewer and shorter headers; a tool or a proxy of yours may add some.",
        "any",
    ),
    "internal_error": Cause(
        "A fault of the service; it was logged. With status 502, the gateway is being restarted.",
        "Try again; report it with the request id if it comes back.",
        "any",
    ),
    "instance_failed": Cause(
        "The model's instances broke off or answered nonsense, twice on this request.",
        "Try again later; if it comes back at once, it is this request on which they break: change it.",
        "body",
    ),
    "answer_too_large": Cause(
        "The answer is larger than the cluster lets through.",
        "Ask for less at once: fewer inputs, a smaller `n`, fewer `logprobs`.",
        "body",
    ),
    "no_instance": Cause(
        "No instance of the model is ready, and none came while the request could wait; one was asked for.",
        "Wait as long as `Retry-After` says, or stream: a stream waits longer and says how it stands.",
        "body",
    ),
    "overloaded": Cause(
        "All instances, the queue or the room for bodies are full, or the service is being restarted.",
        "Wait as long as `Retry-After` says.",
        "any",
    ),
    "cluster_unreachable": Cause(
        "The gateway has no connection with the cluster.",
        "Wait as long as `Retry-After` says; administrators see why in the gateway's state.",
        "any",
    ),
    "closed": Cause(
        "The cluster's administrators have closed it to this service.",
        "Nothing helps but to wait until they open it.",
        "any",
    ),
    "model_stopped": Cause(
        "An administrator has stopped the model at this gateway; the message says why.",
        "Use another model meanwhile.",
        "body",
    ),
    "authority_unreachable": Cause(
        "The key cannot be checked at the moment: the gateway's control plane does not answer.",
        "Wait as long as `Retry-After` says. The key is not refused: keep it.",
        "any",
    ),
    "instance_timeout": Cause(
        "The instance did not answer in time or fell silent in the middle of its answer, or the request took "
        "longer than a request may take in all (an hour, unless the site has another bound).",
        "Try again; stream, or ask for a shorter answer.",
        "body",
    ),
}
