"""The probe against real TLS listeners: whoever lacks the pinned certificate sees no byte of the key."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice.records import JobRecord
from sluice.scheduler.probe import healthy

KEY = "q" * 43


def make_certificate(directory: Path, name: str) -> str:
    """Write a self-signed certificate with its key and return it as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "m-00000001")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / f"{name}.pem").write_bytes(pem + private)
    return pem.decode()


Answer = Callable[[ssl.SSLSocket], None]


@contextmanager
def listener(bundle: Path, answer: Answer, heard: list[bytes]) -> Iterator[int]:
    """Listen on loopback with a certificate, hear one request, answer it; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, context, answer, heard))
        thread.start()
        yield server.getsockname()[1]
        server.close()
        thread.join(10)


def _serve(server: socket.socket, context: ssl.SSLContext, answer: Answer, heard: list[bytes]) -> None:
    try:
        plain, _ = server.accept()
        with context.wrap_socket(plain, server_side=True) as secure:
            secure.settimeout(5)
            heard.append(secure.recv(4096))
            answer(secure)
    except OSError:
        return


def record(port: int, certificate: str) -> JobRecord:
    """Return a record for the listener."""
    return JobRecord("m-00000001", "00000001", "1", "127.0.0.1", port, certificate, KEY, 0.0)


def saying(text: bytes) -> Answer:
    """Return an answer of fixed bytes."""
    return lambda secure: secure.sendall(text)


def test_a_front_that_answers_200_is_healthy(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "own")
    heard: list[bytes] = []
    ok = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with listener(tmp_path / "own.pem", ok, heard) as port:
        assert healthy(record(port, certificate), 5) == ""
    assert heard[0].startswith(b"GET /health HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}".encode() in heard[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        b"HTTP/1.1 401 \r\n\r\n",
        b"",
        b"SSH-2.0-x\r\n",
        b"x" * 9000,
    ],
)
def test_anything_else_is_not(tmp_path: Path, answer: bytes) -> None:
    certificate = make_certificate(tmp_path, "own")
    with listener(tmp_path / "own.pem", saying(answer), []) as port:
        assert healthy(record(port, certificate), 5) != ""


def test_trying_to_cheat_by_taking_the_port(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "own")
    make_certificate(tmp_path, "thief")
    heard: list[bytes] = []
    with listener(tmp_path / "thief.pem", saying(b"HTTP/1.1 200 OK\r\n\r\n"), heard) as port:
        assert "ValueError" in healthy(record(port, certificate), 5)
    assert heard in ([], [b""])


def test_nobody_listening_is_not_healthy(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "own")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "ConnectionRefusedError" in healthy(record(port, certificate), 5)


def test_trying_to_stop_the_scheduler_by_answering_one_byte_at_a_time(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "own")

    def drip(secure: ssl.SSLSocket) -> None:
        for _ in range(40):
            secure.sendall(b"H")
            time.sleep(0.1)

    began = time.monotonic()
    with listener(tmp_path / "own.pem", drip, []) as port:
        problem = healthy(record(port, certificate), 0.5)
        took = time.monotonic() - began
    assert "imeout" in problem
    assert took < 2
