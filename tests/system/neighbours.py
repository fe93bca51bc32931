"""What a colleague on the cluster and a careless user do to others, each as a program of its own."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator

from tests.system.service import MODEL, Service

COLLEAGUE = "alice-hpc"
# Holds so many connections open at once: silent ones, half-way through TLS, or in another language.
FLOOD = r"""
import json, resource, socket, sys, time
given = json.load(sys.stdin)
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
ends = time.monotonic() + given["seconds"]
held, opened = [], 0
while time.monotonic() < ends:
    for host, port in given["fronts"]:
        for kind in range(20):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((host, port))
            held.append((one, kind % 3))
            opened += 1
    time.sleep(0.1)
    for one, kind in held[-200:]:
        try:
            if kind == 1:
                one.send(b"\x16\x03\x01\x02\x00\x01\x00")
            elif kind == 2:
                one.send(b"GET / HTTP/1.1\r\n\r\n")
        except OSError:
            pass
    while len(held) > given["most"]:
        held.pop(0)[0].close()
print(opened)
"""
# A name and a comment that would be read as structure, and a job that only waits.
NAMES = (
    "sluice:smollm2-135m-0badc0de\n999|sluice:x|RUNNING",
    "a\tb|c;d\u202egnp.exe\x1b[2J",
    "x" * 900,
)


def flood(service: Service, host: str, seconds: float, most: int = 1000) -> int:
    """Flood every front's port from one host as the colleague; return how many connections were opened."""
    table = json.loads(service.shell("login", "cat /var/lib/sluice/routing.json"))
    fronts = [(one["host"], one["port"]) for model in table["models"].values() for one in model["instances"]]
    given = json.dumps({"fronts": fronts, "seconds": seconds, "most": most})
    argv = ["runuser", "-u", COLLEAGUE, "--", "python3", "-c", FLOOD]
    done = service.bed.run(host, argv, stdin=given, timeout=seconds + 60, check=True)
    return int(done.stdout)


@contextlib.contextmanager
def jobs_with_hostile_names(service: Service) -> Iterator[None]:
    """Have the colleague's jobs, whose names and comments are no plain words, wait in the queue."""
    try:
        for name in NAMES:
            argv = ["runuser", "-u", COLLEAGUE, "--", "sbatch", "--parsable", "--chdir=/"]
            argv += ["--output=/dev/null", "--hold", f"--job-name={name}", f"--comment={name}", "--wrap=true"]
            service.bed.run("login", argv, check=True)
        yield
    finally:
        service.shell("login", f"scancel --user={COLLEAGUE}")


def nested(width: int) -> dict[str, object]:
    """Return a schema of nested alternatives, as large as `width` makes it."""
    schema: dict[str, object] = {"type": "string"}
    for depth in range(8):
        properties = {f"p{depth}": schema}
        some = {"type": "object", "properties": properties, "required": list(properties)}
        schema = {"anyOf": [some, *({"const": f"{depth}-{number}"} for number in range(width))]}
    return schema


def key_of_another(service: Service) -> str:
    """Return a key of a user of its own."""
    name = f"other-{secrets.token_hex(3)}"
    return service.shell("gw", f"sluice keys create --user {name} --groups users --name test").strip()


def costly(service: Service, key: str) -> list[int]:
    """Send what costs much or breaks an engine, with somebody's key; return the statuses."""
    turn = [{"role": "user", "content": "hi"}]
    chat = {"model": MODEL, "messages": turn, "max_tokens": 4}
    response = {"model": MODEL, "input": "hi", "max_output_tokens": 4, "stream": True}
    asked = [
        ("/v1/chat/completions", {**chat, "n": 128}),
        ("/v1/responses", {**response, "background": None}),
        ("/v1/responses", {**response, "truncation": None}),
    ]
    for width in (10, 100, 2000):
        shape = {"name": "x", "schema": nested(width)}
        asked.append(
            (
                "/v1/chat/completions",
                {**chat, "response_format": {"type": "json_schema", "json_schema": shape}},
            )
        )
        asked.append(("/v1/chat/completions", {**chat, "structured_outputs": {"json": nested(width)}}))
    return [service.request("POST", path, body, key=key, timeout=180).status for path, body in asked]


class Meanwhile:
    """Runs things again and again beside the test, each in a thread of its own, until it is over.

    `ended`: once it is over, the things that ended by a fault of their own before.
    """

    def __init__(self, *things: Callable[[], object]) -> None:
        self.ended: set[Callable[[], object]] = set()
        self.turns = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(one,), daemon=True) for one in things]

    def __enter__(self) -> Meanwhile:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(300)
        assert not any(thread.is_alive() for thread in self._threads), "something hangs"

    def _work(self, thing: Callable[[], object]) -> None:
        while not self._over.is_set():
            self.ended.add(thing)
            thing()
            self.ended.discard(thing)
            self.turns += 1
            self._over.wait(0.2)
