"""The proxy against a real sshd, the real relay and front, and a stub engine; asked by the public client."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from sluice.contracts.paths import PATHS
from sluice.logs import JsonFormatter
from sluice.proxy.clusters.ssh import PREFERRED_CIPHER
from sluice.proxy.config import ClusterConfig, ProxyConfig
from sluice.proxy.service import Service
from tests.fakes.authority import FakeAuthority
from tests.fakes.engine import Behaviour
from tests.integration.jobs import MODEL, Job, job, publish, session, until
from tests.integration.login import ACCOUNT, LoginNode, make_key, relay_processes

pytestmark = pytest.mark.integration

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
CHAT = "http://proxy/v1/chat/completions"


@dataclass
class Bed:
    """A proxy with its neighbours; `http` speaks to it as nginx does, `client` as a user's program does."""

    service: Service
    authority: FakeAuthority
    http: aiohttp.ClientSession
    client: openai.AsyncOpenAI
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """What nginx passes on."""
        return {"Authorization": f"Bearer {self.key}"}


def settings(node: LoginNode, place: Path) -> ProxyConfig:
    """Return the proxy's configuration for this login node."""
    cluster = ClusterConfig(
        name="test",
        host="127.0.0.1",
        port=node.port,
        user=ACCOUNT,
        key_file=str(node.directory / "keys" / "client"),
        known_hosts=str(node.directory / "known_hosts"),
        models_interval=0.1,
        backoff_max=1.0,
    )
    return ProxyConfig(
        socket=str(place / "http.sock"),
        authority_socket=str(place / "authority.sock"),
        spool=str(place / "usage"),
        clusters=(cluster,),
        status_port=0,
        usage_batch=0.1,
    )


@contextlib.asynccontextmanager
async def proxy(config: ProxyConfig, *, wait: bool = True) -> AsyncIterator[Bed]:
    """Run a proxy in this process, with an authority, behind a port that stands for nginx."""
    authority = FakeAuthority(Path(config.authority_socket))
    await authority.start()
    service = Service(config)
    await service.start()
    front_door = await asyncio.start_server(lambda r, w: forward(config.socket, r, w), "127.0.0.1", 0)
    port = front_door.sockets[0].getsockname()[1]
    key = authority.add_key()
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0)
    http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(config.socket, limit=0))
    try:
        if wait:
            cluster = service.fleet.clusters[0]
            await until(lambda: cluster.models_known and cluster.models[MODEL].ready)
        yield Bed(service, authority, http, client, key)
    finally:
        await client.close()
        await http.close()
        front_door.close()
        await service.stop(drain=1.0)
        await authority.stop()


async def forward(path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one connection from TCP to the proxy's socket."""
    inner_reader, inner_writer = await asyncio.open_unix_connection(path)
    try:
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
    finally:
        inner_writer.close()
        writer.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, or until the other side is gone."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def work(tmp_path: Path, zipapp: Path, login: LoginNode) -> AsyncIterator[Job]:
    """A job whose instance is routed."""
    async with job(tmp_path, zipapp, Behaviour(tokens=5, token="Paris ")) as running:
        publish(login, running.instance())
        yield running


@pytest_asyncio.fixture
async def bed(tmp_path: Path, login: LoginNode, work: Job) -> AsyncIterator[Bed]:
    """A proxy that is ready."""
    async with proxy(settings(login, tmp_path)) as opened:
        yield opened


# --- the public client ----------------------------------------------------------------------------------


async def test_the_public_client_lists_the_models(bed: Bed) -> None:
    models = await bed.client.models.list()
    assert [model.id for model in models.data] == [MODEL]
    assert (await bed.client.models.retrieve(MODEL)).id == MODEL


async def test_the_public_client_chats(bed: Bed) -> None:
    answer = await bed.client.chat.completions.create(model=MODEL, messages=QUESTION)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


async def test_the_public_client_streams_a_chat(bed: Bed) -> None:
    stream = await bed.client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
    words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
    assert "".join(word or "" for word in words) == "Paris " * 5


async def test_the_public_client_completes(bed: Bed) -> None:
    answer = await bed.client.completions.create(model=MODEL, prompt="The capital of France is")
    assert "Paris" in answer.choices[0].text


async def test_the_public_client_understands_our_errors(bed: Bed) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await bed.client.chat.completions.create(model="other", messages=QUESTION)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        await bed.client.with_options(api_key="sk-wrong").models.list()


BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": QUESTION},
    "/v1/completions": {"prompt": "The capital of France is"},
    "/v1/responses": {"input": "What is the capital of France?"},
    "/v1/embeddings": {"input": ["Paris", "France"]},
    "/v1/rerank": {"query": "capital", "documents": ["Paris", "France"]},
    "/v1/messages": {"messages": QUESTION, "max_tokens": 20},
    "/v1/messages/count_tokens": {"messages": QUESTION},
    "/v1/responses/input_tokens": {"input": "What is the capital of France?"},
    "/tokenize": {"prompt": "The capital of France is"},
}
# How each path's answers name what they are, whole, and in the last event of a stream.
NAMED = {
    "/v1/chat/completions": (b'"chat.completion"', b"[DONE]"),
    "/v1/completions": (b'"text_completion"', b"[DONE]"),
    "/v1/responses": (b'"response"', b'"response.completed"'),
    "/v1/embeddings": (b'"embedding"', b""),
    "/v1/rerank": (b'"relevance_score"', b""),
    "/v1/messages": (b'"message"', b'"message_stop"'),
    "/v1/messages/count_tokens": (b'"input_tokens"', b""),
    "/v1/responses/input_tokens": (b'"response.input_tokens"', b""),
    "/tokenize": (b'"max_model_len"', b""),
}


