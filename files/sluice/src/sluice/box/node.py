"""What a box shows of this node, and what it must not show: files, devices, accounts."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sluice.box import bubblewrap
from sluice.box.bubblewrap import Box, below
from sluice.errors import ConfigError

# A folder of weights may hold links to where their content lies, as a cache of a model hub does.
MOST_LINKS = 10_000
# Nothing of these may be read as a whole, nor any folder above them.
CLOSED = ("/dev", "/etc/munge", "/etc/slurm", "/etc/sluice", "/proc", "/run", "/sys", "/var/spool")


def account() -> str:
    """Return this account's name, or its id where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def home() -> str:
    """Return this account's home, "" where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def box(
    private: str,
    shared: str,
    read: Sequence[str],
    devices: Sequence[str],
    network: bool,
    closed: Sequence[str],
) -> Box:
    """Return the box, without the files that are made for it.

    `read` and `devices` (patterns) are what the site gives beside what every engine sees; those that are not
    there are left out. `closed` are folders that must not be seen. Raises ConfigError.
    """
    given = [path for path in read if Path(path).exists()]
    for path in given:
        _allow(path, (*CLOSED, *closed))
    system = tuple(path for path in bubblewrap.SYSTEM if Path(path).is_dir())
    settings = bubblewrap.SETTINGS + (bubblewrap.NETWORK_SETTINGS if network else ())
    wanted = [path for path in system if not Path(path).is_symlink()]
    wanted += [path for path in (*settings, *bubblewrap.HARDWARE) if Path(path).exists()]
    extra = [*given, *_python(), *_environments(given), *_linked(given, closed)]
    patterns = (*bubblewrap.ACCELERATORS, *(bubblewrap.NETWORK_DEVICES if network else ()), *devices)
    return Box(
        private=private,
        shared=shared,
        read=bubblewrap.without_covered((*wanted, *extra)),
        links=tuple((path, str(Path(path).readlink())) for path in system if Path(path).is_symlink()),
        devices=tuple(
            sorted({path for pattern in patterns for path in map(str, Path("/dev").glob(pattern))})
        ),
        network=network,
    )


def made_files(network: bool) -> dict[str, str]:
    """Return what is made for the box: the account it knows, and a host that it alone is."""
    name, user, group = account(), os.getuid(), os.getgid()
    found = {
        "/etc/passwd": f"root:x:0:0::/:/usr/sbin/nologin\n{name}:x:{user}:{group}::/tmp:/usr/sbin/nologin\n",
        "/etc/group": f"root:x:0:\n{name}:x:{group}:\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    if not network:
        found["/etc/hosts"] = f"127.0.0.1 localhost {socket.gethostname()}\n::1 localhost\n"
    return found


def _allow(path: str, closed: Iterable[str]) -> None:
    """Refuse to show what must not be seen, by whatever name."""
    for folder in closed:
        if below(os.path.realpath(folder), os.path.realpath(path)):
            raise ConfigError(
                f"box: {path} cannot be shown to an engine, because it contains {folder}; name a "
                "folder below it in model_box_read, or the weights' own folder"
            )


def _python() -> Iterator[str]:
    """Yield what the first process in the box runs from, and is."""
    yield os.path.realpath(sys.argv[0])
    for folder in (sys.prefix, sys.base_prefix, Path(os.path.realpath(sys.executable)).parent):
        yield str(folder)


def _environments(given: Iterable[str]) -> Iterator[str]:
    """Yield the Python below each virtual environment: it says itself where that is."""
    for folder in given:
        with contextlib.suppress(OSError, ValueError):
            for line in (Path(folder) / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition("=")
                home = Path(value.strip())
                if name.strip() == "home" and home.is_dir():
                    yield str(Path(os.path.realpath(home)).parent)


def _linked(given: Sequence[str], closed: Sequence[str]) -> Iterator[str]:
    """Yield the files outside that links in the given folders point to."""
    seen = 0
    for folder in given:
        for path in Path(folder).iterdir() if Path(folder).is_dir() else (Path(folder),):
            seen += 1
            if seen > MOST_LINKS or not path.is_symlink():
                continue
            target = os.path.realpath(path)
            if any(below(target, one) for one in (*CLOSED, *closed)) or below(target, folder):
                continue
            with contextlib.suppress(OSError):
                if stat.S_ISREG(Path(target).stat().st_mode):
                    yield target
