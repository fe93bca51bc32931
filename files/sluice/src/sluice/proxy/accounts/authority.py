"""The client of the authority: asks for principals and used amounts, delivers usage records."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import aiohttp

from sluice.contracts.authority import GatewayState, Principal, Spent
from sluice.contracts.encoding import decode_json
from sluice.contracts.fields import VERSION, Fields
from sluice.contracts.keys import marked
from sluice.errors import RecordError, SluiceError
from sluice.proxy.accounts.guesses import Guesses, client_address
from sluice.proxy.accounts.keys import credential, presented_key
from sluice.proxy.accounts.limits import BucketKey, merged
from sluice.proxy.accounts.principals import PrincipalCache
from sluice.proxy.metrics import Metrics

log = logging.getLogger("sluice.proxy.accounts.authority")

ASK_TIMEOUT = 5.0
USAGE_TIMEOUT = 10.0
HEALTH_TIMEOUT = 1.0
MOST_CONNECTIONS = 16
# Bytes. Two hundred buckets with a count for each second of a minute need half of it.
MAX_ANSWER = 1024 * 1024
RETRY_AFTER = 5.0
# While the authority is unreachable, requests with known keys do not wait for it; it is tried at this
# interval (seconds).
TRY_EVERY = 0.5
# On a unix socket, the host name in the URL has no meaning.
BASE = "http://authority"


class AuthorityUnreachable(Exception):
    """The authority gave no valid answer; the text says how it failed."""


class UsageRefused(Exception):
    """The authority refuses the records for good."""


class AuthorityClient:
    """Sends requests to the authority over its unix socket; caches nothing."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def principal(self, key_hash: str) -> Principal | None:
        """Return the principal of a key, None for an unknown one. Raises AuthorityUnreachable.

        `key_hash`: the SHA-256 of the key, in hexadecimal.
        """
        question = _dump({"version": VERSION, "credential": key_hash})
        status, answer = await self._call("POST", "/v1/principal", question, ASK_TIMEOUT)
        if status == 404:
            return None
        try:
            principal = Principal.parse(_document(status, answer).get("principal"))
        except RecordError as error:
            raise AuthorityUnreachable(f"its answer is not a principal ({error.field})") from None
        return replace(principal, limits=merged(principal.limits))

    async def spent(self, buckets: Sequence[BucketKey], now: float) -> list[Spent]:
        """Return what each bucket had used by `now` (epoch), in their order. Raises AuthorityUnreachable."""
        asked = [{"scope": scope, "model": model} for scope, model in buckets]
        question = _dump({"version": VERSION, "buckets": asked, "now": now})
        status, answer = await self._call("POST", "/v1/spent", question, ASK_TIMEOUT)
        try:
            fields = _document(status, answer)
            spent = [Spent.parse(item, where) for where, item in fields.items("spent", most=len(asked))]
        except RecordError as error:
            raise AuthorityUnreachable(f"its answer does not say what was used ({error.field})") from None
        if [(one.scope, one.model) for one in spent] != list(buckets):
            raise AuthorityUnreachable("it answered for other limits than it was asked for")
        return spent

    async def gateway(self) -> GatewayState:
        """Return what applies to all requests at this gateway. Raises AuthorityUnreachable."""
        status, answer = await self._call("GET", "/v1/gateway", None, ASK_TIMEOUT)
        try:
            return GatewayState.parse(_document(status, answer))
        except RecordError as error:
            raise AuthorityUnreachable(f"its answer does not say what is stopped ({error.field})") from None

    async def usage(self, records: list[bytes]) -> None:
        """Deliver usage records, each as JSON. Raises AuthorityUnreachable, UsageRefused."""
        batch = b'{"version":%d,"records":[%b]}' % (VERSION, b",".join(records))
        status, _ = await self._call("POST", "/v1/usage", batch, USAGE_TIMEOUT)
        if 400 <= status < 500:
            raise UsageRefused(f"it answered with status {status}")
        if status != 200:
            raise AuthorityUnreachable(f"it answered with status {status}")

    async def healthy(self) -> bool:
        """Return whether the authority answers its health check."""
        try:
            status, _ = await self._call("GET", "/health", None, HEALTH_TIMEOUT)
        except AuthorityUnreachable:
            return False
        return status == 200

    async def _call(self, method: str, path: str, body: bytes | None, timeout: float) -> tuple[int, object]:
        try:
            async with self._session().request(
                method,
                BASE + path,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                raw = await _whole(response)
                return response.status, decode_json(raw) if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, RecordError) as error:
            raise AuthorityUnreachable(type(error).__name__) from None

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            connector = aiohttp.UnixConnector(path=self._socket_path, limit=MOST_CONNECTIONS)
            self._http = aiohttp.ClientSession(connector=connector)
        return self._http


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Return the whole body of an answer. Raises AuthorityUnreachable if it is too large."""
    raw = b""
    while piece := await response.content.read(MAX_ANSWER):
        raw += piece
        if len(raw) > MAX_ANSWER:
            raise AuthorityUnreachable("its answer is too large")
    return raw


def _document(status: int, answer: object) -> Fields:
    """Return the fields of an answer with status 200. Raises AuthorityUnreachable, RecordError."""
    if status != 200:
        raise AuthorityUnreachable(f"it answered with status {status}")
    fields = Fields(answer)
    fields.version()
    return fields


def _dump(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


class Authenticator:
    """Turns an Authorization header into a principal, with as few questions to the authority as allowed.

    An address that presents too many unknown keys without this site's mark must wait; the authority is not
    asked about them. Known keys and keys with the mark continue to work from that address. Malformed keys,
    and keys whose answer is cached or under way, are not counted.
    """

    def __init__(
        self,
        client: AuthorityClient,
        cache: PrincipalCache,
        guesses: Guesses,
        metrics: Metrics,
        gateway_state: Callable[[], GatewayState],
    ) -> None:
        self._client = client
        self._cache = cache
        self._guesses = guesses
        self._metrics = metrics
        self._gateway_state = gateway_state
        self._asking: dict[str, asyncio.Task[Principal | None]] = {}
        self.reachable: bool | None = None
        self._failed = 0.0

    async def principal(self, authorization: str | None, forwarded: str | None = None) -> Principal:
        """Return the principal; `forwarded` is the header X-Forwarded-For.

        Raises SluiceError `invalid_api_key`, `rate_limited` or `authority_unreachable`.
        """
        key = presented_key(authorization)
        if key is None:
            self._metrics.authority("malformed")
            raise _invalid("No valid API key was sent: send `Authorization: Bearer sk-sluice-…`.")
        principal = await self._known(key, forwarded)
        if principal is None or (principal.expires is not None and principal.expires <= time.time()):
            raise _invalid("This API key is unknown, expired or revoked: create a new one on the keys page.")
        return principal

    async def _known(self, key: str, forwarded: str | None) -> Principal | None:
        key_hash = credential(key)
        cached = self._cache.fresh(key_hash, time.monotonic())
        if cached is not None:
            self._metrics.authority("hit" if cached.principal is not None else "negative_hit")
            return cached.principal
        guess = self._may_be_guessed(key, key_hash)
        if self.reachable is False and not guess:
            principal = self._cache.stale(key_hash, time.monotonic())
            if principal is not None:
                self._try_again(key_hash)
                self._metrics.authority("stale")
                return principal
        if guess:
            self._guess(forwarded)
        try:
            principal = await self._ask_once(key_hash)
        except AuthorityUnreachable as error:
            if guess:
                self._guesses.give_back(client_address(forwarded))
            return self._stale(key_hash, error)
        if guess and principal is not None:
            self._guesses.give_back(client_address(forwarded))
        self._metrics.authority("asked")
        return principal

    def _may_be_guessed(self, key: str, key_hash: str) -> bool:
        # A question about this key is already under way: it is not another guess.
        if self._cache.knows(key_hash) or key_hash in self._asking:
            return False
        return not marked(key, self._gateway_state().marks)

    def _guess(self, forwarded: str | None) -> None:
        """Count a key that may be a guess. Raises SluiceError `rate_limited`."""
        address = client_address(forwarded)
        wait = self._guesses.take(address, time.monotonic())
        if wait is None:
            return
        self._metrics.authority("slowed")
        if self._guesses.to_tell(address):
            log.warning("too many wrong keys from an address", extra={"address": address})
        raise SluiceError(
            "rate_limited",
            f"Too many wrong API keys from your address; try again in {math.ceil(wait)} seconds.",
            retry_after=wait,
        )

    def _try_again(self, key_hash: str) -> None:
        """Ask without waiting for the answer, unless a question is under way or has just failed."""
        if not self._asking and time.monotonic() - self._failed > TRY_EVERY:
            self._question(key_hash)

    async def _ask_once(self, key_hash: str) -> Principal | None:
        """Ask, or join the question that is under way for the same key."""
        # Shielded: this client may leave while others wait for the same answer.
        return await asyncio.shield(self._question(key_hash))

    def _question(self, key_hash: str) -> asyncio.Task[Principal | None]:
        task = self._asking.get(key_hash)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(key_hash))
            self._asking[key_hash] = task
            task.add_done_callback(lambda done: self._asked(key_hash, done))
        return task

    def _asked(self, key_hash: str, task: asyncio.Task[Principal | None]) -> None:
        self._asking.pop(key_hash, None)
        if not task.cancelled():
            task.exception()  # retrieved here: whoever waited for it may have left

    async def _ask(self, key_hash: str) -> Principal | None:
        try:
            principal = await self._client.principal(key_hash)
        except AuthorityUnreachable as error:
            self._failed = time.monotonic()
            self._note(reachable=False, why=str(error))
            raise
        self._note(reachable=True, why="")
        self._cache.learn(key_hash, principal, time.monotonic())
        return principal

    def _stale(self, key_hash: str, error: AuthorityUnreachable) -> Principal:
        principal = self._cache.stale(key_hash, time.monotonic())
        if principal is None:
            self._metrics.authority("unreachable")
            raise SluiceError(
                "authority_unreachable",
                "The key cannot be checked at the moment. Try again soon.",
                retry_after=RETRY_AFTER,
            ) from error
        self._metrics.authority("stale")
        return principal

    def _note(self, *, reachable: bool, why: str) -> None:
        if reachable != self.reachable:
            if reachable:
                log.info("the authority answers")
            else:
                log.error(
                    "the authority cannot be reached; known keys keep working for a while",
                    extra={"why": why},
                )
        self.reachable = reachable


def _invalid(message: str) -> SluiceError:
    return SluiceError("invalid_api_key", message)
