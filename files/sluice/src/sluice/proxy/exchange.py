"""One request's way to an instance: which cluster, which session, and when to try once more."""

from __future__ import annotations

import time

from sluice.errors import SluiceError
from sluice.proxy.cluster import Cluster, Fleet
from sluice.proxy.metrics import Metrics
from sluice.proxy.session import Session, SessionLost, Stream
from sluice.records import RequestHead, ResponseHead

# The relay's own limits are shorter; these hold if it should not keep them (seconds).
HEAD_TIMEOUT = 330.0
IDLE_TIMEOUT = 180.0
# How long a request waits for a session that broke a moment ago.
RECONNECT_WAIT = 5.0

# With these another cluster may do better; nothing of the request has been worked on.
ELSEWHERE = frozenset({"no_instance", "overloaded", "cluster_unreachable", "closed"})
WAITING_HELPS = frozenset({"no_instance", "overloaded"})


class Exchange:
    """Sends one request and brings the start of its answer.

    `cluster` and `instance` tell where it went, `sent_at` when (monotonic clock), once that is known.
    """

    def __init__(self, fleet: Fleet, metrics: Metrics, head: RequestHead, body: bytes) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._head = head
        self._body = body
        self.cluster = ""
        self.instance = ""
        self.sent_at: float | None = None

    async def open(self) -> tuple[Stream, ResponseHead]:
        """Return the stream and the answer's head. Raises SluiceError; no stream is left open then."""
        first: SluiceError | None = None
        routes = self._fleet.routes(self._head.model)
        for cluster in routes:
            try:
                return await self._on_cluster(cluster)
            except SluiceError as error:
                if error.code not in ELSEWHERE:
                    raise
                first = first or error
        if first is None:
            raise SluiceError("model_not_found", "The model is gone.", param="model")
        raise self._sent_away(routes[0], first)

    def _sent_away(self, cluster: Cluster, error: SluiceError) -> SluiceError:
        """Note the demand, and tell the client when to come back."""
        if error.retry_after is None:
            error.retry_after = cluster.retry_after(self._head.model)
        if error.code in WAITING_HELPS:
            cluster.sent_away(self._head.model, error.retry_after)
        return error

    async def _on_cluster(self, cluster: Cluster) -> tuple[Stream, ResponseHead]:
        self.cluster = cluster.name
        try:
            return await self._attempt(await self._session(cluster))
        except SessionLost:
            # Nothing of an answer has come, so nothing is repeated that anybody has seen.
            self._metrics.retried()
        try:
            return await self._attempt(await self._session(cluster))
        except SessionLost:
            raise cluster.unreachable() from None

    async def _session(self, cluster: Cluster) -> Session:
        """Return a session; one that broke a moment ago is waited for. Raises SluiceError if none is."""
        session = cluster.session()
        if session is not None:
            return session
        if not cluster.returning:
            raise cluster.unreachable()
        cluster.hold(self._head.model)
        try:
            session = await cluster.wait_session(RECONNECT_WAIT)
        finally:
            cluster.release(self._head.model)
        if session is None:
            raise cluster.unreachable()
        return session

    async def _attempt(self, session: Session) -> tuple[Stream, ResponseHead]:
        if len(self._body) > session.max_body:
            raise SluiceError(
                "body_too_large", f"The cluster takes bodies of at most {session.max_body} bytes."
            )
        self.sent_at = time.monotonic()
        stream = session.request(self._head, self._body)
        try:
            head = await stream.response(HEAD_TIMEOUT)
        except TimeoutError:
            stream.close()
            raise SluiceError("instance_timeout", "The instance did not answer in time.") from None
        except BaseException:
            stream.close()
            raise
        self.instance = head.instance
        return stream, head


async def next_bytes(stream: Stream) -> bytes:
    """Return the next bytes of an answer, b"" at its end. Raises SluiceError when it breaks off."""
    try:
        return await stream.read(IDLE_TIMEOUT)
    except TimeoutError:
        raise SluiceError(
            "instance_timeout", "The instance went silent in the middle of its answer."
        ) from None
    except SessionLost:
        raise SluiceError(
            "cluster_unreachable",
            "The connection to the cluster broke off in the middle of the answer.",
            retry_after=1.0,
        ) from None
