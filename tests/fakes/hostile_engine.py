"""An engine that a model's weights or a bug made hostile: it attacks its node and serves requests.

It needs only Python 3's standard library, because some hosts have nothing else. `hostile_engine.py --socket
PATH […]` answers every request with what it got, as JSON: the attacks' names, each with what it got in words.
It writes only files with its own mark, and sends nothing outside of the node.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

MARK = "sluice-hostile"
SECRETS = ("record.json", "front.key", "munge.key", "slurm.conf", "routing.json", "authorized_keys", "output")
COMMANDS = (
    ("sbatch", "--wrap=true", "--output=/dev/null", "--time=1"),
    ("srun", "--overlap", "--ntasks=1", "--time=1", "true"),
    ("squeue", "--noheader"),
    ("scancel", "--user", "sluice", "--name", MARK),
    ("scontrol", "ping"),
    ("munge", "--no-input"),
    ("sudo", "-n", "true"),
)
MUNGE = ("/run/munge/munge.socket.2", "/var/run/munge/munge.socket.2")
NEVER_READ = (
    "/etc/munge",
    "/etc/slurm",
    "/etc/sluice",
    "/root",
    "/home",
    "/var/lib",
    "/var/spool",
    "/run/munge",
)
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
MOST_FILES = 300_000
SECONDS = 10


def below(folder: str, *pruned: str) -> Iterator[Path]:
    """Yield every file below a folder, so many at most; what is in `pruned` is not entered."""
    seen = 0
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if str(Path(place) / name) not in pruned]
        for name in (*files, *folders):
            seen += 1
            if seen > MOST_FILES:
                return
            yield Path(place) / name


def own_tree() -> set[int]:
    """Return this process, the first one of the box, and every child: what an engine may well see."""
    return {1, os.getpid()} | set(children(os.getpid()))


def children(pid: int) -> list[int]:
    """Return a process's children and theirs."""
    try:
        found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [grandchild for child in found for grandchild in children(child)]


