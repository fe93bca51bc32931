"""The access log: in the format of other log lines, and without waiting for the journal."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any

import pytest

from sluice.proxy import access_log
from sluice.proxy.access_log import AccessLog
from tests.felt import Stopwatch


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


def read_lines(reader: int) -> list[dict[str, Any]]:
    """Return the lines that can be read now."""
    raw = b""
    try:
        while piece := os.read(reader, 1 << 20):
            raw += piece
    except BlockingIOError:
        pass
    assert raw.endswith(b"\n"), "a line was cut"
    return [json.loads(entry) for entry in raw.splitlines()]


async def test_a_line_past_the_logging_module_is_as_the_others() -> None:
    reader, descriptor = pipe()
    writer = AccessLog("proxy", descriptor)
    writer.info("request", '"status": 200')
    await asyncio.sleep(3 * access_log.LINES_GATHER)
    (entry,) = read_lines(reader)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {"level": "info", "component": "proxy", "message": "request", "status": 200}


async def test_a_level_above_info_keeps_those_lines_away() -> None:
    reader, descriptor = pipe()
    writer = AccessLog("proxy", descriptor, "warning")
    writer.info("request", '"status": 200')
    writer.flush()
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)


async def test_a_journal_that_takes_nothing_holds_nobody_up_and_the_gap_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "LINES_HELD", 200_000)
    monkeypatch.setattr(access_log, "LINES_RETRY", 0.01)
    reader, descriptor = pipe()
    writer = AccessLog("proxy", descriptor)
    with Stopwatch() as felt:
        for number in range(5000):
            writer.info("request", f'"number": {number}, "pad": "{"x" * 100}"')
            if number % 100 == 0:
                writer.flush()
    assert felt.seconds < 5
    assert writer._held <= 201_000
    found = read_lines(reader)
    for _ in range(200):
        await asyncio.sleep(0.01)
        try:
            found += read_lines(reader)
        except AssertionError:
            continue  # nothing to read
        if caplog.records:
            break
    numbers = [entry["number"] for entry in found]
    assert numbers == list(range(len(numbers))), "held lines must come first, and complete"
    (gap,) = caplog.records
    assert gap.__dict__["lost"] == 5000 - len(numbers) > 1000


async def test_a_journal_that_is_gone_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    reader, descriptor = pipe()
    writer = AccessLog("proxy", descriptor)
    os.close(reader)
    writer.info("request", '"status": 200')
    writer.flush()
    assert [entry.__dict__["lost"] for entry in caplog.records] == [1]