async def test_each_path_answers_whole_and_in_a_stream(bed: Bed, work: Job) -> None:
    assert set(BODIES) == set(PATHS)
    for path, said in BODIES.items():
        for streamed in (False, True) if NAMED[path][1] else (False,):
            asked = {"model": MODEL, **said, **({"stream": True} if streamed else {})}
            async with bed.http.post(f"http://proxy{path}", json=asked, headers=bed.headers) as response:
                got = await response.read()
                assert (response.status, path) == (200, path)
                kind = "text/event-stream" if streamed else "application/json"
                assert response.headers["Content-Type"].partition(";")[0] == kind
            assert NAMED[path][streamed] in (got.split(b"\n\n")[-2] if streamed else got)
            seen = work.engine.requests()[-1]
            assert (seen.method, seen.path) == ("POST", path)
            assert {name: json.loads(seen.body)[name] for name in asked} == asked


async def test_a_relay_that_a_proxy_in_foreign_hands_asks_keeps_to_its_list(
    bed: Bed, work: Job, login: LoginNode
) -> None:
    body = json.dumps({"model": MODEL, **BODIES["/v1/messages"]}).encode()
    publish(login, work.instance(), generation=2, capabilities=("chat",))
    await asyncio.sleep(0.1)
    async with session(login) as client:
        refused = [await client.request(MODEL, body, path=path) for path in PATHS if path != CHAT[12:]]
    publish(login, work.instance(), generation=3)
    assert [answer.code for answer in refused] == ["capability_missing"] * (len(PATHS) - 1)
    assert not work.engine.requests()


async def test_usage_is_settled_with_the_engines_figures(bed: Bed) -> None:
    await bed.client.chat.completions.create(model=MODEL, messages=QUESTION)
    await until(lambda: bed.authority.usage)
    (record,) = bed.authority.usage.values()
    assert (record.model, record.cluster, record.output_tokens, record.measured) == (MODEL, "test", 5, True)
    assert record.instance.startswith(f"{MODEL}-")


# --- the path -------------------------------------------------------------------------------------------


async def test_the_request_id_goes_from_nginx_to_the_engine_and_the_audit_line(
    bed: Bed, work: Job, login: LoginNode
) -> None:
    given = "req-" + "0123456789abcdef" * 2
    async with bed.http.post(
        CHAT, json={"model": MODEL, "messages": QUESTION}, headers={**bed.headers, "X-Request-Id": given}
    ) as response:
        assert response.headers["X-Request-Id"] == given
    assert [request.headers["x-request-id"] for request in work.engine.requests()] == [given]
    await until(lambda: given in login.log.text())


async def test_the_cheap_cipher_is_chosen(tmp_path: Path, login: LoginNode) -> None:
    before = len(login.sshd_log())
    async with proxy(settings(login, tmp_path), wait=False) as running:
        await until(lambda: running.service.fleet.clusters[0].models_known)
        chosen = [line for line in login.sshd_log()[before:].splitlines() if "cipher: " in line]
    assert chosen
    assert all(f"cipher: {PREFERRED_CIPHER} " in line for line in chosen)


