"""The small parts: demand, metrics, configuration, standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.demand import DemandFile, ModelDemand
from sluice.contracts.files import read_json, write_json
from sluice.contracts.metrics import Sample
from sluice.errors import ConfigError
from sluice.relay import config, metrics
from sluice.relay.demand import Demand, DemandWriter
from sluice.relay.metrics import Connections, Counters

GOLDEN = Path(__file__).parents[2] / "golden" / "contracts"


def test_demand_counts_running_by_model() -> None:
    demand = Demand()
    demand.asked("m", 1.0)
    demand.began("m", "m-1")
    demand.began("m", "m-2")
    assert demand.snapshot(2.0) == {"m": ModelDemand(2, 0, 1.0, {"m-1": 1, "m-2": 1})}
    demand.ended("m", "m-1")
    assert demand.running == {"m": 1}
    assert demand.snapshot(2.0) == {"m": ModelDemand(1, 0, 1.0, {"m-2": 1})}
    demand.ended("m", "m-2")
    assert demand.running == {}
    assert demand.snapshot(2.0) == {"m": ModelDemand(0, 0, 1.0)}


def test_who_answered_lately_is_told_in_steps_of_five_seconds() -> None:
    demand = Demand()
    demand.asked("m", 1.0)
    demand.answered("m", "m-1", 12.0)
    demand.answered("m", "m-1", 14.9)
    demand.answered("m", "m-2", 61.0)
    assert demand.snapshot(62.0)["m"].answered == {"m-1": 10, "m-2": 60}
    assert demand.snapshot(71.0)["m"].answered == {"m-2": 60}


def test_a_write_that_ends_after_its_relay_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = DemandWriter(str(tmp_path))

    def slow(*args: Any, **options: Any) -> None:
        writer.remove()
        write_json(*args, **options)

    monkeypatch.setattr("sluice.relay.demand.write_json", slow)
    writer.write({"m": ModelDemand(1, 2, 3.0)}, 100.0)
    assert not list(tmp_path.iterdir())


def test_waiting_is_forgotten_when_the_proxy_is_silent() -> None:
    demand = Demand()
    demand.report({"m": 10}, 100.0)
    assert demand.snapshot(101.0) == {"m": ModelDemand(0, 10, 100.0)}
    assert demand.snapshot(131.0) == {"m": ModelDemand(0, 0, 100.0)}


def test_a_report_of_nothing_is_no_demand() -> None:
    demand = Demand()
    demand.report({"m": 0}, 100.0)
    assert demand.snapshot(100.0) == {}


def test_the_demand_file_keeps_its_contract(tmp_path: Path) -> None:
    writer = DemandWriter(str(tmp_path))
    models = {"m": ModelDemand(1, 2, 3.0)}
    assert writer.due(models, 100.0)
    writer.write(models, 100.0)
    path = tmp_path / f"{writer.relay}.json"
    assert DemandFile.parse(read_json(path)) == DemandFile(writer.relay, 100.0, models)
    assert path.stat().st_mode & 0o777 == 0o640
    assert not writer.due(models, 104.0)
    assert writer.due(models, 105.0)
    assert writer.due({}, 101.0)
    writer.remove()
    assert not any(tmp_path.iterdir())
    writer.remove()


def test_files_of_killed_relays_are_swept(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in ("0" * 16 + ".json", "1" * 16 + ".json", "README"))
    for path in (old, young, other):
        path.touch()
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    DemandWriter(str(tmp_path)).sweep(young.stat().st_mtime + 1)
    assert sorted(tmp_path.iterdir()) == sorted([young, other])


def test_counters_become_samples() -> None:
    counters = Counters(100.0)
    counters.count("m", "ok")
    counters.count("m", "ok")
    counters.count("", "model_not_found")
    counters.lost("timeout")
    found = counters.samples(160, 3, {"m": 1}, {"m": Connections(open=2, broken=1)})
    samples = {(one.name, *sorted(one.labels.values())): one.value for one in found}
    assert samples["sluice_relay_requests_total", "m", "ok"] == 2
    assert samples["sluice_relay_requests_total", "", "model_not_found"] == 1
    assert samples["sluice_relay_running", "m"] == 1
    assert samples["sluice_relay_open_streams",] == 3
    assert samples["sluice_relay_session_age_seconds",] == 60
    assert samples["sluice_relay_instance_losses_total", "timeout"] == 1
    assert samples["sluice_relay_instance_connections", "m"] == 2
    assert samples["sluice_relay_breaker_open", "m"] == 1
    assert all(Sample.parse(one.dump()) == one for one in found)


def test_the_schedulers_figures_pass_and_garbage_does_not(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert metrics.scheduler_samples(str(path)) == ()
    path.write_bytes((GOLDEN / "figures.json").read_bytes())
    assert metrics.scheduler_samples(str(path))
    path.write_text('{"version": 1, "samples": [{"name": "evil"}]}')
    assert metrics.scheduler_samples(str(path)) == ()


SETTINGS: dict[str, Any] = {
    "cluster": "demo",
    "routing_table": "/var/lib/sluice/routing.json",
    "demand_dir": "/var/lib/sluice/demand",
    "figures": "/var/lib/sluice/figures.json",
    "closed_file": "/etc/sluice/closed",
}


def write_settings(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({**SETTINGS, **changes}))
    return str(path)


def test_a_configuration_is_read(tmp_path: Path) -> None:
    read = config.read(write_settings(tmp_path, max_streams=7))
    assert (read.cluster, read.max_streams, read.max_body) == ("demo", 7, 33_554_432)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cluster", "Demo!"),
        ("routing_table", "routing.json"),
        ("closed_file", ""),
        ("max_body", 0),
        ("max_answer", 0),
        ("total_timeout", 0),
        ("max_streams", "many"),
        ("stream_credit", 8191),
        ("session_credit", 1000),
        ("max_buffered", 5),
        ("idle_timeout", -1),
        ("log_level", "loud"),
        ("no_such_key", 1),
    ],
)
def test_a_bad_configuration_names_key_and_file(tmp_path: Path, key: str, value: Any) -> None:
    path = write_settings(tmp_path, **{key: value})
    with pytest.raises(ConfigError) as caught:
        config.read(path)
    assert key in caught.value.message
    assert path in caught.value.message


ECHO = """
import asyncio
from sluice.relay import stdio

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.gone = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.transport.write(data.upper())

    def eof_received(self):
        return False

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass

    def connection_lost(self, exc):
        self.gone.set_result(None)

async def main():
    echo = Echo()
    await stdio.attach(echo)
    await echo.gone

asyncio.run(main())
"""


async def test_standard_streams_may_be_pipes() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ECHO, stdin=-1, stdout=-1, env=environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"x" * 300_000)
    assert await asyncio.wait_for(process.stdout.readexactly(300_000), 20) == b"X" * 300_000
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_standard_streams_may_be_one_socket() -> None:
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ECHO, stdin=theirs.fileno(), stdout=theirs.fileno(), env=environment()
    )
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    # Both directions at once: a pipe transport would believe that its peer has left when bytes arrive.
    for _ in range(20):
        writer.write(b"y" * 10_000)
        await writer.drain()
        assert await asyncio.wait_for(reader.readexactly(10_000), 20) == b"Y" * 10_000
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(config.__file__).parents[2])}
