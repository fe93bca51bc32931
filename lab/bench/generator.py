"""The load generator: one process that reads many streams, at a low cost for each token.

A `Plan` has the target and the duration. Its `Group`s describe the requests: closed loops (a number of
requests at once), open loops (arrivals per second, timed from when each should have begun), readers
who stop reading, clients that leave, uploads. Answers are checked by their content (`answer.py`).

    python -m lab.bench.generator

reads the plan (JSON, one line) from stdin. It writes a line of counts every quarter of a second, and last a
line with the results. A line "stop" on stdin ends it.

`Load` runs this as a separate process. The results include the CPU time of the generator itself.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from lab.bench.answer import Answer, Samples
from lab.bench.loop import GONE, READ, WRITE, Loop
from lab.bench.target import Target

ROOT = Path(__file__).resolve().parents[2]
REPORT_SECONDS = 0.25
RECORD = 16_384  # a TLS record's content
RECORDS_AT_ONCE = 16
SMALL_BUFFER = 4096
QUESTION = "How far may a river rise before the gate has to be opened by hand, and who decides that? "


@dataclass(frozen=True)
class Group:
    """Requests of one kind. Times in seconds; `tokens`, `rate`, `delay`, `size` are for the engine."""

    name: str
    connections: int  # closed loop: requests at once; open loop: at most so many
    arrivals: float = 0.0  # a second; 0: closed loop
    poisson: bool = True
    requests: int = 0  # in all; 0: until the time is over
    begin: float = 0.0
    ramp: float = 0.0  # closed loop: the first requests of its connections are spread over this time
    stream: bool = True
    tokens: int = 16
    rate: float = 0.0
    delay: float = 0.0
    size: int = 0
    body: int = 0  # bytes of the body at least
    stop_after: int = 0  # tokens after which the client reads no more but stays
    leave_after: float = 0.0  # time after the request was sent at which the client leaves
    fresh: bool = False  # a connection for each request


@dataclass(frozen=True)
class Plan:
    """A whole run. Requests begin until `seconds`; those that run then have `grace` seconds to end."""

    target: Target
    groups: tuple[Group, ...]
    seconds: float
    grace: float = 30.0
    measure_from: float = 0.0  # token delays and latencies count from here on
    measure_until: float = 1e9
    cpu: int = -1  # the processor to run on; -1: any
    seed: int = 1

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Read what `dump` wrote."""
        document = json.loads(text)
        groups = tuple(Group(**group) for group in document.pop("groups"))
        return cls(target=Target(**document.pop("target")), groups=groups, **document)

    def dump(self) -> str:
        """Return the plan as one line of JSON."""
        return json.dumps(asdict(self))


def percentiles(values: Iterable[float], scale: float = 1.0) -> dict[str, float]:
    """Return count, p50, p95, p99 and max of the values, times `scale`; zeros if there are none."""
    ordered = sorted(values)
    found = {"count": float(len(ordered))}
    for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        place = min(int(part * len(ordered)), len(ordered) - 1)
        found[name] = round(ordered[place] * scale, 4) if ordered else 0.0
    return found


@dataclass
class Tally:
    """The outcomes of a group's requests."""

    samples: Samples = field(default_factory=Samples)
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)  # when clients left, monotonic
    ended: list[tuple[float, str]] = field(default_factory=list)  # when and how answers went wrong
    started: int = 0
    flowing: int = 0  # requests whose first token has come and that are not over
    stopped: int = 0  # readers that read no more

    def dump(self) -> dict[str, Any]:
        """Return the results of a group, times in milliseconds."""
        return {
            "started": self.started,
            "outcomes": dict(self.outcomes),
            "tokens": self.samples.tokens,
            "latency": percentiles(self.latencies, 1000),
            "first": percentiles(self.firsts, 1000),
            "delay": percentiles(self.samples.delays, 0.001),
            "jitter": percentiles(self.samples.jitters, 0.001),
            "left": self.left[:1000],
            "ended": self.ended[:1000],
        }


