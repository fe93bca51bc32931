"""What sshd must say of the relay's account, and where its settings differ: for `sluice_health`."""

from __future__ import annotations

import fnmatch
import ipaddress
import socket
from pathlib import Path

LAUNCHER = Path("/usr/local/libexec/sluice/relay")
KEY_FILE = Path("/etc/ssh/sluice/authorized_keys")
CONFINED = {
    "forcecommand": str(LAUNCHER),
    "authorizedkeysfile": str(KEY_FILE),
    "authorizedkeyscommand": "none",
    "disableforwarding": "yes",
    "allowtcpforwarding": "no",
    "allowstreamlocalforwarding": "no",
    "allowagentforwarding": "no",
    "x11forwarding": "no",
    "permittunnel": "no",
    "permittty": "no",
    "permituserrc": "no",
    "permituserenvironment": "no",
    "permitopen": "none",
    "permitlisten": "none",
    "gatewayports": "no",
    "acceptenv": "SLUICE_ACCEPTS_NONE",
    "banner": "none",
    "chrootdirectory": "none",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "hostbasedauthentication": "no",
    "trustedusercakeys": "none",
    "authorizedprincipalsfile": "none",
    "authorizedprincipalscommand": "none",
    # With any other value, no gateway can log in with only its key.
    "pubkeyauthentication": "yes",
    "authenticationmethods": "publickey",
}
# sshd's lists of who may log in, and whether being on one admits an account.
ADMITTING = {"allowusers": True, "denyusers": False, "allowgroups": True, "denygroups": False}
KEY_TYPE = "ssh-ed25519"
# A documentation address, for a site that admits gateways from anywhere.
ANYWHERE = "192.0.2.1"


def addresses(sources: list[str]) -> list[str]:
    """Return one address of each network that gateways come from."""
    found = [str(next(iter(ipaddress.ip_network(one).hosts()))) for one in sources if one != "any"]
    return found or [ANYWHERE]


def local_address(address: str) -> str:
    """Return this host's address for connections with `address`; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return "::1" if ":" in address else "127.0.0.1"
        return str(probe.getsockname()[0])


def sshd_settings(output: str) -> dict[str, list[str]]:
    """Return sshd's settings; one setting may have several lines."""
    found: dict[str, list[str]] = {}
    for key, _, value in (line.partition(" ") for line in output.splitlines()):
        found.setdefault(key, []).append(value)
    return found


def unconfined(settings: dict[str, list[str]]) -> list[str]:
    """Return the settings that do not confine the account, or require more of a gateway than its key."""
    # An older sshd that does not know a setting does not have that feature either.
    wrong = [
        f"{key} is {' '.join(settings[key])}"
        for key, value in CONFINED.items()
        if key in settings and settings[key] != [value]
    ]
    missing = [f"{key} is not set" for key in ("forcecommand", "authorizedkeysfile") if key not in settings]
    accepted = ",".join(settings.get("pubkeyacceptedalgorithms", [KEY_TYPE])).split(",")
    types = [] if KEY_TYPE in accepted else [f"pubkeyacceptedalgorithms lacks {KEY_TYPE}, the proxy's key"]
    return wrong + missing + types


def shut_out(settings: dict[str, list[str]], account: str, groups: list[str], address: str) -> list[str]:
    """Return the sshd lists that refuse the account, whatever its key."""
    found = []
    for key, admits in ADMITTING.items():
        words = " ".join(settings.get(key, [])).split()
        names = groups if key.endswith("groups") else [account]
        on_list = any(_matches(word, name, address) for word in words for name in names)
        if words and on_list != admits:
            found.append(f"{key} ({' '.join(words)}) keeps {account} out")
    return found


def _matches(word: str, name: str, address: str) -> bool:
    pattern, _, host = word.partition("@")
    if not fnmatch.fnmatchcase(name, pattern):
        return False
    if "/" in host:
        return ipaddress.ip_address(address) in ipaddress.ip_network(host, strict=False)
    return not host or fnmatch.fnmatchcase(address, host)
