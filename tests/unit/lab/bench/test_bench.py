"""The benchmark's own arithmetic, its output, and its stub engine."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from xml.etree import ElementTree

from lab.bench import engine, plot, report, runner
from lab.bench.report import Figure, Scenario, at_least, at_most, over_rounds


def scenario(name: str) -> Scenario:
    return Scenario(name, f"about {name}", lambda bench: [])


def test_a_goal_is_met_at_its_bound() -> None:
    assert Figure("rate", 60.0, "times", at_least(60)).met is True
    assert Figure("rate", 59.9, "times", at_least(60)).met is False
    assert Figure("cpu", 300.0, "us", at_most(300)).met is True
    assert Figure("cpu", 301.0, "us", at_most(300)).met is False
    assert Figure("cpu", 301.0, "us").met is None


def test_rounds_give_their_median_and_their_spread() -> None:
    figure = over_rounds("share", [0.5, 0.9, 0.7], "%", at_least(60), 100)
    assert (figure.value, figure.low, figure.high) == (70.0, 50.0, 90.0)
    assert report.median([1.0, 2.0, 3.0, 10.0]) == 2.5


def test_results_are_objects_of_five_fields(tmp_path: Path) -> None:
    figures = [Figure("a", 1234567.0, "1/s"), Figure("b", 2.0, "ms", at_most(1))]
    report.write(tmp_path, [(scenario("one"), figures)], ["a machine"], keep=False)
    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"figure": "a", "value": 1234570.0, "unit": "1/s", "goal": None, "met": None},
        {"figure": "b", "value": 2.0, "unit": "ms", "goal": "<= 1", "met": False},
    ]
    table = (tmp_path / "table.txt").read_text()
    assert "a machine" in table
    assert "0 goals met, 1 missed" in table


def test_a_part_run_keeps_what_it_did_not_repeat(tmp_path: Path) -> None:
    first = [(scenario("one"), [Figure("a", 1, "ms")]), (scenario("two"), [Figure("b", 1, "ms")])]
    report.write(tmp_path, first, [], keep=False)
    report.write(tmp_path, [(scenario("two"), [Figure("b", 2, "ms")])], [], keep=True)
    found = json.loads((tmp_path / "results.json").read_text())
    assert [(one["figure"], one["value"]) for one in found] == [("a", 1.0), ("b", 2.0)]
    report.write(tmp_path, [(scenario("two"), [Figure("b", 3, "ms")])], [], keep=False)
    assert len(json.loads((tmp_path / "results.json").read_text())) == 1


def test_every_scenario_has_a_name_of_its_own_and_throughput_is_first() -> None:
    names = [one.name for one in (*runner.scenarios(peers=False), *runner.scenarios(peers=True))]
    assert len(set(names)) == len(names)
    assert names[0] == "throughput"


def test_plots_are_well_formed(tmp_path: Path) -> None:
    plot.bars(tmp_path / "bars.svg", "A & B", [("one <1>", [1.0, 2.0]), ("two", [40_000.0])])
    series = [("a", [(1.0, 2.0), (2.0, 4.0)]), ("b", [(1.0, 3.0)])]
    plot.lines(tmp_path / "lines.svg", "A", series, across="n", up="ms", bound=20.0)
    for name in ("bars.svg", "lines.svg"):
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")  # noqa: S314 - our own


async def test_the_engine_streams_what_was_asked_for(tmp_path: Path) -> None:
    stub = engine.Engine()
    path = tmp_path / "engine.sock"
    server = await asyncio.get_running_loop().create_unix_server(lambda: engine.Connection(stub), path)
    reader, writer = await asyncio.open_unix_connection(path)
    body = b'{"model":"m","stream":true,"max_tokens":3,"bench_interval":0.001,"bench_size":4}'
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = (await reader.readuntil(b"0\r\n\r\n")).decode()
    stamps = re.findall(r'"content":"t=(\d{19}) n=(\d{6}) xxxx"', answer)
    assert [int(number) for _, number in stamps] == [0, 1, 2]
    assert [int(at) for at, _ in stamps] == sorted(int(at) for at, _ in stamps)
    assert f'"prompt_tokens":{len(body)},"completion_tokens":3' in answer
    assert "data: [DONE]" in answer
    assert (stub.requests, stub.finished, stub.open) == (1, 1, 0)
    writer.close()
    server.close()


async def test_the_engine_tells_tokens_as_it_is_asked_and_stalls(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: engine.Connection(engine.Engine()), path
    )
    reader, writer = await asyncio.open_unix_connection(path)
    options = b'"stream_options":{"include_usage":true,"continuous_usage_stats":true}'
    for stall, seen in ((0, [1, 2, 3, 3, 3]), (2, [1, 2])):
        body = b'{%b,"stream":true,"max_tokens":3,"bench_stall":%d}' % (options, stall)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        answer = await reader.readuntil(b'"completion_tokens":2}}\n\n\r\n' if stall else b"0\r\n\r\n")
        events = [json.loads(line[6:]) for line in answer.split(b"\n") if line.startswith(b"data: {")]
        assert [one["usage"]["completion_tokens"] for one in events] == seen
        assert {one["usage"]["prompt_tokens"] for one in events} == {len(body)}
        assert stall or events[-1]["choices"] == []
    writer.close()
    server.close()


async def test_the_engine_notes_who_left(tmp_path: Path) -> None:
    stub = engine.Engine()
    path = tmp_path / "engine.sock"
    server = await asyncio.get_running_loop().create_unix_server(lambda: engine.Connection(stub), path)
    reader, writer = await asyncio.open_unix_connection(path)
    body = b'{"stream":true,"max_tokens":1000,"bench_interval":0.01}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nX-Request-Id: req-1\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    writer.write(head + body)
    await reader.readuntil(b"n=000000")
    writer.close()
    for _ in range(500):
        if not stub.open:
            break
        await asyncio.sleep(0.01)
    assert [name for name, _ in stub.left] == ["req-1"]
    assert stub.finished == 0
    server.close()
