"""Values that have the right type and are wrong: ports, networks, addresses, sizes, secrets. Pure.

Each rule takes the inputs of a host (those of other hosts where it has none of that name) and yields what is
wrong, with the remedy. An input that is missing or of the wrong type is not among them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from .units import SYSTEMD_FORM, systemd_size

Inputs = Mapping[str, Any]
EPHEMERAL = range(32_768, 61_000)
TAKEN = {22: "sshd", 2049: "NFS", 6817: "slurmctld", 6818: "slurmd", 6819: "slurmdbd", 6820: "slurmrestd"}
GATEWAY_PORTS = (
    *("nginx_port", "nginx_redirect_port", "prometheus_port"),
    *("proxy_status_port", "web_status_port", "authority_status_port"),
)
# Below this a service cannot even load its program.
LEAST_MEMORY = 64 << 20
# A network shorter than this is a continent, not a site.
WIDE = {4: 8, 6: 16}
PLACEHOLDERS = (
    "change",
    "secret",
    "password",
    "dummy",
    "12345",
    "insert",
    "replace",
)
# Of 32 random letters and digits, fewer different ones are as likely as a number guessed in one try.
LEAST_DIFFERENT = 12
SECRETS = ("web_secret_key", "web_key_secret", "web_oidc_client_secret")


def ports(given: Inputs) -> Iterator[str]:
    """Yield ports that another program has, that two parts share, or that the kernel lends to connections."""
    mine = {name: int(given[name]) for name in GATEWAY_PORTS if name in given}
    seen: dict[int, str] = {}
    for name, port in mine.items():
        if port == 0 and name == "nginx_redirect_port":
            continue
        if port in seen:
            yield f"{name} is {port}, as {seen[port]} is. Give each its own port"
        seen.setdefault(port, name)
        if port in TAKEN:
            yield f"{name} is {port}, the port of {TAKEN[port]}. Choose another one"
        if port in EPHEMERAL:
            yield f"{name} is {port}: {_lent()}. Choose a port below {EPHEMERAL.start}"
    if mine.get("nginx_port") == 80:
        yield "nginx_port is 80, the port of HTTP without TLS. Use 443"


def other_ports(given: Inputs) -> Iterator[str]:
    """Yield ports of login nodes that are Slurm's, and metrics that Prometheus would not find."""
    for entry in given.get("proxy_clusters", ()):
        port = int(entry.get("port", 22))
        if port in TAKEN and port != 22:
            yield (
                f"proxy_clusters: the port of {entry['host']} is that of {TAKEN[port]}. Give the port of its "
                "sshd"
            )
    for job in ("proxy", "web", "authority"):
        scraped = given.get("prometheus_targets", {}).get(job)
        port = given.get(f"{job}_status_port", scraped)
        if scraped is not None and int(scraped) != int(port):
            yield (
                f"prometheus_targets.{job} is {scraped} and {job}_status_port {port}. Give both the same port"
            )


def _lent() -> str:
    return f"the kernel uses {EPHEMERAL.start}-{EPHEMERAL.stop - 1} for outgoing connections"


def job_ports(given: Inputs) -> Iterator[str]:
    """Yield what is wrong with the range of ports on which jobs listen."""
    first, _, last = str(given.get("scheduler_ports", "")).partition("-")
    if not (first.isdigit() and last.isdigit()):
        return
    mine = range(int(first), int(last) + 1)
    taken = [f"{port} ({name})" for port, name in TAKEN.items() if port in mine]
    if taken:
        yield (
            f"scheduler_ports contains ports of the cluster: {', '.join(taken)}. Choose a range without them"
        )
    if mine.start < EPHEMERAL.stop and EPHEMERAL.start < mine.stop:
        yield f"scheduler_ports: {_lent()}. Choose a range below, such as 20000-20999"
    most = int(given.get("scheduler_max_instances", 0))
    if 0 < len(mine) < most:
        yield (
            f"scheduler_ports has {len(mine)} ports for scheduler_max_instances ({most}). Make the range "
            "longer"
        )


