"""The two links that use the wire, and their differences.

Between proxy and relay it runs over SSH; between relay and front over TLS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

from sluice.contracts.heads import InstanceRequest, RequestHead
from sluice.wire.frames import FrameType


@dataclass(frozen=True)
class Link:
    """What a link's server accepts and sends.

    `openers`: the frames that open a stream. `read_request`: reads a request's head, raises RecordError.
    `keyed`: the client shows a key in its hello. `tells_load`: the server sends load frames.
    `tells_accepted`: the server sends accepted frames.
    """

    openers: frozenset[int]
    read_request: Callable[[bytes], Any]
    keyed: bool
    tells_load: bool
    tells_accepted: bool


PROXY_RELAY = Link(
    openers=frozenset((FrameType.REQUEST, FrameType.MODELS, FrameType.DEMAND, FrameType.METRICS)),
    read_request=RequestHead.read,
    keyed=False,
    tells_load=False,
    tells_accepted=True,
)
RELAY_FRONT = Link(
    openers=frozenset((FrameType.REQUEST,)),
    read_request=InstanceRequest.read,
    keyed=True,
    tells_load=True,
    tells_accepted=False,
)
