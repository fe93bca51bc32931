"""A front without an engine: real TLS and the wire, one certificate and key; health is always 200."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice.contracts.heads import ResponseHead
from sluice.wire import events
from sluice.wire.connection import Connection, Side
from sluice.wire.frames import ProtocolError
from sluice.wire.hello import Hello, Limits
from sluice.wire.links import RELAY_FRONT

KEY = "f" * 43


@dataclass(frozen=True)
class Listening:
    """The port on loopback, and the certificate (PEM)."""

    port: int
    certificate: str


@contextlib.contextmanager
def healthy_front(directory: Path, ports: range) -> Iterator[Listening]:
    """Serve any number of connections; several instances can share it."""
    certificate = make_certificate(directory / "front.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "front.pem")
    with _server(ports) as server:
        threading.Thread(target=_accept, args=(server, context), daemon=True).start()
        yield Listening(server.getsockname()[1], certificate)


def _server(ports: range) -> socket.socket:
    for port in ports:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise OSError(f"no port of {ports} is free")


def _accept(server: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            plain, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(plain, context), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext) -> None:
    connection = Connection(Side.SERVER, Hello("fake", Limits()), RELAY_FRONT, key=KEY)
    try:
        with plain, context.wrap_socket(plain, server_side=True) as secure:
            secure.settimeout(10)
            while piece := secure.recv(4096):
                for event in connection.receive(piece):
                    if isinstance(event, events.RequestOpened):
                        connection.respond(event.stream, ResponseHead(200, "application/json"))
                        connection.send_data(event.stream, b'{"version":1,"status":"ok"}')
                        connection.send_end(event.stream)
                secure.sendall(connection.data_to_send())
    except (OSError, ProtocolError):
        return


def make_certificate(path: Path) -> str:
    """Write a self-signed certificate with its key and return it as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "front")])
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
    path.write_bytes(pem + private)
    return pem.decode()
