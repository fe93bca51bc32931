"""A bed's network: bridge, one namespace and veth pair per host, address translation, guard route."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from demo.bed import command
from demo.bed.topology import HOST_NAMES, Plan

# The bridge's own route has metric 0 and wins while it exists. Without it, this one keeps what is meant
# for a test host from leaving the machine by the default route.
_GUARD_METRIC = "4278198272"


def nft_rules(plan: Plan) -> str:
    """The nft table that lets hosts reach the outside under the machine's own address."""
    return f"""table ip {plan.nft_table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {plan.network} ip daddr != {plan.network} masquerade
  }}
}}
"""


def default_mtu(routes: str, links: str) -> int:
    """The MTU of the default route's interface, from ``ip -j route`` and ``ip -j link``; 1500 without one."""
    devices = [route.get("dev") for route in json.loads(routes or "[]")]
    for link in json.loads(links or "[]"):
        if link["ifname"] in devices:
            return int(link["mtu"])
    return 1500


def create(plan: Plan) -> None:
    """Make the bed's network. IP forwarding is among the settings that all beds share."""
    routes = command.run(["ip", "-j", "route", "show", "default"]).stdout
    mtu = default_mtu(routes, command.run(["ip", "-j", "link"]).stdout)
    _ip(f"route add unreachable {plan.network} metric {_GUARD_METRIC}")
    _ip(f"link add {plan.bridge} mtu {mtu} type bridge")
    _ip(f"addr add {plan.gateway}/24 dev {plan.bridge}")
    _ip(f"link set {plan.bridge} up")
    for host in plan.hosts:
        _connect(plan, host, mtu)
    command.run(["nft", "-f", "-"], stdin=nft_rules(plan))


def remove(plan: Plan, *, guard: bool) -> None:
    """Remove whatever exists of the bed's network; last and only with ``guard``, the guard route."""
    namespaces = command.run(["ip", "netns", "list"]).stdout
    links = command.run(["ip", "-o", "link"]).stdout
    for host in HOST_NAMES:
        if re.search(rf"^\d+: {re.escape(plan.port(host))}@", links, re.MULTILINE):
            _ip(f"link delete {plan.port(host)}")
        if re.search(rf"^{re.escape(plan.namespace(host))}\b", namespaces, re.MULTILINE):
            _ip(f"netns delete {plan.namespace(host)}")
    if exists(plan):
        _ip(f"link delete {plan.bridge}")
    if shutil.which("nft"):
        command.run(["nft", "delete", "table", "ip", plan.nft_table], check=False)
    _unmount_namespaces()
    if guard:
        command.run(f"ip route del unreachable {plan.network} metric {_GUARD_METRIC}".split(), check=False)


def exists(plan: Plan) -> bool:
    """Whether the bed's bridge is there."""
    return Path("/sys/class/net", plan.bridge).exists()


def _unmount_namespaces() -> None:
    """``ip netns add`` mounts a folder at its first use; unmount it with the last namespace."""
    folder = Path("/run/netns")
    if folder.is_dir() and not any(folder.iterdir()):
        command.run(["umount", str(folder)], check=False)


def _connect(plan: Plan, host: str, mtu: int) -> None:
    namespace = plan.namespace(host)
    _ip(f"netns add {namespace}")
    _ip(f"link add {plan.port(host)} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {namespace}")
    _ip(f"link set {plan.port(host)} master {plan.bridge} up")
    _ip(f"-n {namespace} link set lo up")
    _ip(f"-n {namespace} addr add {plan.address(host)}/24 dev eth0")
    _ip(f"-n {namespace} link set eth0 up")
    _ip(f"-n {namespace} route add default via {plan.gateway}")


def _ip(words: str) -> None:
    command.run(["ip", *words.split()])
