"""One request's way to an instance: when it goes, to which cluster and session, and when it is tried again.

It is tried again only while not a byte of an answer has come: nothing is repeated that anybody has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sluice.errors import SluiceError
from sluice.proxy.cluster import Cluster
from sluice.proxy.metrics import Metrics
from sluice.proxy.outlet import broken_off
from sluice.proxy.session import Session, SessionLost, Stream
from sluice.proxy.waiting import Tell, Turn, WaitingRoom
from sluice.records import RequestHead, ResponseHead

# The relay's own limits are shorter; these hold if it should not keep them (seconds).
HEAD_TIMEOUT = 330.0
IDLE_TIMEOUT = 180.0
# How long the process that has just started lets requests wait for the models to be known (seconds).
RECONNECT_WAIT = 5.0
# A request that was sent this often, and whose session or instance was lost each time, may be what ends them.
# Two sessions are lost together when a login node goes.
MOST_SENT = 2
MOST_LOST = 3

# With these another cluster may do better; nothing of the request has been worked on.
ELSEWHERE = frozenset({"no_instance", "overloaded", "cluster_unreachable", "closed"})


class Exchange:
    """Sends one request when its turn has come, and brings the start of its answer.

    `body`: the chunks of the body. `on_sent` is called with the cluster's name, once, before anything goes
    there. `cluster` and `instance` tell where it went, `sent_at` when (monotonic clock), once that is known.
    Whoever has opened it closes it, whatever came of it.
    """

    def __init__(
        self,
        room: WaitingRoom,
        metrics: Metrics,
        head: RequestHead,
        body: Sequence[bytes | bytearray],
        on_sent: Callable[[str], None],
    ) -> None:
        self._room = room
        self._metrics = metrics
        self._head = head
        self._body = body
        self._on_sent = on_sent
        self._turn: Turn | None = None
        self._stream: Stream | None = None
        self._sent = 0
        self.cluster = ""
        self.instance = ""
        self.sent_at: float | None = None

    async def open(self, tell: Tell | None = None) -> tuple[Stream, ResponseHead]:
        """Return the stream and the answer's head; `tell` is for who asked for a stream and must wait.

        Raises SluiceError.
        """
        head = self._head
        turn = self._turn = self._room.enter(head.model, head.user, head.class_, stream=tell is not None)
        while True:
            if not turn.admitted_now:
                await self._room.wait(turn, tell)
            self.cluster = turn.place
            cluster = self._room.cluster(turn.place)
            try:
                return await self._attempt(_session(cluster))
            except SessionLost:
                self._again(turn)
            except SluiceError as fault:
                if fault.code == "instance_failed" and self._sent < MOST_SENT:
                    self._again(turn)
                elif fault.code in ELSEWHERE:
                    self._room.put_back(turn, fault)
                else:
                    raise

    def _again(self, turn: Turn) -> None:
        """Let a request whose session or instance was lost go once more. Raises SluiceError."""
        if self._sent >= MOST_LOST:
            raise SluiceError(
                "cluster_unreachable", "The connection to the cluster broke off again.", retry_after=1.0
            )
        self._metrics.retried()
        self._room.put_back(turn, None)

    def close(self) -> None:
        """End the stream if there is one, and let the next request go."""
        if self._stream is not None:
            self._stream.close()
        if self._turn is not None:
            self._room.leave(self._turn)

    async def _attempt(self, session: Session) -> tuple[Stream, ResponseHead]:
        if self._head.length > session.max_body:
            raise SluiceError(
                "body_too_large", f"The cluster takes bodies of at most {session.max_body} bytes."
            )
        if not self._sent:
            self._on_sent(self.cluster)
        self._sent += 1
        self.sent_at = time.monotonic()
        stream = session.request(self._head, self._body)
        try:
            head = await stream.response(HEAD_TIMEOUT)
            await stream.begun(HEAD_TIMEOUT)
        except TimeoutError:
            stream.close()
            raise SluiceError("instance_timeout", "The instance did not answer in time.") from None
        except BaseException:
            stream.close()
            raise
        self._stream, self.instance = stream, head.instance
        # Its room is given back now; held on until the answer's end, bodies would pile up beyond it.
        self._body = ()
        return stream, head


def _session(cluster: Cluster) -> Session:
    """Return a session that takes a request. Raises SessionLost, SluiceError `overloaded`."""
    session = cluster.session()
    if session is None and cluster.up:
        raise cluster.unreachable()
    if session is None:
        raise SessionLost("no session is up")
    return session


async def next_bytes(stream: Stream) -> bytes:
    """Return the next bytes of an answer, b"" at its end. Raises SluiceError when it breaks off."""
    try:
        return await stream.read(IDLE_TIMEOUT)
    except TimeoutError:
        raise SluiceError(
            "instance_timeout", "The instance went silent in the middle of its answer."
        ) from None
    except SessionLost:
        raise broken_off() from None
