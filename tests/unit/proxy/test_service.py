"""The proxy's process: its sockets, its status, its logs, its end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sluice.errors import ConfigError
from sluice.logs import JsonFormatter
from sluice.proxy.service import Service
from tests.fakes.authority import make_key
from tests.fakes.wire_relay import EVENTS, Call, FakeRelay

from .conftest import CHAT, Bed, TwoParts, answer_well, chat, config, event, eventually, open_bed

SOURCE = Path(__file__).parents[3] / "files/sluice/src"


async def test_the_socket_is_for_owner_and_group_alone(bed: Bed) -> None:
    mode = os.stat(bed.config.socket).st_mode  # noqa: PTH116 (a path's own method counts as blocking)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


async def test_a_socket_left_by_a_killed_process_is_replaced(tmp_path: Path) -> None:
    settings = config(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(settings.socket)
    async with open_bed(settings, FakeRelay(answer_well)) as bed:
        assert (await bed.get("/v1/models"))[0] == 200


async def test_a_socket_that_cannot_be_bound_is_named(tmp_path: Path) -> None:
    settings = replace(config(tmp_path), socket=str(tmp_path / "absent" / "http.sock"))
    with pytest.raises(ConfigError, match=r"absent/http\.sock"):
        await Service(settings, FakeRelay(answer_well).transport).start()


def status_url(bed: Bed) -> str:
    host, port = bed.service._runners[1].addresses[0]
    assert host == "127.0.0.1"
    return f"http://127.0.0.1:{port}"


async def test_health_and_metrics_are_on_loopback(bed: Bed) -> None:
    await bed.post(chat())
    async with aiohttp.ClientSession() as http:
        async with http.get(status_url(bed) + "/health") as response:
            health = await response.json()
        async with http.get(status_url(bed) + "/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            metrics = await response.text()
        async with http.get(status_url(bed) + "/v1/models") as response:
            assert response.status == 404
        async with http.post(status_url(bed) + "/health") as response:
            assert response.status == 405
    assert (health["status"], health["authority"]) == ("ok", {"reachable": True})
    (cluster,) = health["clusters"]
    assert (cluster["name"], cluster["models"]["smol"]["status"]) == ("demo", "ready")
    assert cluster["sessions"][0]["state"] == "up"
    assert 'sluice_proxy_requests_total{code="",model="smol",status="200"} 1.0' in metrics
    assert 'sluice_proxy_session_up{cluster="demo",session="0"} 1.0' in metrics


async def test_unknown_models_and_paths_make_no_new_figures(bed: Bed) -> None:
    for name in ("one", "two"):
        await bed.post(chat(model=name))
        await bed.get(f"/v1/{name}")
    text = bed.service.metrics.render().decode()
    assert set(re.findall(r'sluice_proxy_requests_total\{.*model="([^"]*)"', text)) == {""}


async def test_the_access_line_has_ids_and_figures_and_no_content(
    bed: Bed, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def canary(call: Call) -> None:
        await call.answer({"text": "canary-answer"})

    caplog.set_level(logging.DEBUG)
    bed.relay.answer = canary
    given = "req-" + "5" * 32
    await bed.post(chat(messages=[{"role": "user", "content": "canary-prompt"}]), **{"X-Request-Id": given})
    await bed.post(b'{"canary-cut', **{"X-Request-Id": given})
    await bed.get("/canary-path")
    await bed.post(chat(model="canary-model"))
    bed.service.access.flush()
    written = capfd.readouterr().err.splitlines()
    lines = [*written, *(JsonFormatter("proxy").format(record) for record in caplog.records)]
    access = [json.loads(line) for line in written if '"message": "request"' in line]
    assert {line["component"] for line in access} == {"proxy"}
    assert [line["status"] for line in access] == [200, 400, 404, 404]
    assert [line["request_id"] for line in access[:2]] == [given, given]
    assert (access[0]["user"], access[0]["model"], access[0]["instance"]) == ("u-1", "smol", "smol-0badcafe")
    ours = "".join(line for line in lines if '"sluice' in line or "request" in line)
    assert "canary" not in ours
    assert bed.key not in "".join(lines)


async def test_a_fault_of_ours_is_logged_without_its_words(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*_: object) -> None:
        raise KeyError("canary")

    bed.service.handler._affinity = break_down  # type: ignore[method-assign,assignment]  # a fault
    await bed.post(chat())
    (record,) = [record for record in caplog.records if record.exc_info]
    line = JsonFormatter("proxy").format(record)
    assert json.loads(line)["exception"] == "KeyError"
    assert "canary" not in line


async def test_stopping_lets_open_streams_end_and_settles_them(tmp_path: Path) -> None:
    slow = TwoParts()
    async with open_bed(config(tmp_path), FakeRelay(slow)) as bed:
        response = await bed.http.post(f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers())
        await response.content.readany()
        stopping = asyncio.create_task(bed.service.stop(drain=5.0))
        await asyncio.sleep(0.1)
        assert not stopping.done()
        slow.go_on.set()
        assert await response.read() == event("second")
        await asyncio.wait_for(stopping, 5)
        assert [record.code for record in bed.authority.usage.values()] == [""]
        with pytest.raises(aiohttp.ClientError):
            await bed.get("/v1/models")


async def test_stopping_ends_what_does_not_end_by_itself(tmp_path: Path) -> None:
    async def hang(call: Call) -> None:
        call.start(content_type=EVENTS)
        await call.send(event("first"))
        await call.cancelled.wait()

    async with open_bed(config(tmp_path), FakeRelay(hang)) as bed:
        response = await bed.http.post(f"http://proxy{CHAT}", json=chat(stream=True), headers=bed.headers())
        await response.content.readany()
        await asyncio.wait_for(bed.service.stop(drain=0.1), 10)
        assert len(bed.authority.usage) == 1
        response.close()


async def test_a_part_that_ends_in_a_fault_ends_the_process(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down() -> bool:
        raise KeyError("x")

    monkeypatch.setattr(bed.service.usage, "flush", break_down)
    with pytest.raises(KeyError):
        await asyncio.wait_for(bed.service.watch(), 5)
    monkeypatch.undo()


# --- as a process of its own ----------------------------------------------------------------------------


def write_config(tmp_path: Path) -> Path:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    document = asdict(replace(config(tmp_path), status_port=port))
    document["clusters"] = [
        {**cluster, "host": "127.0.0.1", "port": 1, "known_hosts": str(tmp_path / "known_hosts")}
        for cluster in document["clusters"]
    ]
    path = tmp_path / "proxy.json"
    path.write_text(json.dumps(document))
    return path


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from sluice.cli import main; sys.exit(main())",
            "proxy",
            "--config",
            path,
        ],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stderr=subprocess.PIPE,
        text=True,
    )


def read_log(process: subprocess.Popen[str], message: str = "") -> list[dict[str, Any]]:
    """Read the process's log up to the line that says `message`, or else to its end."""
    assert process.stderr is not None
    lines = []
    for text in process.stderr:
        lines.append(json.loads(text))
        if lines[-1]["message"] == message:
            return lines
    assert not message, f"the process ended without saying {message!r}: {lines}"
    return lines