async def test_megabytes_go_both_ways_whole(tmp_path: Path, zipapp: Path, login: LoginNode) -> None:
    text = "wörd " * 800_000
    async with job(tmp_path, zipapp, Behaviour(tokens=3000, token="x" * 1000)) as running:
        publish(login, running.instance())
        async with proxy(settings(login, tmp_path)) as bed:
            body = json.dumps({"model": MODEL, "prompt": text}, ensure_ascii=False).encode()
            async with bed.http.post(
                "http://proxy/v1/completions", data=io.BytesIO(body), headers=bed.headers
            ) as response:
                assert response.status == 200
                answer = await response.json()
    assert running.engine.requests()[0].body == body
    assert len(answer["choices"][0]["text"]) == 3_000_000


async def test_a_client_that_leaves_stops_the_engine(tmp_path: Path, zipapp: Path, login: LoginNode) -> None:
    async with job(tmp_path, zipapp, Behaviour(tokens=100_000, delay=0.01)) as running:
        publish(login, running.instance())
        async with proxy(settings(login, tmp_path)) as bed:
            asked = {"model": MODEL, "messages": QUESTION, "stream": True}
            async with bed.http.post(CHAT, json=asked, headers=bed.headers) as response:
                await response.content.readany()
                response.close()
            took = await until(lambda: running.engine.requests()[0].left is not None)
            assert took < 2
            await until(lambda: bed.authority.usage)
            assert [record.status for record in bed.authority.usage.values()] == [499]


async def test_a_reader_who_stands_still_stops_no_other(
    tmp_path: Path, zipapp: Path, login: LoginNode
) -> None:
    async with job(tmp_path, zipapp, Behaviour(tokens=4000, token="x" * 5000)) as running:
        publish(login, running.instance())
        async with proxy(settings(login, tmp_path)) as bed:
            asked = {"model": MODEL, "messages": QUESTION, "stream": True}
            slow = await bed.http.post(CHAT, json=asked, headers=bed.headers, read_bufsize=4096)
            await asyncio.sleep(0.3)
            async with bed.http.post(CHAT, json=asked, headers=bed.headers) as quick:
                body = await quick.read()
            assert body.endswith(b"data: [DONE]\n\n")
            assert not running.engine.requests()[0].finished, "the slow reader's engine was not held back"
            assert (await slow.read()).endswith(b"data: [DONE]\n\n")


# --- what breaks ----------------------------------------------------------------------------------------


async def refused(bed: Bed) -> str:
    """Ask for the models; return the code of the refusal."""
    async with bed.http.get("http://proxy/v1/models", headers=bed.headers) as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
        code: str = (await response.json())["error"]["code"]
        return code


async def test_a_changed_host_key_is_refused_said_and_forgiven_once_pinned(
    tmp_path: Path, login: LoginNode, work: Job, caplog: pytest.LogCaptureFixture
) -> None:
    make_key(tmp_path / "other")
    other = (tmp_path / "other.pub").read_text()
    pinned = tmp_path / "known_hosts"
    pinned.write_text(f"[127.0.0.1]:{login.port} {other}")
    config = settings(login, tmp_path)
    config = replace(config, clusters=(replace(config.clusters[0], known_hosts=str(pinned)),))
    before = len(login.log.entries())
    async with proxy(config, wait=False) as bed:
        keepers = bed.service.fleet.keepers
        await until(lambda: all(keeper.state == "host_key_changed" for keeper in keepers))
        assert await refused(bed) == "cluster_unreachable"
        health = await bed.service.status.health()
        assert health["status"] == "degraded"
        assert "SHA256:" in health["clusters"][0]["sessions"][0]["detail"]
        assert any(record.message == "session host_key_changed" for record in caplog.records)
        assert len(login.log.entries()) == before, "a relay was started over an unproved connection"
        pinned.write_text((login.directory / "known_hosts").read_text())
        await until(lambda: all(keeper.state == "up" for keeper in keepers))


