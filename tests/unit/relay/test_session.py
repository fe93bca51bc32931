"""A session from end to end, in one process: client of the wire, relay, fronts without engines."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.paths import CAPABILITIES, COUNTING, MOST_COUNTED, PATHS
from sluice.front.identity import Identity
from sluice.relay import session
from sluice.relay.closed_file import STALE_SECONDS
from sluice.wire.frames import FrameType, encode
from sluice.wire.hello import Limits
from tests.unit.relay.bed import MODEL, Behaviour, bed, chat, until


async def test_answers_a_request(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, chat())
    assert answer.code == ""
    assert answer.head is not None
    assert (answer.head.status, answer.head.content_type) == (200, "application/json")
    assert answer.head.instance == running.instances[0].id
    assert answer.document()["choices"][0]["message"]["content"] == "ab " * 8
    (received,) = running.fronts[0].received
    assert received.body == chat()
    assert (received.head.method, received.head.path) == ("POST", "/v1/chat/completions")
    assert received.head.id == "req-" + "0" * 31 + "1"
    assert received.head.length == len(chat())


async def test_streams(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=5, delay=0.05)) as running:
        answer = await running.client.begin(MODEL, chat(stream=True))
        await until(lambda: answer.body)
        assert not answer.ended
        await running.client.wait(answer)
    assert bytes(answer.body).endswith(b"data: [DONE]\n\n")
    assert answer.head is not None
    assert answer.head.content_type == "text/event-stream"


async def test_many_requests_at_once(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(delay=0.01), Behaviour(delay=0.01)) as running:
        begun = [await running.client.begin(MODEL, chat(stream=bool(n % 2))) for n in range(16)]
        for answer in begun:
            await running.client.wait(answer)
            assert answer.code == ""
            assert answer.ended
    assert len(running.received()) == 16
    assert all(front.received for front in running.fronts)


async def test_a_conversation_stays_with_one_instance(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(), Behaviour(), Behaviour()) as running:
        places = set()
        for _ in range(6):
            answer = await running.client.request(MODEL, chat(), affinity="ab" * 32)
            assert answer.head is not None
            places.add(answer.head.instance)
    assert len(places) == 1


async def test_a_full_instance_sheds_to_the_next(tmp_path: Path, identity: Identity) -> None:
    hang = Behaviour(fault="hang")
    async with bed(tmp_path, identity, hang, hang) as running:
        running.publish(concurrency=2)
        for _ in range(6):
            await running.client.begin(MODEL, chat(), affinity="cd" * 32)
        await until(lambda: len(running.received()) == 6)
        assert sorted(len(front.received) for front in running.fronts) == [3, 3]
        beyond = await running.client.request(MODEL, chat())
    assert beyond.code == "overloaded"
    assert beyond.error is not None
    assert beyond.error.retry_after


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "malformed_json"),
        (b"[]", "malformed_json"),
        (b"\xff\xfe{}", "malformed_json"),
        (b'{"model": "tiny", "model": "tiny"}', "malformed_json"),
        (b'{"model": "tiny", "x": NaN}', "malformed_json"),
        (b"{}", "invalid_request"),
        (b'{"model": 1}', "invalid_request"),
        (b'{"model": "other"}', "model_mismatch"),
        (b'{"model": "tiny "}', "model_mismatch"),
    ],
)
async def test_trying_a_bad_body(tmp_path: Path, identity: Identity, body: bytes, code: str) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, body)
        after = await running.client.request(MODEL, chat())
    assert answer.code == code
    assert after.code == ""
    assert len(running.fronts[0].received) == 1


@pytest.mark.parametrize(("announced", "sent"), [(500, 400), (500, 501)])
async def test_trying_a_body_of_another_length(
    tmp_path: Path, identity: Identity, announced: int, sent: int
) -> None:
    body = chat().ljust(sent)
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, body, length=announced)
        after = await running.client.request(MODEL, chat())
    assert (answer.code, after.code) == ("invalid_request", "")


async def test_an_unknown_model_is_refused_before_its_body(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request("nobody", chat(model="nobody"))
    assert answer.code == "model_not_found"


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_trying_a_path_that_the_model_does_not_serve(
    tmp_path: Path, identity: Identity, path: str
) -> None:
    others = tuple(one for one in CAPABILITIES if one != PATHS[path])
    async with bed(tmp_path, identity, Behaviour()) as running:
        running.publish(capabilities=others)
        refused = await running.client.request(MODEL, chat(), path=path)
        running.publish(capabilities=(PATHS[path],))
        served = await running.client.request(MODEL, chat(), path=path)
    assert (refused.code, served.code) == ("capability_missing", "")
    assert [one.head.path for one in running.received()] == [path]


@pytest.mark.parametrize("path", sorted(path for path in PATHS if PATHS[path] in COUNTING))
async def test_trying_to_have_the_tokens_of_a_text_counted_that_fits_no_prompt(
    tmp_path: Path, identity: Identity, path: str
) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        running.publish(capabilities=CAPABILITIES)
        refused = await running.client.request(MODEL, chat(padding="x" * MOST_COUNTED), path=path)
        served = await running.client.request(MODEL, chat(padding="x" * (MOST_COUNTED - 200)), path=path)
    assert (refused.code, served.code) == ("body_too_large", "")
    assert len(running.received()) == 1


async def test_trying_media_by_address_on_the_other_paths(tmp_path: Path, identity: Identity) -> None:
    part = {"type": "input_image", "image_url": "http://169.254.169.254/"}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/responses": {"input": [{"role": "user", "content": [part]}]},
        "/v1/embeddings": {"input": [part]},
        "/v1/rerank": {"query": "x", "documents": [part]},
        "/v1/messages": {"messages": [{"content": [{"source": {"type": "url", "url": "http://x/"}}]}]},
        "/v1/messages/count_tokens": {"messages": [{"content": [{"source": {"url": "http://x/"}}]}]},
        "/v1/responses/input_tokens": {"input": [{"role": "user", "content": [part]}]},
        "/tokenize": {"messages": [{"role": "user", "content": [part]}]},
    }
    async with bed(tmp_path, identity, Behaviour()) as running:
        running.publish(capabilities=CAPABILITIES)
        answers = [
            await running.client.request(MODEL, json.dumps({"model": MODEL, **body}).encode(), path=path)
            for path, body in bodies.items()
        ]
    assert [answer.code for answer in answers] == ["media_url_refused"] * len(bodies)
    assert not running.received()


async def test_a_sleeping_model_says_when_to_ask_again(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity) as running:
        answer = await running.client.request(MODEL, chat())
        await until(lambda: running.demand()["models"].get(MODEL, {}).get("last"))
    assert answer.code == "no_instance"
    assert answer.error is not None
    assert answer.error.retry_after == 30.0


async def test_media_by_url_never_reaches_an_instance(tmp_path: Path, identity: Identity) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": [part]}]}).encode()
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, body)
    assert answer.code == "media_url_refused"
    assert running.fronts[0].received == []


async def test_a_body_of_megabytes_passes(tmp_path: Path, identity: Identity) -> None:
    body = chat(padding="x" * 5_000_000)
    async with bed(tmp_path, identity, Behaviour()) as running:
        answer = await running.client.request(MODEL, body)
    assert answer.code == ""
    assert running.fronts[0].received[0].body == body


async def test_bodies_beyond_the_budget_are_refused(tmp_path: Path, identity: Identity) -> None:
    body = chat(padding="x" * 60_000)
    async with bed(tmp_path, identity, Behaviour(fault="hang"), max_buffered=100_000) as running:
        first = await running.client.begin(MODEL, body)
        await until(lambda: running.fronts[0].received)
        second = await running.client.request(MODEL, body)
        await running.client.cancel(first)
        await until(lambda: running.session._services.memory.free == 100_000)
    assert second.code == "overloaded"


@pytest.mark.parametrize("fault", ["hang", "stall"])
async def test_a_cancel_stops_the_engine_within_a_second(
    tmp_path: Path, identity: Identity, fault: str
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault=fault)) as running:
        answer = await running.client.begin(MODEL, chat(stream=True))
        await until(lambda: running.fronts[0].received)
        await running.client.cancel(answer)
        took = await until(lambda: running.fronts[0].received[0].left is not None)
        assert running.session._services.demand.running == {}
    assert took < 1.0


async def test_the_end_of_the_session_stops_the_engines(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang")) as running:
        for _ in range(3):
            await running.client.begin(MODEL, chat())
        await until(lambda: len(running.fronts[0].received) == 3)
        await running.client.close()
        took = await until(lambda: all(one.left is not None for one in running.fronts[0].received))
    assert took < 1.0


async def test_another_instance_takes_over_while_nothing_was_answered(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="instance_failed"), Behaviour()) as running:
        answers = [await running.client.request(MODEL, chat()) for _ in range(8)]
    assert {answer.code for answer in answers} == {""}
    assert {answer.head.instance for answer in answers if answer.head} == {running.instances[1].id}


async def test_another_instance_takes_over_after_a_head_without_a_body(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="head"), Behaviour()) as running:
        answers = [await running.client.request(MODEL, chat(stream=True)) for _ in range(8)]
        alone = replace(running.instances[0], id=f"{MODEL}-ffffffff")
        running.publish(instances=[alone])
        last = await running.client.request(MODEL, chat(stream=True))
    assert {answer.code for answer in answers} == {""}
    assert last.code == "instance_failed"
    assert last.head is None


async def test_a_request_breaks_two_instances_at_most(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, *[Behaviour(fault="instance_failed")] * 4) as running:
        answer = await running.client.request(MODEL, chat())
    # After this code the proxy tries at most once more.
    assert answer.code == "instance_failed"
    assert len(running.received()) == 2


async def test_a_gone_instance_is_503_with_retry_after(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        await until(lambda: running.fronts[0].accepted)
        running.fronts[0].stop()
        answer = await running.client.request(MODEL, chat())
    assert answer.code == "no_instance"
    assert answer.error is not None
    assert answer.error.retry_after


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "127.0.0.2"])
async def test_a_host_that_cannot_be_reached_is_503(tmp_path: Path, identity: Identity, host: str) -> None:
    async with bed(tmp_path, identity, Behaviour(), connect_timeout=2) as running:
        running.publish(instances=[replace(running.instances[0], host=host, port=1024)])
        answer = await running.client.request(MODEL, chat())
    assert answer.code == "no_instance"
    assert running.fronts[0].received == []


@pytest.mark.parametrize("fault", ["break", "cut-within"])
async def test_an_answer_that_breaks_off_ends_in_an_error(
    tmp_path: Path, identity: Identity, fault: str
) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=10, fault=fault), Behaviour()) as running:
        running.publish(instances=running.instances[:1])
        answer = await running.client.request(MODEL, chat(stream=True))
    assert answer.body
    assert not answer.ended
    assert answer.code == "instance_failed"


async def test_an_instance_that_falls_silent_is_a_timeout(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="stall"), idle_timeout=0.3) as running:
        answer = await running.client.request(MODEL, chat(stream=True))
    assert answer.code == "instance_timeout"


async def test_an_instance_that_never_answers_is_a_timeout(tmp_path: Path, identity: Identity) -> None:
    faults = [Behaviour(fault="hang")] * 2
    async with bed(tmp_path, identity, *faults, first_byte_timeout=0.3) as running:
        answer = await running.client.request(MODEL, chat())
    assert answer.code == "instance_timeout"
    assert len(running.received()) == 1


async def test_an_engines_refusal_is_passed_on(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(status=400, token="refused", tokens=1)) as running:
        answer = await running.client.request(MODEL, chat())
    assert answer.head is not None
    assert answer.head.status == 400
    assert b"refused" in answer.body


@pytest.mark.parametrize("status", [401, 403, 407, 302])
async def test_an_engines_word_on_credentials_stays_here(
    tmp_path: Path, identity: Identity, status: int
) -> None:
    async with bed(tmp_path, identity, Behaviour(status=status)) as running:
        answer = await running.client.request(MODEL, chat())
    assert (answer.head, answer.code) == (None, "instance_failed")


async def test_an_impostor_gets_neither_prompt_nor_key(
    tmp_path: Path, identity: Identity, other_identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        taken = bytearray()

        async def steal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken.extend(await reader.read(65536))
            writer.close()

        thief = await asyncio.start_server(steal, "127.0.0.1", 0, ssl=other_identity.context)
        port = thief.sockets[0].getsockname()[1]
        running.instances[0] = replace(running.instances[0], port=port)
        running.publish()
        answer = await running.client.request(MODEL, chat())
        thief.close()
    assert answer.code == "no_instance"
    assert bytes(taken) == b""


async def test_a_thief_without_tls_gets_neither_prompt_nor_key(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        taken = bytearray()

        async def steal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken.extend(await reader.read(65536))
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            writer.close()

        thief = await asyncio.start_server(steal, "127.0.0.1", 0)
        port = thief.sockets[0].getsockname()[1]
        running.instances[0] = replace(running.instances[0], port=port)
        running.publish()
        answer = await running.client.request(MODEL, chat())
        thief.close()
    assert answer.code == "no_instance"
    assert b"hello" not in taken
    assert identity.key.encode() not in taken


async def test_a_thief_that_says_nothing_costs_the_connect_timeout_alone(
    tmp_path: Path, identity: Identity
) -> None:
    async with bed(tmp_path, identity, Behaviour(), connect_timeout=0.3) as running:

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        thief = await asyncio.start_server(wait, "127.0.0.1", 0)
        port = thief.sockets[0].getsockname()[1]
        running.instances[0] = replace(running.instances[0], port=port)
        running.publish()
        answer = await running.client.request(MODEL, chat(), seconds=5)
        thief.close()
    assert answer.code == "no_instance"


async def test_a_front_with_another_key_gets_no_prompt(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        running.instances[0] = replace(running.instances[0], key="x" * 43)
        running.publish()
        answer = await running.client.request(MODEL, chat())
    assert answer.code == "no_instance"
    assert running.fronts[0].received == []


async def test_the_closed_file_refuses_every_verb(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang")) as running:
        running_request = await running.client.begin(MODEL, chat())
        await until(lambda: running.fronts[0].received)
        (tmp_path / "closed").touch()
        await asyncio.sleep(2 * STALE_SECONDS)
        refused = [
            await running.client.request(MODEL, chat()),
            await running.client.verb("models"),
            await running.client.verb("metrics"),
            await running.client.verb("demand", {MODEL: 1}),
            await running.client.wait(running_request),
        ]
        (tmp_path / "closed").unlink()
        await asyncio.sleep(2 * STALE_SECONDS)
        opened = await running.client.verb("models")
    assert [answer.code for answer in refused] == ["closed"] * 5
    assert opened.code == ""


async def test_models_say_what_the_table_says(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(fault="hang")) as running:
        await running.client.begin(MODEL, chat())
        await until(lambda: running.fronts[0].received)
        answer = await running.client.verb("models")
    (model,) = answer.document()["models"]
    assert (model["name"], model["status"], model["ready"], model["running"]) == (MODEL, "ready", 1, 1)


async def test_metrics_count_outcomes_and_pass_the_schedulers_on(tmp_path: Path, identity: Identity) -> None:
    golden = Path(__file__).parents[2] / "golden/contracts/figures.json"
    (tmp_path / "figures.json").write_bytes(golden.read_bytes())
    async with bed(tmp_path, identity, Behaviour()) as running:
        await running.client.request(MODEL, chat())
        await running.client.request(MODEL, b"{}")
        answer = await running.client.verb("metrics")
    samples = answer.document()["samples"]
    counts = {
        one["labels"]["outcome"]: one["value"]
        for one in samples
        if one["name"] == "sluice_relay_requests_total"
    }
    assert counts == {"ok": 1.0, "invalid_request": 1.0}
    assert any(one["name"].startswith("sluice_scheduler_") for one in samples)


async def test_unknown_names_do_not_fill_the_counters(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, requests_per_second=1) as running:
        for number in range(10):
            await running.client.request(f"m{number}", chat(model=f"m{number}"))
        answer = await running.client.verb("metrics")
    labels = [one["labels"] for one in answer.document()["samples"] if "outcome" in one["labels"]]
    assert labels
    assert {one["model"] for one in labels} == {""}


async def test_demand_is_clamped_and_of_known_models_alone(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(), max_waiting=5) as running:
        answer = await running.client.verb("demand", {MODEL: 1000, "nobody": 3})
        assert answer.head is not None
        await until(lambda: running.demand()["models"])
        document = running.demand()
    assert answer.head.status == 204
    assert set(document["models"]) == {MODEL}
    assert document["models"][MODEL]["waiting"] == 5


async def test_a_table_of_garbage_keeps_the_last_one(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        first = await running.client.request(MODEL, chat())
        (tmp_path / "routing.json").write_text('{"version": 1, "models": ')
        second = await running.client.request(MODEL, chat())
        (tmp_path / "routing.json").unlink()
        third = await running.client.request(MODEL, chat())
    assert [answer.code for answer in (first, second, third)] == ["", "", ""]


async def test_a_slow_reader_slows_its_own_stream_alone(tmp_path: Path, identity: Identity) -> None:
    flood = Behaviour(tokens=3000, token="x" * 10_000)
    async with bed(tmp_path, identity, flood) as running:
        running.client.reading = False
        slow = await running.client.begin(MODEL, chat(stream=True))
        await until(lambda: len(slow.body) >= 32_768)
        await asyncio.sleep(0.3)
        assert len(slow.body) <= 32_768
        assert running.session.endpoint.connection.pending(slow.stream) <= 65_536
        other = await running.client.verb("models")
        await running.client.ping()
        await until(lambda: running.client.pongs)
        await running.client.cancel(slow)
        await until(lambda: running.fronts[0].received[0].left is not None)
    assert other.code == ""


async def test_a_slow_reader_is_no_silent_instance(tmp_path: Path, identity: Identity) -> None:
    flood = Behaviour(tokens=30, token="x" * 10_000)
    async with bed(tmp_path, identity, flood, idle_timeout=0.2) as running:
        running.client.reading = False
        slow = await running.client.begin(MODEL, chat(stream=True))
        await until(lambda: len(slow.body) >= 32_768)
        await asyncio.sleep(2.5)
        assert slow.error is None
        running.client.reading = True
        running.client.connection.consume(slow.stream, len(slow.body))
        await running.client.flush()
        await running.client.wait(slow)
    assert slow.ended
    assert len(slow.body) > 300_000


async def test_many_answers_under_one_slow_reader_all_come(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=200, token="y" * 500)) as running:
        running.publish(concurrency=64)
        begun = [await running.client.begin(MODEL, chat(stream=True)) for _ in range(40)]
        for answer in begun:
            await running.client.wait(answer)
        connection = running.session.endpoint.connection
        await until(lambda: not connection.open_streams)
        front = running.fronts[0].endpoints[0].connection
        await until(lambda: not front.open_streams)
    assert all(len(answer.body) == len(begun[0].body) > 100_000 for answer in begun)


async def test_more_requests_than_the_rate_are_refused(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(), requests_per_second=2) as running:
        codes = [(await running.client.request(MODEL, chat())).code for _ in range(4)]
    assert codes[:2] == ["", ""]
    assert "rate_limited" in codes


async def test_a_silent_proxy_is_given_up(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, ping_interval=0.1) as running:
        running.client._receiving.cancel()
        why = await asyncio.wait_for(asyncio.shield(running.ran), 5)
    assert why == "the other side stopped sending"


async def test_an_old_session_sends_the_proxy_away_and_ends(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour(tokens=4, delay=0.4), max_session_age=0.5) as running:
        answer = await running.client.begin(MODEL, chat(stream=True))
        await running.client.wait(answer)
        why = await asyncio.wait_for(asyncio.shield(running.ran), 5)
    assert why == "age"
    assert running.client.went_away == "age"
    assert answer.ended


async def test_garbage_ends_the_session_with_a_go_away(tmp_path: Path, identity: Identity) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        running.client.write_raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        why = await asyncio.wait_for(asyncio.shield(running.ran), 5)
        await running.client.closed.wait()
    assert why == "protocol"
    assert running.client.went_away == "protocol"


async def test_a_proxy_that_breaks_the_protocol_and_does_not_read_is_left_at_once(
    tmp_path: Path, identity: Identity
) -> None:
    flood = Behaviour(tokens=3000, token="x" * 10_000)
    async with bed(tmp_path, identity, flood, limits=Limits(1 << 29, 1 << 30)) as running:
        running.client._receiving.cancel()
        await running.client.begin(MODEL, chat(stream=True))
        await until(running.session.endpoint.connection.has_data)
        running.client.write_raw(b"\xff" * 100)
        why = await asyncio.wait_for(asyncio.shield(running.ran), 5)
    assert why == "protocol"


async def test_answers_that_nobody_reads_do_not_pile_up(tmp_path: Path, identity: Identity) -> None:
    golden = Path(__file__).parents[2] / "golden/contracts/figures.json"
    (tmp_path / "figures.json").write_bytes(golden.read_bytes())
    limits = Limits(stream_credit=1024)
    async with bed(tmp_path, identity, Behaviour(), limits=limits) as running:
        client = running.client
        client.reading = False
        asked = [client._expect(client.connection.open_metrics()) for _ in range(100)]
        await client.flush()
        await until(lambda: sum(answer.code == "overloaded" for answer in asked) == 92)
        wire = running.session.endpoint.connection
        assert sum(wire.pending(answer.stream) > 0 for answer in asked) == 8
        for answer in asked:
            await client.cancel(answer)
        after = await client.request(MODEL, chat())
        client.reading = True
        models = await client.verb("models")
    assert (after.code, models.code) == ("", "")


async def test_refused_heads_are_counted_each_and_told_once_a_second(
    tmp_path: Path, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    async with bed(tmp_path, identity, Behaviour()) as running:
        heads = [encode(FrameType.REQUEST, 2 * number + 1, b'{"x":1}') for number in range(500)]
        running.client.write_raw(b"".join(heads))
        await until(lambda: "requests were refused" in caplog.text)
        assert running.session._services.counters._outcomes["", "refused"] == 500
    assert len([one for one in caplog.records if one.message == "requests were refused"]) <= 2


async def test_a_session_that_is_old_ends_though_the_proxy_keeps_a_stream(
    tmp_path: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "OVERSTAY_SECONDS", 0.5)
    golden = Path(__file__).parents[2] / "golden/contracts/figures.json"
    (tmp_path / "figures.json").write_bytes(golden.read_bytes())
    changes: dict[str, Any] = {"max_session_age": 0.1, "total_timeout": 0.5}
    async with bed(tmp_path, identity, limits=Limits(stream_credit=1024), **changes) as running:
        running.client.reading = False
        running.client._expect(running.client.connection.open_metrics())
        await running.client.flush()
        assert await asyncio.wait_for(asyncio.shield(running.ran), 8) == "age"
