"""The probe against real TLS listeners: whoever lacks the pinned certificate sees no byte of the key."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union

import pytest

from sluice.contracts.heads import ErrorHead, InstanceRequest, ResponseHead
from sluice.contracts.jobs import JobRecord
from sluice.contracts.routing import RoutedInstance
from sluice.scheduler.outside.probe import Health, answers, healthy
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import FrameType, ProtocolError, encode
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT
from tests.fakes.front import make_certificate
from tests.fakes.routed import routed
from tests.felt import Stopwatch

KEY = "q" * 43
GOLDEN = Path(__file__).parents[3] / "golden" / "contracts" / "front-health.json"


Answer = Callable[[ssl.SSLSocket], None]


@contextmanager
def listener(bundle: Path, answer: Answer) -> Iterator[int]:
    """Listen on loopback with a certificate and have one connection served; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, context, answer))
        thread.start()
        yield server.getsockname()[1]
        server.close()
        thread.join(10)


def _serve(server: socket.socket, context: ssl.SSLContext, answer: Answer) -> None:
    try:
        plain, _ = server.accept()
        with context.wrap_socket(plain, server_side=True) as secure:
            secure.settimeout(5)
            answer(secure)
    except OSError:
        return


class Front:
    """A front that answers what it is asked with a status or with an error's code; `asked` are the heads."""

    def __init__(self, said: Union[int, str], key: str = KEY, body: bytes = b"{}") -> None:
        self.asked: list[InstanceRequest] = []
        self.bodies = b""
        self._body = body
        self._said = said
        self._key = key

    def __call__(self, secure: ssl.SSLSocket) -> None:
        """Serve one connection until the other side leaves."""
        connection = Connection(Side.SERVER, Hello("test", Limits()), RELAY_FRONT, key=self._key)
        while piece := secure.recv(4096):
            try:
                found = connection.receive(piece)
            except ProtocolError:
                secure.sendall(connection.data_to_send())
                return
            for event in found:
                self._answer(connection, event)
            secure.sendall(connection.data_to_send())

    def _answer(self, connection: Connection, event: events.Event) -> None:
        if isinstance(event, events.HelloReceived):
            connection.send_load(3)
        if isinstance(event, events.DataReceived):
            self.bodies += event.data
        if not isinstance(event, events.RequestOpened):
            return
        assert isinstance(event.head, InstanceRequest)
        self.asked.append(event.head)
        if isinstance(self._said, str):
            connection.send_error(event.stream, ErrorHead(self._said, "no"))
            return
        connection.respond(event.stream, ResponseHead(self._said, "application/json"))
        connection.send_data(event.stream, self._body)
        connection.send_end(event.stream)


def record(port: int, certificate: str) -> JobRecord:
    """Return a record for the listener."""
    return JobRecord("m-00000001", "00000001", "1", "127.0.0.1", port, certificate, KEY, 0.0)


def test_a_front_that_answers_200_is_healthy(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "own.pem")
    front = Front(200)
    with listener(tmp_path / "own.pem", front) as port:
        assert healthy(record(port, certificate), 5) == Health("")
    (head,) = front.asked
    assert (head.method, head.path, head.length) == ("GET", "/health", 0)


@pytest.mark.parametrize(
    ("front", "problem"),
    [
        (Front(503), "health answers 503"),
        (Front("no_instance"), "health answers no_instance"),
        (Front(200, key="o" * 43), "ConnectionResetError: it closed without a word, as for a wrong key"),
    ],
)
def test_a_front_that_answers_anything_else_is_not(tmp_path: Path, front: Front, problem: str) -> None:
    certificate = make_certificate(tmp_path / "own.pem")
    with listener(tmp_path / "own.pem", front) as port:
        assert healthy(record(port, certificate), 5) == Health(problem)


@pytest.mark.parametrize(
    ("body", "leaving"),
    [
        (GOLDEN.read_bytes(), "warned"),
        (b'{"version":1,"status":"leaving","why":"terminated"}', "terminated"),
        (b'{"version":1,"status":"ok","why":"warned"}', ""),
        (b'{"version":1,"status":"leaving","why":"bored"}', ""),
        (b'{"version":1,"status":"leaving"}', ""),
        (b'["leaving"]', ""),
        (b"leaving", ""),
        (b"[" * 5000, ""),
        (b"", ""),
    ],
)
def test_a_front_says_why_it_leaves_and_nothing_else(tmp_path: Path, body: bytes, leaving: str) -> None:
    certificate = make_certificate(tmp_path / "own.pem")
    with listener(tmp_path / "own.pem", Front(200, body=body)) as port:
        assert healthy(record(port, certificate), 5) == Health("", leaving)


