"""Which files, devices and accounts of this node a box shows, and which it must not show."""

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

# A folder of weights may contain links to the real files, as in a model hub's cache.
MOST_LINKS = 10_000
# These folders, and folders that contain them, cannot be shown as a whole.
CLOSED = ("/dev", "/etc/munge", "/etc/slurm", "/etc/sluice", "/proc", "/run", "/sys", "/var/spool")


def account() -> str:
    """Return this account's name, or its numeric id if it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def home() -> str:
    """Return this account's home, "" if it has none."""
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

    `read` (paths) and `devices` (patterns) are what the site adds to what every engine sees; those that do
    not exist are left out. `closed`: folders that the engine must not see. Raises ConfigError.
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
    """Return the files made for the box, by path: accounts, name service and, without network, hosts."""
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
    """Raise ConfigError if `path`, with links resolved, contains one of the `closed` folders."""
    for folder in closed:
        if below(os.path.realpath(folder), os.path.realpath(path)):
            raise ConfigError(
                f"box: {path} cannot be shown to an engine, because it contains {folder}; name a "
                "folder below it in model_box_read, or the weights' own folder"
            )


def _python() -> Iterator[str]:
    """Yield the program and the Python that run the first process in the box."""
    yield os.path.realpath(sys.argv[0])
    for folder in (sys.prefix, sys.base_prefix, Path(os.path.realpath(sys.executable)).parent):
        yield str(folder)


def _environments(given: Iterable[str]) -> Iterator[str]:
    """Yield the base Python of each virtual environment, as its pyvenv.cfg names it."""
    for folder in given:
        with contextlib.suppress(OSError, ValueError):
            for line in (Path(folder) / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition("=")
                home = Path(value.strip())
                if name.strip() == "home" and home.is_dir():
                    yield str(Path(os.path.realpath(home)).parent)


def _linked(given: Sequence[str], closed: Sequence[str]) -> Iterator[str]:
    """Yield the files that links in the given folders point to, if they lie outside of them."""
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
