"""A job's identity: its certificate and its key, created for each job."""

from __future__ import annotations

import os
import secrets
import ssl
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sluice.errors import ConfigError

DAYS = 400
OPENSSL_TIMEOUT = 30

# Used in place of the system's openssl.cnf, which may require fields or add extensions.
OPENSSL_CONFIG = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = use
[name]
CN = sluice
[use]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
"""


@dataclass(frozen=True)
class Identity:
    """A job's TLS context, its certificate (PEM) and its key (43 characters, 256 random bits)."""

    context: ssl.SSLContext
    certificate: str
    key: str


def make(private_dir: Path) -> Identity:
    """Create certificate and key. The private key is in `private_dir` only until it is loaded.

    `private_dir` must be on the node itself and belong to this account. Raises ConfigError.
    """
    prepare(private_dir)
    settings, private_key, certificate = (
        private_dir / name for name in ("openssl.cnf", "front.key", "front.pem")
    )
    try:
        settings.write_text(OPENSSL_CONFIG)
        _run_openssl(settings, private_key, certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(certificate, private_key)
        return Identity(context, certificate.read_text(), secrets.token_urlsafe(32))
    except OSError as error:
        raise ConfigError(
            f"{private_dir}: the certificate cannot be created ({type(error).__name__})"
        ) from None
    finally:
        for path in (settings, private_key, certificate):
            path.unlink(missing_ok=True)


def prepare(private_dir: Path) -> None:
    """Ensure that the directory exists and is closed to everybody else. Raises ConfigError."""
    try:
        private_dir.mkdir(mode=0o700, exist_ok=True)
        found = private_dir.lstat()
    except OSError as error:
        raise ConfigError(f"--private-dir: {private_dir}: {error.strerror}") from None
    # Another owner could open it again after this check, or replace the certificate.
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise ConfigError(
            f"--private-dir: {private_dir} must be this account's own directory, mode 0700: use mktemp -d"
        )


def _run_openssl(settings: Path, private_key: Path, certificate: Path) -> None:
    command = ["openssl", "req", "-x509", "-config", str(settings), "-days", str(DAYS), "-sha256"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(private_key), "-out", str(certificate)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=OPENSSL_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise ConfigError("openssl: not found in PATH; the job needs it on the compute node") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"openssl: created no certificate within {OPENSSL_TIMEOUT} s") from None
    if done.returncode != 0:
        raise ConfigError(
            f"openssl: ended with {done.returncode}; try `openssl req -x509 -newkey ec` by hand"
        )