class Wire:
    """One connection of a client to the target."""

    def __init__(self, loop: Loop, target: Target, context: Optional[ssl.SSLContext], small: bool) -> None:
        self._loop = loop
        self._handle: Callable[[int], None] = lambda events: None
        self._wanted = READ | WRITE
        unix = bool(target.path)
        plain = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        plain.setblocking(False)
        if small:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        if not unix:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            plain.connect(target.path if unix else (target.host, target.port))
        self._plain = plain
        self._context = context
        self._secured: Optional[ssl.SSLSocket] = None
        self.socket: Union[socket.socket, ssl.SSLSocket] = plain
        self.file = plain.fileno()
        self.ready = False
        loop.add(self.file, READ | WRITE, self._event)

    def watch(self, events: int, handle: Callable[[int], None]) -> None:
        """Call `handle` with these events once the connection is made, or with GONE if it broke."""
        self._handle, self._wanted = handle, events
        if self.ready:
            self._loop.change(self.file, events)

    def close(self) -> None:
        """Close, and tell nobody."""
        self._loop.remove(self.file)
        self.socket.close()

    def _event(self, events: int) -> None:
        if self.ready:
            self._handle(events)
            return
        try:
            self._connect(events)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._handle(GONE)

    def _connect(self, events: int) -> None:
        if self._context is not None:
            if self._secured is None:
                error = self._plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error))
                self._secured = self._context.wrap_socket(self._plain, do_handshake_on_connect=False)
                self._loop.change(self.file, READ)
                self.socket = self._secured
            self._secured.do_handshake()
        self.ready = True
        self._loop.change(self.file, self._wanted)  # for the handshake it was another
        self._handle(events & GONE or WRITE)


class Request:
    """One request on its connection, from its first byte to the end of its answer."""

    def __init__(self, source: Source, wire: Wire, data: bytes, due: float) -> None:
        self._source = source
        self._group = source.group
        self._tally = source.tally
        self._wire = wire
        self._data = memoryview(data)
        self._sent = 0
        self._due = due
        self._first = 0.0
        self._over = False
        self._stopped = False
        self._answer = Answer(source.tally.samples)

    def begin(self) -> None:
        """Send the request, at once or when the connection is made."""
        self._tally.started += 1
        self._wire.watch(READ | WRITE, self._event)
        if self._wire.ready:
            self._event(WRITE)

    def leave(self) -> None:
        """Close the connection in the middle of the answer."""
        if not self._over:
            self._tally.left.append(time.monotonic())
            self._end("left", keep=False)

    def end_of_run(self) -> None:
        """Close: the run ended before the answer."""
        if not self._over:
            self._end("stopped reading" if self._stopped else "unfinished", keep=False)

    def _event(self, events: int) -> None:
        if self._sent < len(self._data):
            self._send()
        if not self._over and events & (READ | GONE):
            self._read()

    def _send(self) -> None:
        try:
            for _ in range(RECORDS_AT_ONCE):
                self._sent += self._wire.socket.send(self._data[self._sent : self._sent + RECORD])
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError:
            self._read()  # an answer may have come all the same
            return
        if self._sent < len(self._data):
            return  # the others first
        self._data, self._sent = memoryview(b""), 0
        self._wire.watch(READ, self._event)
        if self._group.leave_after:
            self._source.loop.at(time.monotonic() + self._group.leave_after, self.leave)

    def _read(self) -> None:
        try:
            data = self._wire.socket.recv(RECORD)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._end("closed" if self._answer.status else "no answer", keep=False)
            return
        over = self._answer.feed(data, time.monotonic_ns())
        if not self._first and (self._answer.tokens or over):
            self._first = time.monotonic()
            self._tally.flowing += 1
        if over:
            outcome = self._answer.outcome(self._group.tokens, self._group.stream)
            self._end(outcome, keep=not self._group.fresh and not self._answer.closing)
        elif self._group.stop_after and self._answer.tokens >= self._group.stop_after:
            self._stopped = True
            self._tally.stopped += 1
            self._wire.watch(0, self._event)

    def _end(self, outcome: str, *, keep: bool) -> None:
        self._over = True
        tally, now = self._tally, time.monotonic()
        tally.outcomes[outcome] += 1
        if self._first:
            tally.flowing -= 1
        if outcome == "ok":
            if tally.samples.on:
                tally.latencies.append(now - self._due)
                tally.firsts.append(self._first - self._due)
        else:
            tally.ended.append((now, outcome))
        self._source.ended(self, self._wire, keep=keep)


