"""The path from the wire to the engine: ssh, real sshd, forced command, zipapp, real front, stub engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.heads import InstanceRequest
from sluice.wire import frames
from sluice.wire.connection import Connection, Side
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import PROXY_RELAY, RELAY_FRONT
from tests.fakes.engine import Behaviour
from tests.integration.jobs import MODEL, chat, environment_of, files_below, job, publish, session, until
from tests.integration.login import LoginNode, relay_processes

pytestmark = pytest.mark.integration


def relays() -> list[int]:
    return relay_processes()


async def test_answers_over_a_real_sshd(login: LoginNode, zipapp: Path, tmp_path: Path) -> None:
    async with job(tmp_path, zipapp) as running:
        publish(login, running.instance())
        async with session(login) as client:
            whole = await client.request(MODEL, chat())
            streamed = await client.request(MODEL, chat(stream=True))
            models = await client.verb("models")
            metrics = await client.verb("metrics")
    assert whole.document()["choices"][0]["message"]["content"] == "ab " * 8
    assert bytes(streamed.body).endswith(b"data: [DONE]\n\n")
    assert [model["name"] for model in models.document()["models"]] == [MODEL]
    assert any(one["name"] == "sluice_relay_requests_total" for one in metrics.document()["samples"])


async def test_audits_every_request_to_syslog(login: LoginNode, zipapp: Path, tmp_path: Path) -> None:
    async with job(tmp_path, zipapp) as running:
        publish(login, running.instance())
        async with session(login) as client:
            await client.request(MODEL, chat(), id="req-" + "a" * 32, user="u-77")
            await client.request("nobody", chat(), id="req-" + "b" * 32, user="u-77")
            await until(lambda: len(login.log.entries(user="u-77")) == 2)
    served, refused = login.log.entries(user="u-77")
    assert served["request_id"] == "req-" + "a" * 32
    assert (served["outcome"], served["status"]) == ("ok", 200)
    assert served["instance"] == running.record.instance
    assert served["bytes_in"] == len(chat())
    assert refused["outcome"] == "model_not_found"


async def test_a_flood_of_heads_leaves_few_lines_in_the_sites_log(login: LoginNode, tmp_path: Path) -> None:
    """Every one is counted; none but the first few has a line of its own."""
    heads, user = 3_000, "u-flood"
    publish(login)
    before = len(login.log.entries())

    def lines(message: str) -> list[dict[str, Any]]:
        return [line for line in login.log.entries()[before:] if line["message"] == message]

    def told() -> int:
        # The catcher shares this process: it may be too slow for a line, which the relay then tells as lost.
        lost = sum(line["lost"] for line in login.log.entries()[before:] if "lost" in line)
        counted = sum(line["count"] for line in lines("requests without a line each"))
        return len(lines("request")) + counted + lost

    async with session(login) as client:
        for _ in range(heads // 500):
            await asyncio.gather(*(client.request("nobody", chat(), user=user) for _ in range(500)))
        await until(lambda: told() == heads)
    # A second's worth at once and as many each second; the flood takes a few of them.
    assert len(login.log.entries()) - before < heads / 5


async def test_a_cancel_reaches_the_engine_within_a_second(
    login: LoginNode, zipapp: Path, tmp_path: Path
) -> None:
    async with job(tmp_path, zipapp, Behaviour(fault="stall")) as running:
        publish(login, running.instance())
        async with session(login) as client:
            answer = await client.begin(MODEL, chat(stream=True))
            await until(lambda: answer.body)
            await client.cancel(answer)
            took = await until(lambda: running.engine.requests()[0].left is not None)
    assert took < 1.0


@pytest.mark.parametrize("victim", ["client", "relay"])
async def test_a_killed_session_stops_its_engines(
    login: LoginNode, zipapp: Path, tmp_path: Path, victim: str
) -> None:
    async with job(tmp_path, zipapp, Behaviour(fault="hang")) as running:
        publish(login, running.instance())
        async with session(login) as client:
            await client.begin(MODEL, chat())
            await until(running.engine.requests)
            (pid,) = relays()
            if victim == "relay":
                os.kill(pid, signal.SIGKILL)
            else:
                await client.close()
            took = await until(lambda: running.engine.requests()[0].left is not None)
            await until(lambda: not relays())
    assert took < 1.5


async def test_a_killed_front_ends_the_stream_with_an_error(
    login: LoginNode, zipapp: Path, tmp_path: Path
) -> None:
    async with job(tmp_path, zipapp, Behaviour(tokens=1000, delay=0.01)) as running:
        publish(login, running.instance())
        async with session(login) as client:
            answer = await client.begin(MODEL, chat(stream=True))
            await until(lambda: answer.body)
            running.front.kill()
            await client.wait(answer, 5)
            again = await client.request(MODEL, chat())
    assert answer.code == "instance_failed"
    assert again.code == "no_instance"
    assert again.error is not None
    assert again.error.retry_after


async def test_whoever_takes_a_jobs_port_gets_neither_prompt_nor_key(
    login: LoginNode, zipapp: Path, tmp_path: Path
) -> None:
    stolen = bytearray()

    async def steal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stolen.extend(await reader.read(65536))
        writer.close()

    async with job(tmp_path, zipapp) as running, job(tmp_path, zipapp) as other:
        publish(login, running.instance())
        async with session(login) as client:
            first = await client.request(MODEL, chat())
            running.front.kill()
            running.front.wait()
            # Another job of the same kind, with a certificate of its own, and then a plain listener.
            publish(login, running.instance(port=other.record.port))
            impostor = await client.request(MODEL, chat(secret="canary"))
            thief = await asyncio.start_server(steal, "localhost", running.record.port)
            publish(login, running.instance())
            plain = await client.request(MODEL, chat(secret="canary"))
            thief.close()
    assert (first.code, impostor.code, plain.code) == ("", "no_instance", "no_instance")
    assert other.engine.received == []
    assert b"canary" not in stolen
    assert running.record.key.encode() not in stolen


def as_relay(key: str) -> bytes:
    """Return what a relay with this key says first, and a request."""
    posing = Connection(Side.CLIENT, Hello("test", Limits()), RELAY_FRONT, key=key)
    front = Connection(Side.SERVER, Hello("front", Limits()), PROXY_RELAY)
    hello = posing.data_to_send()
    posing.receive(front.data_to_send())
    stream = posing.open_request(
        InstanceRequest("req-" + "0" * 32, "POST", "/v1/chat/completions", len(chat()))
    )
    posing.send_data(stream, chat())
    posing.send_end(stream)
    return hello + posing.data_to_send()


@pytest.mark.parametrize(
    "said",
    [
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        as_relay(""),
        as_relay("x" * 43),
    ],
    ids=["http", "no-key", "wrong-key"],
)
async def test_posing_as_the_relay_without_the_key_is_refused(
    zipapp: Path, tmp_path: Path, said: bytes
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with job(tmp_path, zipapp) as running:
        reader, writer = await asyncio.open_connection("localhost", running.record.port, ssl=context)
        writer.write(said)
        answered = await asyncio.wait_for(reader.read(), 60)
        writer.transport.abort()
    assert answered == b"", "a stranger learns nothing, not even why"
    assert running.engine.requests() == []


@pytest.mark.parametrize("size", [50, 200_000, 5_000_000])
async def test_no_prompt_and_no_answer_lies_anywhere(
    login: LoginNode, zipapp: Path, tmp_path: Path, size: int
) -> None:
    canary = f"CANARY{size}"
    body = chat(stream=True, padding=canary.ljust(size, "x"))
    async with job(tmp_path, zipapp, Behaviour(tokens=50, delay=0.01, token=f"{canary} ")) as running:
        publish(login, running.instance())
        async with session(login) as client:
            done = await client.request(MODEL, body)
            left = await client.begin(MODEL, body)
            await until(lambda: left.body)
            await client.cancel(left)
            mismatched = await client.request(MODEL, chat(model=f"{canary}"))
            broken = await client.begin(MODEL, body)
            await until(lambda: broken.body)
            seen = b"".join(environment_of(pid) for pid in [*relays(), running.front.pid])
            running.front.kill()
            await client.wait(broken)
    assert canary.encode() in bytes(done.body)
    assert mismatched.code == "model_mismatch"
    assert canary.encode() not in seen
    assert canary not in login.log.text()
    for path in [*files_below(login.directory), *files_below(running.directory)]:
        assert canary.encode() not in path.read_bytes(), path


async def test_secrets_are_in_no_argv_environment_or_output(
    login: LoginNode, zipapp: Path, tmp_path: Path
) -> None:
    async with job(tmp_path, zipapp) as running:
        publish(login, running.instance())
        async with session(login) as client:
            await client.request(MODEL, chat())
            seen = b"".join(environment_of(pid) for pid in [*relays(), running.front.pid])
        running.front.terminate()
        assert running.front.wait(5) == 0
    key = running.record.key
    assert key.encode() not in seen
    assert key not in login.log.text()
    output = (running.directory / "output").read_text()
    assert key not in output
    assert [json.loads(line)["message"] for line in output.splitlines()] == ["listening", "ending", "ended"]
    assert [path.name for path in files_below(running.directory)] == ["output", "record.json"]


async def test_the_circuit_breaker_cuts_what_runs(login: LoginNode, zipapp: Path, tmp_path: Path) -> None:
    closed = login.directory / "etc" / "closed"
    async with job(tmp_path, zipapp, Behaviour(fault="hang")) as running:
        publish(login, running.instance())
        async with session(login) as client:
            answer = await client.begin(MODEL, chat())
            await until(running.engine.requests)
            closed.touch()
            try:
                await client.wait(answer, 5)
                models = await client.verb("models")
            finally:
                closed.unlink()
            await asyncio.sleep(0.05)  # the relay looks for the file a hundred times a second at most
            opened = await client.verb("models")
    assert (answer.code, models.code, opened.code) == ("closed", "closed", "")


async def test_demand_appears_and_goes_with_its_relay(login: LoginNode, tmp_path: Path) -> None:
    directory = login.directory / "state" / "demand"
    before = set(directory.iterdir())
    publish(login)
    async with session(login) as client:
        await client.verb("demand", {MODEL: 7})

        def waiting() -> list[int]:
            own = set(directory.glob("[0-9a-f]*.json")) - before
            found = [json.loads(path.read_text()) for path in own]
            return [one["models"][MODEL]["waiting"] for one in found if MODEL in one["models"]]

        await until(lambda: waiting() == [7])
    await until(lambda: set(directory.iterdir()) <= before)


async def test_garbage_instead_of_a_hello_ends_the_session(login: LoginNode) -> None:
    process = await asyncio.create_subprocess_exec(
        *login.ssh(), stdin=-1, stdout=-1, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await asyncio.wait_for(process.communicate(b"\xff" * 10_000), 60)
    found = frames.Decoder().feed(out)
    assert [frame.type for frame in found] == [frames.FrameType.HELLO, frames.FrameType.GO_AWAY]
    assert process.returncode == 0


async def test_a_missing_configuration_says_nothing_to_the_other_side(login: LoginNode) -> None:
    login.configure(no_such_key=1)
    try:
        process = await asyncio.create_subprocess_exec(*login.ssh("-T"), stdin=-1, stdout=-1, stderr=-1)
        out, err = await asyncio.wait_for(process.communicate(b""), 60)
    finally:
        login.configure()
    assert (out, err, process.returncode) == (b"", b"", 2)
    assert "no_such_key" in login.log.text()
