"""bubblewrap's command line for one engine. Pure: a `Box` describes the node.

Only options that bubblewrap 0.4.0 knows, the oldest that a supported distribution carries.
"""

from __future__ import annotations

from dataclasses import dataclass

# Found in every distribution's root. A link is made again as a link.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs and drivers read of /etc. Not there: Slurm's and munge's folders, accounts, keys.
SETTINGS = (
    *("/etc/alternatives", "/etc/crypto-policies", "/etc/glvnd", "/etc/ld.so.cache", "/etc/ld.so.conf"),
    *("/etc/ld.so.conf.d", "/etc/localtime", "/etc/magic", "/etc/mime.types", "/etc/OpenCL", "/etc/pki"),
    *("/etc/ssl", "/etc/vulkan"),
)
# What only an engine needs that talks to other nodes.
NETWORK_SETTINGS = ("/etc/gai.conf", "/etc/hosts", "/etc/libibverbs.d", "/etc/resolv.conf")
# Topology and devices. Not /sys/fs, which has the names of other jobs' control groups.
HARDWARE = ("/sys/block", "/sys/bus", "/sys/class", "/sys/dev", "/sys/devices", "/sys/module")
# Device nodes of accelerators, as patterns below /dev. Slurm's own device control holds inside the box too.
ACCELERATORS = ("nvidia*", "dri", "kfd", "accel*")
NETWORK_DEVICES = ("infiniband",)
# Its own, in memory: they end with it.
MEMORY = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - they are the box's own


@dataclass(frozen=True)
class Box:
    """What an engine sees; all paths are absolute.

    `private` is a folder of its own, in memory, and `shared` the one folder below it that the front sees as
    well, and the only thing outside that the engine can write. `read` are files and folders to read, `links`
    symbolic links as (path, target), `devices` device nodes or folders of them, `files` what is made for it:
    (path, descriptor to read from). `network`: whether it has the node's network, or a loopback of its own.
    """

    private: str
    shared: str
    read: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    network: bool = False


def command(box: Box, program: str, info: int) -> list[str]:
    """Return the argv that starts what follows it in the box; `info`: a descriptor for bubblewrap's news."""
    argv = [program, "--unshare-all", *(["--share-net"] if box.network else [])]
    argv += ["--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    for path in MEMORY:
        argv += ["--tmpfs", path]
    for path, target in box.links:
        argv += ["--symlink", target, path]
    # Folders before what lies in them, so that none covers another.
    for path in sorted(set(box.read)):
        argv += ["--ro-bind", path, path]
    for path, descriptor in box.files:
        argv += ["--ro-bind-data", str(descriptor), path]
    for path in box.devices:
        argv += ["--dev-bind", path, path]
    argv += ["--dir", box.private, "--bind", box.shared, box.shared, "--chdir", box.private]
    # The root itself is in memory too, and nobody's to fill.
    return [*argv, "--remount-ro", "/", "--info-fd", str(info), "--"]


def without_covered(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths less those that lie below another of them, in order."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(below(path, folder) for folder in kept):
            kept.append(path)
    return tuple(kept)


def below(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it."""
    return (path.rstrip("/") + "/").startswith(folder.rstrip("/") + "/")