class Source:
    """Begins a group's requests."""

    def __init__(self, run: Run, group: Group, target: Target, context: Optional[ssl.SSLContext]) -> None:
        self.group = group
        self.tally = Tally()
        self.loop = run.loop
        self._run = run
        self._target = target
        self._context = context
        self._chance = random.Random(f"{run.plan.seed} {group.name}")
        self._idle: list[Wire] = []
        self._running: set[Request] = set()
        self._late: deque[float] = deque()
        self._data = request_bytes(target, group)
        self._begun = 0

    @property
    def idle(self) -> bool:
        """Whether no request runs."""
        return not self._running

    def start(self) -> None:
        """Begin the requests as the group says."""
        at = self._run.began + self.group.begin
        if self.group.arrivals:
            self.loop.at(at, lambda: self._arrive(at))
            return
        for number in range(self.group.connections):
            when = at + self.group.ramp * number / self.group.connections
            self.loop.at(when, lambda due=when: self._request(due))  # type: ignore[misc]

    def stop(self) -> None:
        """Close everything that is open."""
        for request in tuple(self._running):
            request.end_of_run()
        for wire in self._idle:
            wire.close()

    def ended(self, request: Request, wire: Wire, *, keep: bool) -> None:
        """Take back a connection from a request that is over; begin the next request if one is due."""
        self._running.discard(request)
        if keep:
            wire.watch(GONE, lambda events: self._drop(wire))
            self._idle.append(wire)
        else:
            wire.close()
        if self._late:
            self._request(self._late.popleft())
        elif not self.group.arrivals:
            if keep:
                self._request(time.monotonic())
            else:  # not at once: a target that refuses everything would never be left
                self.loop.at(time.monotonic() + 0.001, lambda: self._request(time.monotonic()))

    def _arrive(self, due: float) -> None:
        if self._over():
            return
        gap = self._chance.expovariate(self.group.arrivals) if self.group.poisson else 1 / self.group.arrivals
        following = due + gap
        self.loop.at(following, lambda: self._arrive(following))
        if len(self._running) < self.group.connections:
            self._request(due)
        else:
            self._late.append(due)

    def _over(self) -> bool:
        limit = self.group.requests
        return self._run.ending or bool(limit and self._begun >= limit)

    def _request(self, due: float) -> None:
        if self._over():
            return
        self._begun += 1
        small = bool(self.group.stop_after)
        wire = self._idle.pop() if self._idle else Wire(self.loop, self._target, self._context, small)
        request = Request(self, wire, self._data, due)
        self._running.add(request)
        request.begin()

    def _drop(self, wire: Wire) -> None:
        if wire in self._idle:
            self._idle.remove(wire)
            wire.close()


