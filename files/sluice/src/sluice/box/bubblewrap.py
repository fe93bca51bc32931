"""bubblewrap's command line for one engine. Pure: a `Box` describes the node.

It uses only options of bubblewrap 0.4.0, the oldest version in a supported distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

# The system's folders in the root of any distribution. Where one is a symbolic link, the box gets the same
# link.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs and drivers read in /etc. Slurm's and munge's folders, accounts and keys are not in the list.
SETTINGS = (
    *("/etc/alternatives", "/etc/crypto-policies", "/etc/glvnd", "/etc/ld.so.cache", "/etc/ld.so.conf"),
    *("/etc/ld.so.conf.d", "/etc/localtime", "/etc/magic", "/etc/mime.types", "/etc/OpenCL", "/etc/pki"),
    *("/etc/ssl", "/etc/vulkan"),
)
# Only for an engine that talks to other nodes.
NETWORK_SETTINGS = ("/etc/gai.conf", "/etc/hosts", "/etc/libibverbs.d", "/etc/resolv.conf")
# Topology and devices, without /sys/fs, which shows the names of other jobs' control groups.
HARDWARE = ("/sys/block", "/sys/bus", "/sys/class", "/sys/dev", "/sys/devices", "/sys/module")
# Device nodes of accelerators, as patterns below /dev. Slurm's own device control holds inside the box too.
ACCELERATORS = ("nvidia*", "dri", "kfd", "accel*")
NETWORK_DEVICES = ("infiniband",)
# The box's own folders, in memory: they end with it.
MEMORY = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - they are the box's own


@dataclass(frozen=True)
class Box:
    """What an engine sees; all paths are absolute.

    `private`: the engine's own folder, in memory. `shared`: a folder below it that the front sees too;
    outside the box, the engine can write only there. `read`: files and folders that it can read. `links`:
    symbolic links as (path, target). `devices`: device nodes, or folders of them. `files`: files made for the
    box, as (path, descriptor to read from). `network`: True for the node's network, False for a separate
    loopback.
    """

    private: str
    shared: str
    read: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    network: bool = False


def command(box: Box, program: str, info: int) -> list[str]:
    """Return the argv that runs the command appended to it in the box; `info`: descriptor for the status."""
    argv = [program, "--unshare-all", *(["--share-net"] if box.network else [])]
    argv += ["--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    for path in MEMORY:
        argv += ["--tmpfs", path]
    for path, target in box.links:
        argv += ["--symlink", target, path]
    # Sorted: a folder comes before its contents, so that no mount covers another.
    for path in sorted(set(box.read)):
        argv += ["--ro-bind", path, path]
    for path, descriptor in box.files:
        argv += ["--ro-bind-data", str(descriptor), path]
    for path in box.devices:
        argv += ["--dev-bind", path, path]
    argv += ["--dir", box.private, "--bind", box.shared, box.shared, "--chdir", box.private]
    # The root is in memory too: read-only, so that nobody can fill it.
    return [*argv, "--remount-ro", "/", "--info-fd", str(info), "--"]


def without_covered(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths sorted, without those that lie below another one."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(below(path, folder) for folder in kept):
            kept.append(path)
    return tuple(kept)


def below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies in it."""
    return (path.rstrip("/") + "/").startswith(folder.rstrip("/") + "/")