async def test_it_answers_without_its_neighbours_and_stops_on_sigterm(tmp_path: Path) -> None:
    with start(write_config(tmp_path)) as process:
        try:
            lines = await asyncio.wait_for(asyncio.to_thread(read_log, process, "session auth_failed"), 20)
            connector = aiohttp.UnixConnector(str(tmp_path / "http.sock"))
            async with aiohttp.ClientSession(connector=connector) as http:
                headers = {"Authorization": f"Bearer {make_key()}"}
                async with http.get("http://proxy/v1/models", headers=headers) as response:
                    assert response.status == 503
                    assert (await response.json())["error"]["code"] == "authority_unreachable"
            process.send_signal(signal.SIGTERM)
            lines += await asyncio.wait_for(asyncio.to_thread(read_log, process), 20)
            assert await asyncio.to_thread(process.wait, 20) == 0
        finally:
            process.kill()
    assert {line["component"] for line in lines} == {"proxy"}
    assert any(line["message"] == "stopping" for line in lines)
    assert any(line["message"] == "listening" for line in lines)


def test_a_wrong_file_stops_the_start_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "proxy.json"
    path.write_text("{}")
    process = start(path)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1
    assert "is missing" in errors
    assert str(path) in errors


async def test_eventually_is_no_endless_wait() -> None:
    with pytest.raises(AssertionError):
        await eventually(lambda: False, 0.02)
