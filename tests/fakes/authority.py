"""A small authority on a unix socket: it knows the keys that a test gives it and remembers usage."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import zlib
from pathlib import Path
from typing import Any

from aiohttp import web

from sluice.contracts.authority import GatewayState, Limit, Principal, Spent, Stop
from sluice.contracts.keys import MARK_LENGTH, mark
from sluice.contracts.usage import UsageRecord


def make_key(prefix: str = "sk", secret: bytes | None = None) -> str:
    """Return a new key of the right form, with the mark of `secret` if there is one."""
    stem = f"{prefix}-sluice-{secrets.token_urlsafe(32)}"
    if secret is not None:
        stem = stem[:-MARK_LENGTH] + mark(stem[:-MARK_LENGTH], secret)
    return f"{stem}-{zlib.crc32(stem.encode()):08x}"


class FakeAuthority:
    """Answers as in docs/contracts.md, counts the questions, and fails if the test wants it."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path
        self.principals: dict[str, Principal] = {}
        self.usage: dict[str, UsageRecord] = {}
        self.batches = 0
        self.questions = 0
        self.documents: dict[str, Any] = {}
        self.stopped: list[Stop] = []
        # The secrets for marks of keys that were made here, as the proxy is told.
        self.marks: tuple[bytes, ...] = ()
        # What was used of a bucket before `usage`; nothing for other buckets.
        self.spent: dict[tuple[str, str], Spent] = {}
        self.spent_questions = 0
        self.gateway_questions = 0
        self.status: int | None = None
        # While cleared, it accepts questions and does not answer.
        self.answers = asyncio.Event()
        self.answers.set()
        self._runner: web.ServerRunner | None = None

    def add_key(
        self,
        groups: tuple[str, ...] = (),
        expires: float | None = None,
        models: tuple[str, ...] | None = None,
        limits: tuple[Limit, ...] = (),
        prefix: str = "sk",
        secret: bytes | None = None,
    ) -> str:
        """Make a key with its own principal; return the key."""
        key = make_key(prefix, secret)
        number = len(self.principals) + 1
        self.principals[hashlib.sha256(key.encode()).hexdigest()] = Principal(
            user=f"u-{number}",
            key_id=f"k-{number}",
            kind="api_key",
            class_="api",
            groups=groups,
            expires=expires,
            models=models,
            limits=limits,
        )
        return key

    def revoke(self, key: str) -> None:
        """Forget a key."""
        del self.principals[hashlib.sha256(key.encode()).hexdigest()]

    async def start(self) -> None:
        """Listen."""
        self._runner = web.ServerRunner(web.Server(self._handle))
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket_path)).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.answers.wait()
        if self.status is not None:
            return web.Response(status=self.status)
        if request.path == "/health":
            return _json({"version": 1, "status": "ok"})
        if request.path == "/v1/gateway":
            self.gateway_questions += 1
            gateway_state = GatewayState(tuple(self.stopped), self.marks)
            return _json({"version": 1, **gateway_state.dump()})
        document = json.loads(await request.read())
        assert document["version"] == 1
        self.documents[request.path] = document
        if request.path == "/v1/principal":
            self.questions += 1
            principal = self.principals.get(document["credential"])
            status = 404 if principal is None else 200
            return _json({"version": 1, "principal": principal and principal.dump()}, status)
        if request.path == "/v1/spent":
            self.spent_questions += 1
            return _json({"version": 1, "spent": [self._spent(one).dump() for one in document["buckets"]]})
        assert request.path == "/v1/usage"
        self.batches += 1
        records = [UsageRecord.parse(record) for record in document["records"]]
        assert 0 < len(records) <= 1000
        self.usage.update({record.id: record for record in records})
        return _json({"version": 1, "accepted": len(records)})

    def _spent(self, bucket: dict[str, str]) -> Spent:
        key = (bucket["scope"], bucket["model"])
        return self.spent.get(key, Spent(*key, requests=(), tokens=(), tokens_today=0))


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), content_type="application/json", status=status)
