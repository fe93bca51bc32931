"""The events that a connection returns to its owner: one for each thing that the other side did."""

from __future__ import annotations

from typing import NamedTuple, Union

from sluice.contracts.heads import DemandHead, ErrorHead, InstanceRequest, RequestHead, ResponseHead
from sluice.wire.hello import Hello


class HelloReceived(NamedTuple):
    """The session is open; the peer's limits are known."""

    hello: Hello


class RequestOpened(NamedTuple):
    """Server: a request; `head` is of its link's type. The body follows as DataReceived, then StreamEnded."""

    stream: int
    head: Union[RequestHead, InstanceRequest]


class ModelsOpened(NamedTuple):
    """Relay: the proxy asks for the models."""

    stream: int


class DemandOpened(NamedTuple):
    """Relay: the proxy reports how many requests wait."""

    stream: int
    head: DemandHead


class MetricsOpened(NamedTuple):
    """Relay: the proxy asks for the metrics."""

    stream: int


class RequestRefused(NamedTuple):
    """Server: a stream was opened with an invalid head; the connection has already answered it."""

    stream: int
    problem: str


class ResponseStarted(NamedTuple):
    """Client: an answer begins; its body follows as DataReceived, then StreamEnded."""

    stream: int
    head: ResponseHead


class AcceptedReceived(NamedTuple):
    """Proxy: an instance has accepted the request; nothing of its answer has come yet."""

    stream: int


class DataReceived(NamedTuple):
    """Bytes of a body. The owner calls `Connection.consume` when it has used them."""

    stream: int
    data: bytes


class StreamEnded(NamedTuple):
    """The peer's direction of the stream is complete."""

    stream: int


class StreamFailed(NamedTuple):
    """Client: the stream has ended with this error."""

    stream: int
    error: ErrorHead


class StreamCancelled(NamedTuple):
    """Server: the client has cancelled the stream."""

    stream: int


class CreditGranted(NamedTuple):
    """More may be sent on the stream, or on the session if `stream` is 0."""

    stream: int


class PongReceived(NamedTuple):
    """The answer to a ping."""

    payload: bytes


class GoAwayReceived(NamedTuple):
    """The peer accepts no new streams on this session; open ones continue."""

    code: str
    message: str


class LoadReported(NamedTuple):
    """Client: the places that requests of all relays take on the instance now."""

    running: int


Event = Union[
    HelloReceived,
    RequestOpened,
    ModelsOpened,
    DemandOpened,
    MetricsOpened,
    RequestRefused,
    ResponseStarted,
    AcceptedReceived,
    DataReceived,
    StreamEnded,
    StreamFailed,
    StreamCancelled,
    CreditGranted,
    PongReceived,
    GoAwayReceived,
    LoadReported,
]
