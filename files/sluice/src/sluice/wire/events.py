"""What a connection tells its owner: one event per thing that the other side did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from sluice.records import DemandHead, ErrorHead, RequestHead, ResponseHead
from sluice.wire.hello import Hello


@dataclass(frozen=True)
class HelloReceived:
    """The session is open; the peer's limits are known."""

    hello: Hello


@dataclass(frozen=True)
class RequestOpened:
    """Relay: a request; its body follows as DataReceived, then StreamEnded."""

    stream: int
    head: RequestHead


@dataclass(frozen=True)
class ModelsOpened:
    """Relay: which models are there?"""

    stream: int


@dataclass(frozen=True)
class DemandOpened:
    """Relay: how many requests wait at the proxy."""

    stream: int
    head: DemandHead


@dataclass(frozen=True)
class MetricsOpened:
    """Relay: the figures, please."""

    stream: int


@dataclass(frozen=True)
class RequestRefused:
    """Relay: a stream was opened with a head that is not valid; the connection has answered it already."""

    stream: int
    problem: str


@dataclass(frozen=True)
class ResponseStarted:
    """Proxy: an answer begins; its body follows as DataReceived, then StreamEnded."""

    stream: int
    head: ResponseHead


@dataclass(frozen=True)
class DataReceived:
    """Bytes of a body. Whoever takes them says so by `Connection.consume`."""

    stream: int
    data: bytes


@dataclass(frozen=True)
class StreamEnded:
    """The peer's direction of the stream is complete."""

    stream: int


@dataclass(frozen=True)
class StreamFailed:
    """Proxy: the stream is over, with this error."""

    stream: int
    error: ErrorHead


@dataclass(frozen=True)
class StreamCancelled:
    """Relay: the proxy wants nothing more of this stream."""

    stream: int


@dataclass(frozen=True)
class CreditGranted:
    """More may be sent on the stream, or (0) on the session."""

    stream: int


@dataclass(frozen=True)
class PongReceived:
    """The answer to a ping."""

    payload: bytes


@dataclass(frozen=True)
class GoAwayReceived:
    """No new streams on this session, please; open ones go on."""

    code: str
    message: str


Event = Union[
    HelloReceived,
    RequestOpened,
    ModelsOpened,
    DemandOpened,
    MetricsOpened,
    RequestRefused,
    ResponseStarted,
    DataReceived,
    StreamEnded,
    StreamFailed,
    StreamCancelled,
    CreditGranted,
    PongReceived,
    GoAwayReceived,
]
