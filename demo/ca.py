"""Makes a bed's certificates and secrets: `python demo/ca.py --state DIR --subnet 10.77.0`.

Below DIR/ca: `ca.pem` and `ca.key` (the bed's own authority), `<host>.pem` and `<host>.key` for the hosts
that speak HTTPS, `accounts.json` (the test accounts' passwords). What is there already stays, as long as it
is good for another 30 days.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# The last octets of their addresses, as in demo/bed/topology.py; this script runs without the package.
HTTPS_HOSTS = {"gw": 10, "idp": 20}
ACCOUNTS = ("alice", "bob")
DAYS = 365
RENEW_SECONDS = 30 * 86_400

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_CA_EXTENSIONS = """basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
"""
_HOST_EXTENSIONS = """basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
subjectAltName={names}
"""


class OpensslError(Exception):
    """openssl failed; the text is openssl's message."""


def make_authority(directory: Path) -> None:
    """Make `ca.pem` and `ca.key` unless good ones are there; certificates of an earlier one go."""
    if _is_good(directory / "ca.pem"):
        return
    for old in directory.glob("*.pem"):
        old.unlink()
    with _extensions(_CA_EXTENSIONS) as config:
        _openssl(
            *("req", "-x509", "-new", *_CURVE, "-days", str(10 * DAYS), "-subj", "/CN=Sluice demo CA"),
            *("-keyout", str(directory / "ca.key"), "-out", str(directory / "ca.pem")),
            *("-config", config.name, "-extensions", "ext"),
        )


def make_certificate(directory: Path, host: str, names: Sequence[str], addresses: Sequence[str]) -> None:
    """Make `<host>.pem` and `<host>.key`, signed by the authority, for these names and IP addresses."""
    certificate = directory / f"{host}.pem"
    if _is_good(certificate):
        return
    request = directory / f"{host}.csr"
    alternatives = [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
    with _extensions(_HOST_EXTENSIONS.format(names=",".join(alternatives))) as config:
        _openssl(
            *("req", "-new", *_CURVE, "-subj", f"/CN={host}", "-config", config.name),
            *("-keyout", str(directory / f"{host}.key"), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", str(DAYS)),
            *("-set_serial", f"0x{secrets.token_hex(16)}", "-out", str(certificate)),
            *("-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key")),
            *("-extfile", config.name, "-extensions", "ext"),
        )
    request.unlink()


def make_accounts(directory: Path) -> None:
    """Make `accounts.json`, login → password, unless it is there."""
    path = directory / "accounts.json"
    if path.exists():
        return
    document = {name: secrets.token_urlsafe(9) for name in ACCOUNTS}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(document, stream, indent=2)
        stream.write("\n")


def _is_good(certificate: Path) -> bool:
    if not certificate.exists() or not certificate.with_suffix(".key").exists():
        return False
    argv = ["openssl", "x509", "-in", str(certificate), "-noout", "-checkend", str(RENEW_SECONDS)]
    return subprocess.run(argv, capture_output=True, timeout=30, check=False).returncode == 0


def _extensions(lines: str) -> tempfile._TemporaryFileWrapper[str]:
    config = tempfile.NamedTemporaryFile("w", suffix=".cnf")  # noqa: SIM115 - the caller closes it
    config.write(f"[req]\ndistinguished_name=dn\n[dn]\n[ext]\n{lines}")
    config.flush()
    return config


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise OpensslError(f"openssl {arguments[0]}: {done.stderr.strip()}")


def main(argv: Sequence[str] | None = None) -> int:
    """Create what is missing; return 0 when everything exists."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path, required=True, help="the bed's state folder")
    parser.add_argument("--subnet", required=True, help="first three octets, as in 10.77.0")
    args = parser.parse_args(argv)
    os.umask(0o077)
    directory = args.state / "ca"
    directory.mkdir(parents=True, exist_ok=True)
    try:
        make_authority(directory)
        for host, octet in HTTPS_HOSTS.items():
            make_certificate(directory, host, [host], [f"{args.subnet}.{octet}"])
    except OpensslError as error:
        print(f"demo/ca.py: {error}", file=sys.stderr)
        return 1
    make_accounts(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