def request_bytes(target: Target, group: Group) -> bytes:
    """Return the bytes of one of the group's requests."""
    orders: dict[str, float] = {
        "max_tokens": group.tokens,
        "bench_delay": group.delay,
        "bench_size": group.size,
    }
    if group.rate:
        orders["bench_interval"] = round(1 / group.rate, 6)
    question = QUESTION * max(1, group.body // len(QUESTION) + 1) if group.body else QUESTION
    messages = [{"role": "user", "content": question}]
    document = {"model": target.model, "stream": group.stream, **orders, "messages": messages}
    body = json.dumps(document).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {target.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Run:
    """Carries out a plan; calls `report` with the counts so far every quarter of a second."""

    def __init__(self, plan: Plan, report: Callable[[dict[str, Any]], None]) -> None:
        self.plan = plan
        self.loop = Loop()
        self.began = time.monotonic() + 0.05
        self.ending = False
        self._report = report
        context = client_context() if plan.target.tls else None
        self._sources = [Source(self, group, plan.target, context) for group in plan.groups]
        self._measured = self.began
        self._cpu = (0.0, 0)  # process time and tokens when measuring began
        self._figures: Optional[tuple[float, float, int]] = None

    def run(self) -> dict[str, Any]:
        """Carry out the plan; return the results."""
        at = self.loop.at
        for source in self._sources:
            source.tally.samples.on = False
            source.start()
        at(self.began + self.plan.measure_from, self._measure)
        at(self.began + self.plan.measure_until, self._measure_no_more)
        at(self.began + self.plan.seconds, self.finish)
        at(self.began, self._tell)
        self.loop.run()
        result = self._result()
        self.loop.close()
        return result

    def finish(self) -> None:
        """Begin no more requests; end when the open ones have ended, or after the grace."""
        if not self.ending:
            self.ending = True
            self.loop.at(time.monotonic() + self.plan.grace, self.loop.stop)

    def _measure(self) -> None:
        for source in self._sources:
            source.tally.samples.on = True
        self._cpu = (time.process_time(), self._tokens())
        self._measured = time.monotonic()

    def _measure_no_more(self) -> None:
        for source in self._sources:
            source.tally.samples.on = False
        self._figures = self._spent()

    def _spent(self) -> tuple[float, float, int]:
        """Return seconds, CPU seconds and tokens since the measurement began."""
        cpu, tokens = self._cpu
        return time.monotonic() - self._measured, time.process_time() - cpu, self._tokens() - tokens

    def _tokens(self) -> int:
        return sum(source.tally.samples.tokens for source in self._sources)

    def _tell(self) -> None:
        figures = {
            source.group.name: {
                "started": source.tally.started,
                "flowing": source.tally.flowing,
                "stopped": source.tally.stopped,
                "tokens": source.tally.samples.tokens,
                "outcomes": dict(source.tally.outcomes),
            }
            for source in self._sources
        }
        self._report({"groups": figures, "cpu": time.process_time(), "now": time.monotonic()})
        limited = all(
            source.group.requests and source.tally.started >= source.group.requests
            for source in self._sources
        )
        if (self.ending or limited) and all(source.idle for source in self._sources):
            self.loop.stop()
        self.loop.at(time.monotonic() + REPORT_SECONDS, self._tell)

    def _result(self) -> dict[str, Any]:
        seconds, spent, tokens = self._figures or self._spent()
        self.ending = True
        for source in self._sources:
            source.stop()
        return {
            "groups": {source.group.name: source.tally.dump() for source in self._sources},
            "seconds": round(seconds, 3),
            "measured_tokens": tokens,
            "cpu_seconds": round(spent, 4),
            "cpu_us_per_token": round(spent / tokens * 1e6, 2) if tokens else None,
        }


def client_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate: the benchmark made it itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def raise_file_limit() -> None:
    """Raise the limit on open files of this process and its children as far as is allowed."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Load:
    """A run in a separate process; `wait` reads its counts while it runs."""

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.bench.generator"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        )  # fmt: skip
        self._plan = plan
        self._changed = threading.Condition()
        self._latest: dict[str, Any] = {}
        self._results: Optional[dict[str, Any]] = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        assert self._process.stdin is not None
        self._process.stdin.write(plan.dump() + "\n")
        self._process.stdin.flush()
        self._thread.start()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._thread.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # of a "stop" that it did not read any more
                stream.close()

    @property
    def pid(self) -> int:
        """The process of the generator."""
        return self._process.pid

    @property
    def figures(self) -> dict[str, Any]:
        """The counts of the latest line, by group."""
        found: dict[str, Any] = self._latest.get("groups", {})
        return found

    def wait(self, condition: Callable[[dict[str, Any]], bool], seconds: float) -> bool:
        """Wait until the counts by group meet the condition; return whether they did in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._results is not None or (bool(self.figures) and condition(self.figures)), seconds
            )

    def stop(self) -> None:
        """Begin no more requests, and end the open ones."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("stop\n")
            self._process.stdin.flush()

    def results(self) -> dict[str, Any]:
        """Wait for the end; return the results. Raises RuntimeError if the generator broke."""
        with self._changed:
            limit = self._plan.seconds + self._plan.grace + 30
            self._changed.wait_for(lambda: self._results is not None or not self._thread.is_alive(), limit)
        if self._results is None:
            raise RuntimeError(f"the generator gave no results (status {self._process.poll()})")
        return self._results

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            document = json.loads(line)
            with self._changed:
                if "result" in document:
                    self._results = document["result"]
                else:
                    self._latest = document
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def run(plan: Plan) -> dict[str, Any]:
    """Carry out a plan in a separate process; return the results."""
    with Load(plan) as load:
        return load.results()


def main() -> None:
    """Read a plan from stdin, carry it out, write the counts to stdout."""
    gc.disable()
    raise_file_limit()
    plan = Plan.parse(sys.stdin.readline())
    if plan.cpu >= 0:
        os.sched_setaffinity(0, {plan.cpu})
    run = Run(plan, lambda figures: print(json.dumps(figures), flush=True))

    def command(events: int) -> None:
        run.loop.remove(0)
        run.loop.stop()  # the only command there is, or the end of who started this

    run.loop.add(0, READ, command)
    print(json.dumps({"result": run.run()}), flush=True)


if __name__ == "__main__":
    main()