async def test_a_host_key_that_nobody_pinned_is_refused(tmp_path: Path, login: LoginNode) -> None:
    (tmp_path / "known_hosts").write_text("")
    config = settings(login, tmp_path)
    config = replace(
        config, clusters=(replace(config.clusters[0], known_hosts=str(tmp_path / "known_hosts")),)
    )
    async with proxy(config, wait=False) as bed:
        await until(lambda: bed.service.fleet.keepers[0].state == "host_key_changed")
        assert await refused(bed) == "cluster_unreachable"


async def test_a_key_that_the_login_node_does_not_know_is_said(tmp_path: Path, login: LoginNode) -> None:
    make_key(tmp_path / "unknown")
    config = settings(login, tmp_path)
    config = replace(config, clusters=(replace(config.clusters[0], key_file=str(tmp_path / "unknown")),))
    async with proxy(config, wait=False) as bed:
        await until(lambda: bed.service.fleet.keepers[0].state == "auth_failed")
        assert await refused(bed) == "cluster_unreachable"


async def test_a_login_node_that_is_not_there_is_said(tmp_path: Path, login: LoginNode) -> None:
    config = settings(login, tmp_path)
    (tmp_path / "known_hosts").write_text(
        (login.directory / "known_hosts").read_text().replace(str(login.port), "1")
    )
    config = replace(
        config,
        clusters=(replace(config.clusters[0], port=1, known_hosts=str(tmp_path / "known_hosts")),),
    )
    async with proxy(config, wait=False) as bed:
        keeper = bed.service.fleet.keepers[0]
        await until(lambda: keeper.state == "down")


async def test_a_relay_that_cannot_start_is_said(tmp_path: Path, login: LoginNode) -> None:
    login.configure(surprise=1)
    try:
        async with proxy(settings(login, tmp_path), wait=False) as bed:
            keeper = bed.service.fleet.keepers[0]
            await until(lambda: keeper.state == "down")
            assert "the relay ended with status 2" in keeper.detail
    finally:
        login.configure()


async def test_killed_sessions_end_their_streams_with_an_error_and_come_back(
    tmp_path: Path, zipapp: Path, login: LoginNode
) -> None:
    async with job(tmp_path, zipapp, Behaviour(tokens=100_000, delay=0.01)) as running:
        publish(login, running.instance())
        async with proxy(settings(login, tmp_path)) as bed:
            for _ in range(3):
                asked = {"model": MODEL, "messages": QUESTION, "stream": True}
                async with bed.http.post(CHAT, json=asked, headers=bed.headers) as response:
                    assert response.status == 200
                    while b"data: " not in await response.content.readany():
                        pass  # told that it waits
                    kill_relays()
                    body = await response.read()
                assert b'"code":"cluster_unreachable"' in body.rpartition(b"data: ")[2]
                # At once: the request waits for the next session instead of being sent away.


async def test_one_of_two_sessions_killed_under_many_streams_costs_its_own_alone(
    tmp_path: Path, zipapp: Path, login: LoginNode
) -> None:
    async with job(tmp_path, zipapp, Behaviour(tokens=100_000, delay=0.2)) as running:
        publish(login, running.instance())
        async with proxy(settings(login, tmp_path)) as bed:
            await until(lambda: all(keeper.live for keeper in bed.service.fleet.keepers))
            before = relays()
            streams = await open_streams(bed, 60)
            running.engine.behaviour = Behaviour(tokens=2)
            async with new_requests(bed, 8) as statuses:
                await until(lambda: len(statuses) > 50)
                os.kill(before[0], signal.SIGKILL)
                after = len(statuses)
                await until(lambda: len(statuses) > after + 200)
                await until(lambda: all(keeper.live for keeper in bed.service.fleet.keepers))
            assert set(statuses) == {200}
            os.kill(before[1], signal.SIGKILL)
            ends = [await response.read() for response in streams]
            assert all(b'"code":"cluster_unreachable"' in end.rpartition(b"data: ")[2] for end in ends)
            # A small question whose asker left may be on its way out still.
            await until(lambda: bed.service.fleet.keepers[0].open_streams == 0)


async def open_streams(bed: Bed, count: int) -> list[aiohttp.ClientResponse]:
    """Begin so many streamed answers at once; come back when each has its first token."""
    asked = {"model": MODEL, "messages": QUESTION, "stream": True}

    async def begin() -> aiohttp.ClientResponse:
        response = await bed.http.post(CHAT, json=asked, headers=bed.headers)
        # The head comes before it, and comments may: until then another relay could take over.
        while not (line := await response.content.readline()).startswith(b"data:"):
            assert line, "the stream ended before it began"
        return response

    return await asyncio.gather(*(begin() for _ in range(count)))


