"""What the guests use of this machine, found at run time: apt, pip, npm, names, certificates."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from demo.bed import command
from demo.bed.errors import BedError
from demo.bed.topology import SUITES

_APT_GROUPS = {
    "http", "https", "ForceIPv4", "ForceIPv6", "Retries", "Languages", "Check-Date", "Check-Valid-Until",
    "AllowInsecureRepositories", "GzipIndexes",
}  # fmt: skip
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# These keys of an npmrc name places of this machine that the guests do not have.
_NPM_LOCAL_KEYS = {"nodedir", "prefix", "cache", "globalconfig", "userconfig", "script-shell"}
_PIP_LOCAL_KEYS = {"cache-dir", "no-cache-dir", "target", "prefix", "root", "log"}
_GUEST_CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True)
class AptSource:
    """One binary package source."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""

    def line(self) -> str:
        """The source in apt's one-line format."""
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {options}{self.uri} {self.suite} {' '.join(self.components)}"


def parse_one_line_sources(text: str) -> list[AptSource]:
    """The ``deb`` lines of a sources.list; ``deb-src`` and comments are left out."""
    sources = []
    for line in text.splitlines():
        match = re.fullmatch(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)", line.split("#", 1)[0].strip())
        if match is None:
            continue
        options, uri, suite, components = match.groups()
        signed_by = re.search(r"signed-by=(/\S+)", options or "")
        key = signed_by.group(1) if signed_by else ""
        sources.append(AptSource(uri, suite, tuple(components.split()), key))
    return sources


def parse_deb822_sources(text: str) -> list[AptSource]:
    """The enabled ``deb`` stanzas of a ``.sources`` file."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    sources = []
    for stanza in re.split(r"\n\s*\n", text):
        unfolded = re.sub(r"\n[ \t]+", " ", stanza)
        pairs = (line.split(":", 1) for line in unfolded.splitlines() if ":" in line)
        fields = {name.strip().lower(): value.strip() for name, value in pairs}
        disabled = fields.get("enabled", "yes").lower() in ("no", "false")
        if disabled or "deb" not in fields.get("types", "").split():
            continue
        key = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                components = tuple(fields.get("components", "").split())
                sources.append(AptSource(uri, suite, components, key if key.startswith("/") else ""))
    return sources


def guest_sources(sources: Iterable[AptSource], codename: str, guests: str = SUITES[0]) -> list[AptSource]:
    """The distribution's own sources (main archive, updates, security), turned to the guests' release."""
    chosen = []
    for source in sources:
        suite = re.fullmatch(rf"{re.escape(codename)}(-updates|-security)?", source.suite)
        if suite is not None and "main" in source.components:
            renamed = guests + (suite.group(1) or "")
            chosen.append(AptSource(source.uri, renamed, ("main",), source.signed_by))
    return chosen


def apt_options(dump: str) -> str:
    """The options in ``apt-config dump`` that say how archives are reached."""
    kept = []
    for line in dump.splitlines():
        match = re.match(r"Acquire::([A-Za-z0-9-]+)", line)
        if match is not None and match.group(1) in _APT_GROUPS:
            kept.append(line)
    return "".join(f"{line}\n" for line in kept)


def merge_pip(texts: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Pip's settings from its files (later ones win) and from PIP_* variables (which win over files)."""
    merged: dict[str, str] = {}
    for text in texts:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise BedError(f"a pip configuration file of this machine cannot be read: {error}") from error
        for section in ("global", "install", "download"):
            if parser.has_section(section):
                merged.update(parser.items(section))
    for name, value in sorted(environment.items()):
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE":
            merged[name[len("PIP_") :].lower().replace("_", "-")] = value
    return {key: value for key, value in merged.items() if key not in _PIP_LOCAL_KEYS}


def pip_config(settings: Mapping[str, str]) -> str:
    """A pip.conf with these settings."""
    lines = [f"{key} = {' '.join(value.split())}\n" for key, value in sorted(settings.items())]
    return "[global]\n" + "".join(lines)