def addresses(given: Inputs) -> Iterator[str]:
    """Yield where the public URL, the server's name, the issuer and the login nodes contradict each other."""
    public = urlsplit(given.get("web_public_url", ""))
    name = given.get("nginx_server_name", "")
    try:
        port = public.port or 443
    except ValueError:
        yield (
            "web_public_url has a port that is none. Write https://NAME, or https://NAME:PORT with 1 to 65535"
        )
        return
    if public.hostname and name and public.hostname != name.lower():
        yield (
            f"web_public_url is for {public.hostname}, and nginx_server_name is {name}: browsers would be "
            f"sent to a name that nginx does not serve. Give both the same name"
        )
    inside = int(given.get("nginx_port", port))
    if public.hostname and port != inside and not given.get("nginx_balancers"):
        yield (
            f"web_public_url has the port {port}, and nginx_port is {inside}. Give both the same port, or "
            f"name the load balancer between them in nginx_balancers"
        )
    yield from _issuer(str(given.get("web_oidc_issuer", "")), public.hostname or "")
    for entry in given.get("proxy_clusters", ()):
        host = str(entry.get("host", ""))
        if host.lower() in ("localhost", name.lower()) or host.startswith("127."):
            yield (
                f"proxy_clusters: {host} is the gateway itself. Give the login node's name as the gateway "
                "sees it"
            )


def _issuer(issuer: str, public: str) -> Iterator[str]:
    parts = urlsplit(issuer)
    if ".well-known" in issuer:
        yield "web_oidc_issuer must not contain /.well-known/…. Write only what stands before it"
    if parts.query or parts.fragment or parts.username:
        yield "web_oidc_issuer must be a URL without user, ? and #. Copy `issuer` from the discovery document"
    if parts.hostname and parts.hostname == public and parts.path in ("", "/"):
        yield "web_oidc_issuer is this service's own address. Give the identity provider's issuer URL"


def networks(given: Inputs) -> Iterator[str]:
    """Yield networks that are malformed, wide open, or that no session can come from."""
    for word in given.get("nginx_balancers", ()):
        try:
            ipaddress.ip_network(word)
        except ValueError:
            yield (
                f"nginx_balancers: {word} is not an address or network. Write one such as 192.0.2.10 or "
                f"192.0.2.0/24, whose last bits are 0"
            )
    for name in ("relay_from", "nginx_balancers"):
        for word in given.get(name, ()):
            try:
                network = ipaddress.ip_network(word)
            except ValueError:
                continue
            if 0 < network.prefixlen < WIDE[network.version]:
                yield f"{name}: {word} is a large part of the Internet. Name the gateways' own networks"
            if network.is_loopback or network.is_multicast or (network.is_unspecified and network.prefixlen):
                yield f"{name}: {word} is no address that another machine has. Name the gateways' addresses"


def memory(given: Inputs) -> Iterator[str]:
    """Yield sizes that systemd does not read, or in which the service cannot run."""
    holds = {"proxy_memory_max": "proxy_max_buffered", "relay_memory_max": "relay_max_buffered"}
    for name in ("proxy_memory_max", "web_memory_max", "authority_memory_max", "relay_memory_max"):
        if name not in given:
            continue
        most = systemd_size(given[name])
        held = int(given.get(holds.get(name, ""), 0))
        if most is None:
            yield f"{name} must be {SYSTEMD_FORM}"
        elif most < LEAST_MEMORY:
            yield f"{name} is less than 64M, in which the service cannot start. Write {SYSTEMD_FORM}"
        elif most <= held:
            yield (
                f"{name} ({given[name]}) must be more than {holds[name]} ({held} bytes), which it holds. "
                "Raise it"
            )


def secrets(given: Inputs) -> Iterator[str]:
    """Yield secrets that are weak or used twice. No message shows a value."""
    mine = {name: given[name] for name in SECRETS if given.get(name)}
    for index, old in enumerate(given.get("web_old_key_secrets", ())):
        mine[f"web_old_key_secrets[{index}].value"] = old.get("value", "")
    seen: dict[str, str] = {}
    for name, value in mine.items():
        if value in seen:
            yield f"{name} is the same secret as {seen[value]}. Create one for each: openssl rand -base64 48"
        seen.setdefault(value, name)
        if value != value.strip():
            yield f"{name} begins or ends with white space. Remove it from the vault"
        weak = any(word in value.lower() for word in PLACEHOLDERS)
        provider = name == "web_oidc_client_secret"
        if weak or len(set(value)) < (6 if provider else LEAST_DIFFERENT):
            source = (
                "Create one at the identity provider" if provider else "Create one: openssl rand -base64 48"
            )
            yield (
                f"{name} (vault_{name}) can be guessed: a placeholder, or few different characters. {source}"
            )


RULES = (ports, other_ports, job_ports, addresses, networks, memory, secrets)