@contextlib.asynccontextmanager
async def new_requests(bed: Bed, askers: int) -> AsyncIterator[list[int]]:
    """Ask small questions all the while, so many at a time; gives the list of their statuses."""
    statuses: list[int] = []
    asking = [asyncio.create_task(ask_without_end(bed, statuses)) for _ in range(askers)]
    try:
        yield statuses
    finally:
        for task in asking:
            task.cancel()


async def ask_without_end(bed: Bed, statuses: list[int]) -> None:
    """Ask one question after the other, and keep the statuses."""
    asked = {"model": MODEL, "messages": QUESTION}
    while True:
        async with bed.http.post(CHAT, json=asked, headers=bed.headers) as response:
            await response.read()
            statuses.append(response.status)


async def test_sessions_are_replaced_under_load_without_a_lost_request(
    tmp_path: Path, zipapp: Path, login: LoginNode
) -> None:
    async with job(tmp_path, zipapp, Behaviour(tokens=60, delay=0.05)) as running:
        publish(login, running.instance())
        config = settings(login, tmp_path)
        config = replace(config, clusters=(replace(config.clusters[0], session_age=1.0),))
        async with proxy(config) as bed:
            first = set(relays())
            streams = await open_streams(bed, 20)
            running.engine.behaviour = Behaviour(tokens=2)
            async with new_requests(bed, 4) as statuses:
                for response in streams:
                    assert (await response.read()).endswith(b"data: [DONE]\n\n")
                await until(lambda: not first & set(relays()))
            assert set(statuses) == {200}
            assert len(statuses) > 50


async def test_a_new_relay_is_taken_into_use_without_a_lost_request(
    tmp_path: Path, zipapp: Path, login: LoginNode
) -> None:
    async with job(tmp_path, zipapp, Behaviour(tokens=60, delay=0.1)) as running:
        publish(login, running.instance())
        async with proxy(settings(login, tmp_path)) as bed:
            await until(lambda: all(keeper.live for keeper in bed.service.fleet.keepers))
            first = set(relays())
            streams = await open_streams(bed, 20)
            running.engine.behaviour = Behaviour(tokens=2)
            async with new_requests(bed, 4) as statuses:
                login.install(zipapp)
                for response in streams:
                    assert (await response.read()).endswith(b"data: [DONE]\n\n")
                await until(lambda: not first & set(relays()))
                after = len(statuses)
                await until(lambda: len(statuses) > after + 20)
            assert set(statuses) == {200}


async def test_a_request_whose_relay_is_killed_before_any_answer_is_answered_by_the_next(
    tmp_path: Path, zipapp: Path, login: LoginNode
) -> None:
    async with job(tmp_path, zipapp, Behaviour(tokens=3, delay=0.5)) as running:
        publish(login, running.instance())
        async with proxy(settings(login, tmp_path)) as bed:
            asking = asyncio.create_task(bed.client.chat.completions.create(model=MODEL, messages=QUESTION))
            await until(lambda: len(running.engine.requests()) == 1)
            kill_relays()
            answer = await asking
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 3
            assert len(running.engine.requests()) == 2


def relays() -> list[int]:
    """Return the pids of the relays that sshd has started."""
    return relay_processes()


def kill_relays() -> None:
    """Kill every relay, as the kernel does when memory runs out."""
    for pid in relays():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_no_word_of_a_conversation_is_logged(
    bed: Bed, login: LoginNode, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    canary = "canary-5f1e"
    messages = [{"role": "user", "content": canary}]
    async with bed.http.post(
        CHAT, json={"model": MODEL, "messages": messages}, headers=bed.headers
    ) as response:
        assert response.status == 200
    async with bed.http.post(CHAT, data=f'{{"{canary}', headers=bed.headers) as response:
        assert response.status == 400
    formatter = JsonFormatter("proxy")
    ours = [formatter.format(record) for record in caplog.records if record.name.startswith("sluice")]
    bed.service.access.flush()
    ours += capfd.readouterr().err.splitlines()
    assert any('"request"' in line for line in ours)
    assert canary not in "".join(ours)
    assert canary not in login.log.text()
