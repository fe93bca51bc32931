"""The front as a listener: a stub engine behind it, a TLS client before it, all in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Optional

import pytest

from sluice import http1
from sluice.front.config import EngineAddress, FrontConfig
from sluice.front.identity import Identity, make
from sluice.front.listener import ERROR_HEADER, Listener, bind
from tests.fakes.engine import Behaviour, StubEngine

REQUEST_ID = "req-" + "0" * 31 + "1"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    private = tmp_path_factory.mktemp("private") / "front"
    return make(private)


def config(tmp_path: Path, concurrency: int = 4, max_body: int = 1 << 20) -> FrontConfig:
    return FrontConfig(
        engine=EngineAddress(str(tmp_path / "engine.sock")),
        health_path="/health",
        private_dir=tmp_path,
        job_dir=tmp_path,
        instance="model-0123abcd",
        nonce="0123abcd",
        job_id="1",
        host="localhost",
        ports=range(30000, 40000),
        concurrency=concurrency,
        max_body=max_body,
    )


class Bed:
    """A running front; `port`, `key`."""

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener = listener
        self.port = port
        self.key = listener.key

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)

    async def connect(self) -> http1.ClientConnection:
        return http1.ClientConnection(*await self.raw())

    async def ask(
        self, method: str, path: str, body: Optional[bytes] = None, **headers: str
    ) -> tuple[http1.Head, bytes]:
        connection = await self.connect()
        try:
            return await self.exchange(connection, method, path, body, **headers)
        finally:
            connection.abort()

    async def exchange(
        self,
        connection: http1.ClientConnection,
        method: str,
        path: str,
        body: Optional[bytes] = None,
        **headers: str,
    ) -> tuple[http1.Head, bytes]:
        sent = {"Host": "front", "Authorization": f"Bearer {self.key}"}
        if body is not None:
            sent["Content-Length"] = str(len(body))
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        connection.start(method, path, [(name, value) for name, value in sent.items() if value])
        if body:
            await connection.send(body)
        await connection.finish()
        head = await connection.head(5)
        answer = b""
        part = await connection.data(5)
        while part:
            answer += part
            part = await connection.data(5)
        return head, answer


@contextlib.asynccontextmanager
async def front(
    tmp_path: Path, identity: Identity, concurrency: int = 4, max_body: int = 1 << 20
) -> AsyncIterator[Bed]:
    listener = Listener(config(tmp_path, concurrency, max_body), identity)
    port = await listener.start()
    try:
        yield Bed(listener, port)
    finally:
        listener.stop()
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def bed(
    tmp_path: Path, identity: Identity, behaviour: Optional[Behaviour] = None, concurrency: int = 4
) -> AsyncIterator[tuple[Bed, StubEngine]]:
    async with (
        StubEngine(behaviour or Behaviour(), tmp_path / "engine.sock") as engine,
        front(tmp_path, identity, concurrency) as running,
    ):
        yield running, engine


def chat(stream: bool = False) -> bytes:
    return json.dumps({"model": "m", "messages": [], "stream": stream}).encode()


async def until(condition: object, seconds: float = 2.0) -> float:
    """Wait until `condition()` holds; return how long it took."""
    began = time.monotonic()
    assert callable(condition)
    while not condition():
        assert time.monotonic() - began < seconds, "did not come true in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_passes_a_request_on_and_its_answer_back(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (running, engine):
        head, body = await running.ask("POST", CHAT, chat(), X_Request_Id=REQUEST_ID)
    assert head.status == 200
    assert head.media_type == "application/json"
    assert json.loads(body)["choices"][0]["message"]["content"] == "ab " * 8
    (received,) = engine.requests()
    assert received.body == chat()


async def test_forwards_only_the_headers_of_the_contract(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (running, engine):
        await running.ask("POST", CHAT, chat(), X_Request_Id=REQUEST_ID, Cookie="a=b", X_Forwarded_For="::1")
    (received,) = engine.requests()
    assert received.headers == {
        "host": "engine",
        "connection": "close",
        "content-type": "application/json",
        "content-length": str(len(chat())),
        "x-request-id": REQUEST_ID,
    }


async def test_streams_events_as_they_come(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=5, delay=0.05)) as (running, _):
        connection = await running.connect()
        connection.start("POST", CHAT, headers(running, len(chat(True))))
        await connection.send(chat(True))
        await connection.finish()
        head = await connection.head(5)
        first = await connection.data(5)
        began = time.monotonic()
        rest = b""
        part = await connection.data(5)
        while part:
            rest += part
            part = await connection.data(5)
        took = time.monotonic() - began
        connection.abort()
    assert head.media_type == "text/event-stream"
    assert first.count(b"data:") < 5
    assert rest.endswith(b"data: [DONE]\n\n")
    assert took > 0.1


def headers(running: Bed, length: int) -> list[tuple[str, str]]:
    return [
        ("Host", "front"),
        ("Authorization", f"Bearer {running.key}"),
        ("Content-Length", str(length)),
    ]


async def test_serves_many_requests_on_one_connection(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (running, engine):
        connection = await running.connect()
        for _ in range(5):
            head, _body = await running.exchange(connection, "POST", CHAT, chat())
            assert head.status == 200
            assert connection.reusable()
        connection.abort()
    assert len(engine.requests()) == 5


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "path_not_found"),
        ("GET", "/v1/models", 404, "path_not_found"),
        ("POST", "/v1/completions/", 404, "path_not_found"),
        ("POST", "/v1/chat%2fcompletions", 404, "path_not_found"),
        ("POST", "/v1/../v1/completions", 404, "path_not_found"),
        ("POST", "//v1/completions", 404, "path_not_found"),
        ("POST", "/v1/completions?a=b", 404, "path_not_found"),
        ("POST", "http://front/v1/completions", 404, "path_not_found"),
        ("POST", "/tokenize", 404, "path_not_found"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
        ("PUT", "/v1/completions", 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/completions", 405, "method_not_allowed"),
    ],
)
async def test_trying_another_method_or_path(
    tmp_path: Path, identity: Identity, method: str, path: str, status: int, code: str
) -> None:
    async with bed(tmp_path, identity) as (running, engine):
        head, body = await running.ask(method, path)
    assert head.status == status
    assert json.loads(body)["error"]["code"] == code
    assert head.headers[ERROR_HEADER.lower()] == code
    assert engine.received == []


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic abc", "bearer KEY"])
@pytest.mark.parametrize("path", [CHAT, "/health", "/nowhere"])
async def test_trying_without_the_key(
    tmp_path: Path, identity: Identity, authorization: str, path: str
) -> None:
    async with bed(tmp_path, identity) as (running, engine):
        given = authorization.replace("KEY", running.key)
        head, body = await running.ask("POST", path, chat(), Authorization=given)
    assert head.status == 401
    assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert engine.received == []


async def test_the_key_is_checked_before_the_body_is_read(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (running, _):
        reader, writer = await running.raw()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: front\r\nContent-Length: 1000\r\n\r\n")
        line = await asyncio.wait_for(reader.readline(), 5)
        writer.transport.abort()
    assert line.split()[1] == b"401"


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        (b"", 411),
        (b"Transfer-Encoding: chunked\r\n", 411),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 411),
        (b"Content-Length: 99999999999\r\n", 413),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: 3\r\nContent-Length: 4\r\n", 400),
        (b"Content-Length: 3\r\nX-Request-Id: evil\r\n", 400),
        (b"Content-Length: 3\r\nX-Request-Id: \xff\r\n", 400),
        (b"Authorization: Bearer x\r\nContent-Length: 3\r\n", 401),
        (b"A b: c\r\n", 400),
        (b"X: " + b"y" * 70000 + b"\r\n", 431),
    ],
)
async def test_trying_a_malformed_head(tmp_path: Path, identity: Identity, extra: bytes, status: int) -> None:
    async with bed(tmp_path, identity) as (running, engine):
        reader, writer = await running.raw()
        key = running.key.encode()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: front\r\nAuthorization: Bearer " + key + b"\r\n"
        )
        writer.write(extra + b"\r\n")
        line = await asyncio.wait_for(reader.readline(), 5)
        writer.transport.abort()
    assert line.split()[1] == str(status).encode()
    assert engine.received == []


async def test_trying_http_1_0(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (running, engine):
        reader, writer = await running.raw()
        writer.write(f"GET /health HTTP/1.0\r\nAuthorization: Bearer {running.key}\r\n\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), 5)
        writer.transport.abort()
    assert line.split()[1] == b"400"
    assert engine.received == []


async def test_health_is_the_engines(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (running, _):
        head, body = await running.ask("GET", "/health")
    assert head.status == 200
    assert json.loads(body)["status"] == "ok"


async def test_health_is_503_while_the_engine_warms_up(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(warm_up=60)) as (running, _):
        head, _body = await running.ask("GET", "/health")
    assert head.status == 503


async def test_health_is_503_while_no_engine_listens(tmp_path: Path, identity: Identity) -> None:
    async with front(tmp_path, identity) as running:
        head, body = await running.ask("GET", "/health")
        again, _ = await running.ask("POST", CHAT, chat())
    assert (head.status, again.status) == (503, 503)
    assert json.loads(body)["error"]["code"] == "no_instance"


async def test_metrics_are_the_engines(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as (running, _):
        head, body = await running.ask("GET", "/metrics")
    assert head.status == 200
    assert b"stub_requests" in body


async def test_an_engines_refusal_passes_unmarked(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="refuse")) as (running, _):
        head, body = await running.ask("POST", CHAT, chat())
    assert head.status == 400
    assert ERROR_HEADER.lower() not in head.headers
    assert json.loads(body)["error"]["message"] == "refused"


@pytest.mark.parametrize(
    ("fault", "stream"), [("drop", False), ("nonsense", False), ("endless", False), ("head", True)]
)
async def test_an_engine_that_does_not_answer_properly_is_502(
    tmp_path: Path, identity: Identity, fault: str, stream: bool
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault=fault)) as (running, _):
        head, body = await running.ask("POST", CHAT, chat(stream), X_Request_Id=REQUEST_ID)
    assert head.status == 502
    error = json.loads(body)["error"]
    assert (error["code"], error["request_id"]) == ("instance_failed", REQUEST_ID)


async def test_a_broken_stream_never_looks_whole(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=10, fault="break")) as (running, _):
        with pytest.raises(http1.PeerError):
            await running.ask("POST", CHAT, chat(True))


@pytest.mark.parametrize("fault", ["hang", "stall"])
async def test_a_relay_that_leaves_stops_the_engine_within_a_second(
    tmp_path: Path, identity: Identity, fault: str
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault=fault)) as (running, engine):
        connection = await running.connect()
        connection.start("POST", CHAT, headers(running, len(chat(True))))
        await connection.send(chat(True))
        await connection.finish()
        await until(engine.requests)
        connection.abort()
        took = await until(lambda: engine.requests()[0].left is not None)
        await until(lambda: running.listener.running == 0)
    assert took < 1.0


async def test_beyond_twice_the_concurrency_requests_are_refused(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang"), concurrency=1) as (running, engine):
        waiting = [asyncio.ensure_future(running.ask("POST", CHAT, chat())) for _ in range(2)]
        await until(lambda: len(engine.requests()) == 2)
        head, body = await running.ask("POST", CHAT, chat())
        health, _ = await running.ask("GET", "/health")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert head.status == 503
    assert json.loads(body)["error"]["code"] == "overloaded"
    assert health.status == 200


async def test_a_large_body_passes_whole(tmp_path: Path, identity: Identity) -> None:
    body = json.dumps({"model": "m", "prompt": "x" * 900_000}).encode()
    async with bed(tmp_path, identity) as (running, engine):
        head, _ = await running.ask("POST", "/v1/completions", body)
    assert head.status == 200
    assert engine.requests()[0].body == body


async def test_a_relay_that_does_not_read_slows_the_engine_alone(tmp_path: Path, identity: Identity) -> None:
    many = Behaviour(tokens=3000, token="x" * 10_000)
    async with bed(tmp_path, identity, many) as (running, engine):
        reader, writer = await running.raw()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a reading transport
        connection = http1.ClientConnection(reader, writer)
        connection.start("POST", CHAT, headers(running, len(chat(True))))
        await connection.send(chat(True))
        await connection.finish()
        await until(engine.requests)
        await asyncio.sleep(0.3)
        head, _ = await running.ask("GET", "/health")
        assert not engine.requests()[0].finished
        connection.abort()
        await until(lambda: engine.requests()[0].left is not None)
    assert head.status == 200


async def test_an_engine_on_loopback_works_too(tmp_path: Path, identity: Identity) -> None:
    async with StubEngine(Behaviour()) as engine, front(tmp_path, identity) as running:
        object.__setattr__(running.listener.config, "engine", EngineAddress("", engine.port))
        head, _ = await running.ask("POST", CHAT, chat())
    assert head.status == 200


async def test_speaks_nothing_older_than_tls_1_3(tmp_path: Path, identity: Identity) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with front(tmp_path, identity) as running:
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", running.port, ssl=context)


def test_takes_a_port_that_is_free_and_no_other() -> None:
    with contextlib.closing(bind(range(21000, 22000))) as first:
        taken = first.getsockname()[1]
        first.listen()
        assert 21000 <= taken < 22000
        with pytest.raises(OSError, match=str(taken)):
            bind(range(taken, taken + 1))


def test_the_private_key_is_gone_once_loaded(tmp_path: Path) -> None:
    private = tmp_path / "front"
    first, second = make(private), make(private)
    assert not any(private.iterdir())
    assert private.stat().st_mode & 0o777 == 0o700
    assert first.key != second.key
    assert first.certificate != second.certificate
