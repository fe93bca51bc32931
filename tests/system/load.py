"""Constant load of streams on one model, each judged by what its client saw."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.system.models import registered
from tests.system.service import LIGHT, Service


@dataclass
class Outcome:
    """One stream: times of the monotonic clock; `problem` is "" when it came whole."""

    began: float
    first: float = 0.0
    ended: float = 0.0
    problem: str = ""

    @property
    def wait(self) -> float:
        """Seconds to the first token."""
        return self.first - self.began


def stream(service: Service, model: str, tokens: int, timeout: float = 300) -> Outcome:
    """Ask one question and read its stream to the end; every way in which that may go wrong is a problem."""
    outcome = Outcome(time.monotonic())
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Count from one to a hundred, in words."}],
        "max_tokens": tokens,
        "stream": True,
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {service.key}"}
    connection = http.client.HTTPSConnection(
        service.url.removeprefix("https://"), context=service.context, timeout=timeout
    )
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        _read(connection.getresponse(), outcome)
    except (OSError, http.client.HTTPException) as error:
        outcome.problem = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    outcome.ended = time.monotonic()
    return outcome


def _read(response: http.client.HTTPResponse, outcome: Outcome) -> None:
    if response.status != 200:
        outcome.problem = f"{response.status}: {response.read(300)!r}"
        return
    outcome.problem = "cut: no [DONE]"
    while line := response.readline():
        if not line.startswith(b"data:"):
            continue
        if line.strip() == b"data: [DONE]":
            outcome.problem = "" if outcome.first else "no token"
            return
        chunk = json.loads(line[len(b"data:") :])
        if "error" in chunk:
            outcome.problem = f"cut: {chunk['error']}"
            return
        if any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ())):
            outcome.first = outcome.first or time.monotonic()


@dataclass
class Load:
    """So many streams at a time, one behind the other, from `start` to `stop`."""

    service: Service
    model: str
    streams: int
    tokens: int = 48
    outcomes: list[Outcome] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        for _ in range(self.streams):
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Begin no further streams, and wait for the end of those that run."""
        self._stop.set()
        for thread in self._threads:
            thread.join(320)
        assert not any(thread.is_alive() for thread in self._threads), "a stream hangs"

    def problems(self, since: float = 0.0) -> Counter[str]:
        """Return what went wrong with streams that began at `since` (monotonic) or later."""
        return Counter(one.problem for one in list(self.outcomes) if one.problem and one.began >= since)

    def figures(self, since: float = 0.0) -> str:
        """Return a line for people."""
        found = [one for one in list(self.outcomes) if one.began >= since]
        waits = sorted(one.wait for one in found if not one.problem)
        longest = max((one.ended - one.began for one in found), default=0.0)
        middle, worst = (waits[len(waits) // 2], waits[-1]) if waits else (0.0, 0.0)
        return (
            f"{self.model}: {len(found)} streams, {sum(bool(one.problem) for one in found)} failed or cut; "
            f"first token after {middle:.2f} s (median), {worst:.2f} s (worst); "
            f"longest stream {longest:.1f} s"
        )

    def _work(self) -> None:
        while not self._stop.is_set():
            outcome = stream(self.service, self.model, self.tokens)
            self.outcomes.append(outcome)
            if outcome.problem:
                # A service that refuses at once must not be asked thousands of times.
                self._stop.wait(1.0)


@contextmanager
def beside_a_burst_instance(
    service: Service, partition: str, eventually: Callable[[Callable[[], object], float, str], None]
) -> Iterator[tuple[Load, str]]:
    """Load a model until a burst instance in `partition` serves beside its base one; give load and job."""
    slurm = {"partition": "normal", "time": 60, "warn": 20}
    burst = {"max": 1, "partition": partition}
    with registered(
        service, "bursting", LIGHT, min=1, max=1, concurrency=1, slurm=slurm, burst=burst
    ) as name:
        assert not stream(service, name, 8).problem
        load = Load(service, name, streams=2)
        load.start()
        try:
            eventually(lambda: len(service.ready(name)) == 2, 90, "a burst instance beside the base one")
            (job,) = [one for one in service.ready(name) if service.job(one)["Partition"] == partition]
            yield load, job
        finally:
            load.stop()
