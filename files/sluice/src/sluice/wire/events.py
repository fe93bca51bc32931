"""What a connection tells its owner: one event per thing that the other side did."""

from __future__ import annotations

from typing import NamedTuple, Union

from sluice.contracts.heads import DemandHead, ErrorHead, InstanceRequest, RequestHead, ResponseHead
from sluice.wire.hello import Hello


class HelloReceived(NamedTuple):
    """The session is open; the peer's limits are known."""

    hello: Hello


class RequestOpened(NamedTuple):
    """Server: a request, with the head of its link; its body follows as DataReceived, then StreamEnded."""

    stream: int
    head: Union[RequestHead, InstanceRequest]


class ModelsOpened(NamedTuple):
    """Relay: which models are there?"""

    stream: int


class DemandOpened(NamedTuple):
    """Relay: how many requests wait at the proxy."""

    stream: int
    head: DemandHead


class MetricsOpened(NamedTuple):
    """Relay: the figures, please."""

    stream: int


class RequestRefused(NamedTuple):
    """Server: a stream was opened with a head that is not valid; the connection has answered it already."""

    stream: int
    problem: str


class ResponseStarted(NamedTuple):
    """Client: an answer begins; its body follows as DataReceived, then StreamEnded."""

    stream: int
    head: ResponseHead


class AcceptedReceived(NamedTuple):
    """Proxy: an instance has accepted the stream asked for; nothing of its answer has come yet."""

    stream: int


class DataReceived(NamedTuple):
    """Bytes of a body. Whoever takes them says so by `Connection.consume`."""

    stream: int
    data: bytes


class StreamEnded(NamedTuple):
    """The peer's direction of the stream is complete."""

    stream: int


class StreamFailed(NamedTuple):
    """Client: the stream is over, with this error."""

    stream: int
    error: ErrorHead


class StreamCancelled(NamedTuple):
    """Server: the client wants nothing more of this stream."""

    stream: int


class CreditGranted(NamedTuple):
    """More may be sent on the stream, or (0) on the session."""

    stream: int


class PongReceived(NamedTuple):
    """The answer to a ping."""

    payload: bytes


class GoAwayReceived(NamedTuple):
    """No new streams on this session, please; open ones go on."""

    code: str
    message: str


class LoadReported(NamedTuple):
    """Client: so many requests run on the instance now, whoever sent them."""

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
