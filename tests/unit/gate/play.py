"""Sends a real relay session what a breached gateway VM may send, and returns the refusal.

tests/golden/gate/refusals.json lists the rules in sections. Each entry has

- `rule`: the rule in a sentence, for docs/gate.md;
- `head`: changes of a good request's head; null removes a field; `head_text`: other bytes in its place;
- `body`: a list of texts, and of pairs `[text, times]`; without it, a good body is sent;
- `relay`, `schemas`, `model`, `instance`: changes of the relay's configuration, of its `schemas`, of the
  model in the routing table, and of what the instance's front does;
- `when`: one of SITUATIONS;
- `refusal`: what the relay answers.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sluice.bodies.costs import DEFAULTS
from sluice.contracts.heads import RequestHead
from sluice.front.identity import Identity
from sluice.relay.closed_file import STALE_SECONDS
from sluice.wire.hello import Limits
from tests.fakes.proxy import Answer, WireClient, number
from tests.policy.tree import ROOT
from tests.unit.relay.bed import MODEL, Bed, Behaviour, bed, chat, until

PATH = ROOT / "tests/golden/gate/refusals.json"
Entry = dict[str, Any]
SECTIONS: list[dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))["sections"]
ENTRIES: list[Entry] = [entry for section in SECTIONS for entry in section["rules"]]


class _RawHead(RequestHead):
    """A head that is sent with other bytes than those of `encode`."""

    raw = b""

    def encode(self) -> bytes:
        return self.raw


def body_of(entry: Entry) -> bytes:
    """Return the bytes of an entry's body; each character is one byte, so that any byte can be written."""
    parts = entry.get("body", [chat().decode()])
    texts = [part if isinstance(part, str) else part[0] * part[1] for part in parts]
    return "".join(texts).encode("latin-1")


async def refusal(entry: Entry, directory: Path, identity: Identity, other: Identity) -> dict[str, Any]:
    """Play an entry and return the refusal: code, message, and after how many seconds to ask again.

    `other`: the identity of a server that is not the instance.
    """
    changes = dict(entry.get("relay", {}))
    if "schemas" in entry:
        changes["schemas"] = dataclasses.replace(DEFAULTS, **entry["schemas"])
    figures = ROOT / "tests/golden/contracts/figures.json"
    (directory / "figures.json").write_bytes(figures.read_bytes())
    # Little credit, so that the relay must keep an answer that is not read.
    limits = Limits(stream_credit=1024)
    behaviour = Behaviour(**entry.get("instance", {}))
    async with bed(directory, identity, behaviour, limits=limits, **changes) as running:
        if "model" in entry:
            running.publish(**entry["model"])
        if entry.get("when") == IMPOSTOR:
            running.publish(
                instances=[dataclasses.replace(running.instances[0], certificate=other.certificate)]
            )
        answer = await SITUATIONS[entry.get("when", "")](running, entry)
        await running.client.wait(answer)
    assert answer.error is not None, "it was not refused"
    found = {"code": answer.error.code, "message": answer.error.message}
    return found if answer.error.retry_after is None else {**found, "retry_after": answer.error.retry_after}


async def _send(running: Bed, entry: Entry) -> Answer:
    """Send an entry's request, without waiting for the answer."""
    client, body = running.client, body_of(entry)
    head = RequestHead(number(1), MODEL, "POST", "/v1/chat/completions", "u-1", "api", len(body))
    changed = {**json.loads(head.encode()), "breaks": 0, "places": 1, **entry.get("head", {})}
    raw = _RawHead(*head)
    kept = {name: value for name, value in changed.items() if value is not None}
    raw.raw = entry.get("head_text", json.dumps(kept)).encode()
    return await _send_on(client, raw, body)


async def _send_on(client: WireClient, head: RequestHead, body: bytes) -> Answer:
    answer = client._expect(client.connection.open_request(head))
    client.connection.send_data(answer.stream, body)
    client.connection.send_end(answer.stream)
    await client.flush()
    return answer


async def _closed(running: Bed, entry: Entry) -> Answer:
    (running.directory / "closed").touch()
    await until(lambda: running.session._closed_file.closed(_later()))
    return await _send(running, entry)


async def _without_table(running: Bed, entry: Entry) -> Answer:
    running.session._services.routing._table = None
    return await _send(running, entry)


async def _second(running: Bed, entry: Entry) -> Answer:
    await running.client.begin(MODEL, chat())
    return await _send(running, entry)


async def _beside_a_body(running: Bed, entry: Entry) -> Answer:
    client = running.client
    client._expect(client.connection.open_request(client.head(MODEL, 1 << 20)))
    await client.flush()
    return await _send(running, entry)


async def _unread(running: Bed, _: Entry) -> Answer:
    client = running.client
    client.reading = False
    answers = [client._expect(client.connection.open_metrics()) for _ in range(9)]
    await client.flush()
    return answers[-1]


IMPOSTOR = "another server has the instance's port"
SITUATIONS: dict[str, Callable[[Bed, Entry], Awaitable[Answer]]] = {
    "": _send,
    IMPOSTOR: _send,
    "the gate is closed": _closed,
    "the relay has not read a routing table yet": _without_table,
    "a request came in the same moment": _second,
    "another request's body has the memory": _beside_a_body,
    "eight answers lie unread": _unread,
}


def _later() -> float:
    return time.monotonic() + 2 * STALE_SECONDS