def local_paths(settings: Mapping[str, str]) -> list[str]:
    """Absolute paths and file: URLs that pip's settings name, each as a path.

    A PEP 503 index in a folder called ``simple`` usually links to files beside it, so its parent is named.
    """
    paths = set()
    for value in settings.values():
        for word in value.split():
            path = unquote(urlsplit(word).path) if word.startswith("file:") else word
            if not path.startswith("/") or path.startswith(_GUEST_CERTIFICATES):
                continue
            path = path.rstrip("/")
            paths.add(path.removesuffix("/simple") if path.count("/") > 1 else path)
    return sorted(paths)


def npm_config(texts: Iterable[str]) -> str:
    """Npm's settings from its files, without those that name places of this machine."""
    settings: dict[str, str] = {}
    for text in texts:
        for line in text.splitlines():
            key, equals, value = line.partition("=")
            if equals and not key.lstrip().startswith(("#", ";")) and key.strip() not in _NPM_LOCAL_KEYS:
                settings[key.strip()] = value.strip()
    return "".join(f"{key}={value}\n" for key, value in settings.items())


@dataclass(frozen=True)
class Machine:
    """This machine's package sources and name servers, for guests of the Debian release ``suite``."""

    apt_sources: tuple[AptSource, ...]
    apt_options: str
    certificates: tuple[Path, ...]
    resolv_conf: str
    pip: Mapping[str, str]
    npmrc: str
    environment: tuple[tuple[str, str], ...]
    suite: str = SUITES[0]

    @property
    def pip_folders(self) -> list[Path]:
        """Existing local folders and files that pip's settings name."""
        return [Path(path) for path in local_paths(self.pip) if Path(path).exists()]


def discover(environment: Mapping[str, str], suite: str = SUITES[0]) -> Machine:
    """Read this machine's settings, for guests of a release. Raises BedError if it is not a Debian."""
    home = Path(environment.get("HOME", "/root"))
    return Machine(
        apt_sources=tuple(guest_sources(_read_apt_sources(Path("/etc/apt")), _codename(), suite)),
        apt_options=apt_options(command.run(["apt-config", "dump"]).stdout),
        certificates=tuple(sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt"))),
        resolv_conf=_resolv_conf(),
        pip=merge_pip(_read_all(_pip_files(home, environment)), environment),
        npmrc=npm_config(_read_all(_npm_files(home, environment))),
        environment=tuple((name, environment[name]) for name in _PROXY_VARIABLES if environment.get(name)),
        suite=suite,
    )


def _read_apt_sources(folder: Path) -> list[AptSource]:
    lists = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    stanzas = sorted((folder / "sources.list.d").glob("*.sources"))
    sources = [source for text in _read_all(lists) for source in parse_one_line_sources(text)]
    return sources + [source for text in _read_all(stanzas) for source in parse_deb822_sources(text)]


def _codename() -> str:
    for text in _read_all([Path("/etc/os-release")]):
        match = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', text, re.MULTILINE)
        if match is not None:
            return match.group(1)
    raise BedError("/etc/os-release names no VERSION_CODENAME", "use a Debian machine")


def _resolv_conf() -> str:
    # systemd-resolved's stub listens on loopback, which inside a guest is the guest itself.
    candidates = [Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")]
    for text in _read_all(candidates):
        if re.search(r"^nameserver\s+(?!127\.|::1)", text, re.MULTILINE):
            return text
    raise BedError(
        "no name server that a guest could reach is in /etc/resolv.conf",
        "put a name server there that is not on the loopback address",
    )


def _pip_files(home: Path, environment: Mapping[str, str]) -> list[Path]:
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf")]
    files += [home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    if environment.get("PIP_CONFIG_FILE"):
        files.append(Path(environment["PIP_CONFIG_FILE"]))
    return files


def _npm_files(home: Path, environment: Mapping[str, str]) -> list[Path]:
    user = environment.get("NPM_CONFIG_USERCONFIG") or environment.get("npm_config_userconfig")
    return [Path("/etc/npmrc"), Path("/usr/local/etc/npmrc"), Path(user) if user else home / ".npmrc"]


def _read_all(paths: Iterable[Path]) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in paths if path.is_file()]