def hello() -> bytes:
    """Return a front's first frame."""
    connection = Connection(Side.SERVER, Hello("test", Limits()))
    return connection.data_to_send()


SAID = b"what-a-job-says-is-no-log-line"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-x\r\n",
        SAID * 300,
        encode(FrameType.HELLO, 0, SAID),
        hello() + encode(FrameType.RESPONSE, 1, SAID),
        hello() + encode(FrameType.RESPONSE, 1, b'{"status":200,"content_type":"text/html"}'),
        hello() + encode(FrameType.RESPONSE, 3, b'{"status":200,"content_type":"text/plain"}'),
        hello() + encode(FrameType.ERROR, 1, b'{"code":"' + SAID + b'","message":"x"}'),
        hello() + encode(FrameType.GO_AWAY, 0, b'{"code":"shutdown","message":"' + SAID + b'"}'),
        hello() + encode(FrameType.LOAD, 0, b"\0\0\0\1") * 20_000,
        encode(FrameType.GO_AWAY, 0, b'{"code":"protocol","message":"' + SAID + b'"}'),
    ],
)
def test_whatever_else_is_said_is_no_health_and_no_log_line(tmp_path: Path, said: bytes) -> None:
    certificate = make_certificate(tmp_path / "own.pem")

    def answer(secure: ssl.SSLSocket) -> None:
        secure.recv(4096)
        secure.sendall(said)

    with listener(tmp_path / "own.pem", answer) as port:
        problem = healthy(record(port, certificate), 5).problem
    assert problem
    assert SAID.decode() not in problem


def test_trying_to_cheat_by_taking_the_port(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "own.pem")
    make_certificate(tmp_path / "thief.pem")
    heard: list[bytes] = []

    def listen(secure: ssl.SSLSocket) -> None:
        heard.append(secure.recv(4096))

    with listener(tmp_path / "thief.pem", listen) as port:
        assert "ValueError" in healthy(record(port, certificate), 5).problem
    assert heard in ([], [b""])


def test_nobody_listening_is_not_healthy(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "own.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "ConnectionRefusedError" in healthy(record(port, certificate), 5).problem


def test_trying_to_stop_the_scheduler_by_answering_one_byte_at_a_time(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "own.pem")

    def drip(secure: ssl.SSLSocket) -> None:
        for byte in (hello() * 2)[:40]:
            secure.sendall(bytes((byte,)))
            time.sleep(0.1)

    with listener(tmp_path / "own.pem", drip) as port, Stopwatch() as felt:
        problem = healthy(record(port, certificate), 0.5).problem
    assert "imeout" in problem
    assert felt.seconds < 2


@pytest.mark.parametrize(
    ("capabilities", "path"),
    [(("chat", "completions"), "/v1/chat/completions"), (("completions",), "/v1/completions")],
)
def test_an_instance_is_asked_for_one_token(tmp_path: Path, capabilities: tuple[str, ...], path: str) -> None:
    certificate = make_certificate(tmp_path / "own.pem")
    front = Front(200, body=b'{"choices": []}')
    with listener(tmp_path / "own.pem", front) as port:
        instance = RoutedInstance("m-00000001", "1", "127.0.0.1", port, certificate, KEY, "ready")
        assert answers("m", routed([], capabilities=capabilities), instance, 5) == ""
    (head,) = front.asked
    assert (head.method, head.path, head.length) == ("POST", path, len(front.bodies))
    question = json.loads(front.bodies)
    assert (question["model"], question["max_tokens"]) == ("m", 1)


@pytest.mark.parametrize(
    ("front", "problem"),
    [
        (Front(500), "answers /v1/chat/completions with 500"),
        (Front(200), "answers /v1/chat/completions with 200"),
        (Front("overloaded"), "answers /v1/chat/completions with overloaded"),
        (
            Front(200, key="o" * 43),
            "does not answer (ConnectionResetError: it closed without a word, as for a wrong key)",
        ),
    ],
)
def test_an_instance_without_an_answer_is_told(tmp_path: Path, front: Front, problem: str) -> None:
    certificate = make_certificate(tmp_path / "own.pem")
    with listener(tmp_path / "own.pem", front) as port:
        instance = RoutedInstance("m-00000001", "1", "127.0.0.1", port, certificate, KEY, "ready")
        assert answers("m", routed([], capabilities=("chat",)), instance, 5) == problem