def others() -> list[int]:
    """Return the processes that are not ours."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) not in own_tree()]


class Attacks:
    """Each method is an attack; it returns what it got, "" for nothing."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.own = Path(given.socket).parent

    def swap_a_socket(self) -> str:
        """Replace another job's socket."""
        for path in below("/tmp"):
            with contextlib.suppress(OSError):
                if path.is_socket() and path.parent != self.own:
                    path.rename(path.with_suffix(".taken"))
                    return str(path)
        return ""

    def forge_a_record(self) -> str:
        """Write into any job's folder, including its own."""
        for folder in (self.given.jobs, *map(str, Path(self.given.jobs).glob("*"))):
            with contextlib.suppress(OSError):
                (Path(folder) / MARK).touch()
                return folder
        return ""

    def find_a_secret(self) -> str:
        """Look for keys, records and configuration by their names."""
        skipped = ("/proc", "/sys", "/usr", "/dev", str(self.given.own))
        found = [path for path in below("/", *skipped) if path.name in SECRETS]
        return " ".join(map(str, found[:5]))

    def read_what_is_closed(self) -> str:
        """Read folders of the node's services and of users."""
        readable = [
            path for path in (*NEVER_READ, str(Path("~").expanduser())) if self._holds_something(path)
        ]
        return " ".join(readable)

    def _holds_something(self, path: str) -> bool:
        # Its home is the engine's own folder, in memory.
        if self.own.parent == Path(path):
            return False
        with contextlib.suppress(OSError):
            return any(Path(path).iterdir())
        return False

    def ask_slurm_or_munge(self) -> str:
        """Run Slurm's programs, and others that would give more rights."""
        got = []
        for argv in COMMANDS:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
                )
                if done.returncode == 0:
                    got.append(argv[0])
        return " ".join(got)

    def connect_to_munge(self) -> str:
        """Connect to munge's socket."""
        for path in MUNGE:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                return path
        return ""

    def see_other_processes(self) -> str:
        """Read the environment of other processes."""
        for pid in others():
            with contextlib.suppress(OSError):
                return Path(f"/proc/{pid}/environ").read_bytes()[:200].decode("utf-8", "replace") or str(pid)
        return ""

    def trace_or_end_other_processes(self) -> str:
        """Attach to a process, or ask whether it could be sent a signal."""
        libc = ctypes.CDLL(None, use_errno=True)
        for pid in others():
            if libc.ptrace(PTRACE_ATTACH, pid, None, None) == 0:
                os.waitpid(pid, 0x40000000)
                libc.ptrace(PTRACE_DETACH, pid, None, None)
                return f"ptrace {pid}"
            with contextlib.suppress(OSError):
                os.kill(pid, 0)
                return f"kill {pid}"
        return ""

    def read_shared_memory(self) -> str:
        """Look at what others hold in shared memory."""
        return " ".join(path.name for path in list(Path("/dev/shm").iterdir())[:5])

    def reach_ports(self) -> str:
        """Connect to the node's own ports and to other hosts', and look at its interfaces."""
        for address in self.given.ports.split(","):
            host, _, port = address.rpartition(":")
            with contextlib.suppress(OSError):
                socket.create_connection((host, int(port)), 2).close()
                return address
        return " ".join(name for _, name in socket.if_nameindex() if name != "lo")

    def see_abstract_sockets(self) -> str:
        """Look for sockets that have no file."""
        lines = Path("/proc/net/unix").read_text().splitlines()[1:]
        named = [line.split()[-1] for line in lines if line.split()[-1].startswith("@")]
        return " ".join(named[:5])

    def learn_from_the_environment(self) -> str:
        """Look for variables of the job, the scheduler or a login profile."""
        starts = ("SLUICE_", "SLURM", "BASH_", "PYTHONPATH", "LD_", "http", "SSH_", "MUNGE", "VLLM_EVIL")
        return " ".join(name for name in os.environ if name.startswith(starts))

    def write_where_it_only_reads(self) -> str:
        """Change weights, programs or settings."""
        for folder in (self.given.own, "/usr", "/etc", "/opt", "/", "/sys", "/proc/sys/kernel"):
            with contextlib.suppress(OSError):
                (Path(folder) / MARK).touch()
                return folder
        return ""

    def keep_privileges(self) -> str:
        """Have a capability, or be able to gain one from a set-user-ID program."""
        status = dict(
            line.split(":\t", 1)
            for line in Path("/proc/self/status").read_text().splitlines()
            if ":\t" in line
        )
        lacking = {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}
        return " ".join(
            f"{key}={status[key].strip()}" for key in lacking if status[key].strip() != lacking[key]
        )

    def leave_a_process_behind(self) -> str:
        """Start a process that ignores signals; the test checks whether it ends with the job."""
        subprocess.Popen(["sh", "-c", "trap '' TERM HUP INT; exec sleep 300"], start_new_session=True)
        return ""


def all_attacks(given: argparse.Namespace) -> dict[str, str]:
    """Return what each attack got, without those that got nothing."""
    attacks = Attacks(given)
    methods: dict[str, Callable[[], str]] = {
        name: getattr(attacks, name) for name in vars(Attacks) if not name.startswith("_")
    }
    return {name: got for name, method in methods.items() if (got := attempt(method))}


def attempt(method: Callable[[], str]) -> str:
    """Return what one attack got, "" if it failed."""
    try:
        return method()
    except (OSError, ValueError, IndexError):
        return ""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /health, and every request with what the attacks got."""

    protocol_version = "HTTP/1.1"
    got: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        """Answer a health check."""
        self._answer(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        """Answer a request."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # Places where a prompt could stay after a kill.
        for folder in ("/dev/shm", "/tmp", os.environ["TMPDIR"]):
            (Path(folder) / f"{MARK}-prompt").write_text(json.dumps(asked))
        message = {"role": "assistant", "content": json.dumps(self.got)}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "hostile", "object": "chat.completion", "created": 0, "model": asked["model"]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._answer(200, json.dumps({**answer, "choices": [choice], "usage": usage}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a client of a unix socket has no address."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One thread for each connection."""

    daemon_threads = True


class LoopbackServer(http.server.ThreadingHTTPServer):
    """The same on a port of loopback."""


def main() -> None:
    """Attack, then serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--port", type=int, default=0, help="serve on loopback instead")
    parser.add_argument("--jobs", required=True, help="where jobs publish their records")
    parser.add_argument("--own", required=True, help="the folder of this program, which it reads")
    parser.add_argument("--ports", required=True, help="HOST:PORT,… of what listens outside")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Handler.got = all_attacks(given)
    made = LoopbackServer(("127.0.0.1", given.port), Handler) if given.port else Server(given.socket, Handler)
    with made as server:
        print("hostile engine: ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
