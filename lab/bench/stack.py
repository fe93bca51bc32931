"""The whole stack on loopback, as real processes: the target of the scenarios.

    with Stack(directory, Options()) as stack:
        stack.target("sluice")     nginx (TLS) → proxy → sshd → relay → front → engine, as deployed
        stack.target("proxy")      the same without nginx: the proxy's own socket
        stack.target("nginx")      nginx (TLS, the same configuration) → engine
        stack.target("direct")     the engine itself
        before = stack.cpu()       CPU seconds since the start, by part; subtract two of them
        stack.memory()             bytes by part (PSS)
        stack.pids()               pids by part, as they are now
        stack.sessions()           one entry for each SSH session: its sshd processes and its relay
        stack.pin({"nginx": {0}, "proxy": {0}, "sshd": {0}, "relay": {0}, "front": {1}, "engine": {1}})
        stack.engine_journal()     what the engine served

Parts: nginx, proxy, ssh (where the proxy runs it), authority, sshd, relay, front, engine, syslog, and plain
(the nginx before the engine). VM = nginx + proxy + ssh, login = sshd + relay, job = front. What is real:

- proxy, relay, front: the programs of a build of this tree (wheel and zipapp), started as they are deployed;
  their files are the roles' templates with the roles' defaults. `Options` names what differs.
- nginx: Debian's, with the role's template, TLS on; only the limit of requests by address is raised, because
  all load comes from one. It and sshd run in mount namespaces, so that the deployed paths need no change.
- sshd: Debian's with its default limits, and the deployed drop-in, key file and launcher.
- authority: the deployed app under gunicorn, with a key from `sluice keys create` and LIMITS on it.
- engine: lab/bench/engine.py; syslog: lab/bench/sink.py. No scheduler: the routing table is written once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import jinja2

from lab.bench import processes
from lab.bench.processes import ROOT, BenchError
from lab.bench.sink import SyslogSink
from lab.bench.target import Target
from sluice.contracts.files import read_json, write_json
from sluice.contracts.jobs import JobRecord
from sluice.contracts.routing import RoutedInstance, RoutedModel, RoutingTable
from tests.integration.login import ACCOUNT, UID, LoginNode, Secured, build_zipapp, free_port, wait_for_port
from tests.policy.tree import COMMON, ROLES, defaults, read_yaml

MODEL = "bench"
GROUP = "users"
WEB_GROUP = "www-data"
SECONDS = 60.0
# What every request is held to, of each number one: so high that nothing is refused.
LIMITS = tuple(
    {
        "scope": scope,
        "requests_per_minute": 100_000_000,
        "tokens_per_minute": 100_000_000_000,
        "tokens_per_day": 100_000_000_000_000,
        "concurrent": 1_000_000,
    }
    for scope in ("site", "user:*")
)
PARTS = ("nginx", "proxy", "ssh", "authority", "sshd", "relay", "front", "engine", "syslog", "plain")
PLACES = {"vm": ("nginx", "proxy", "ssh"), "login": ("sshd", "relay"), "job": ("front",)}
# In the whole tree of processes, a part is known by its command line.
SLUICE = "import sys; from sluice.cli import main; sys.exit(main())"

NGINX_NAMESPACE = """\
set -eu
for place in /run /var/lib/nginx /var/log/nginx; do mount -t tmpfs tmpfs "$place"; done
cp /etc/nginx/mime.types "$1/etc/mime.types"
mount --bind "$1/etc" /etc/nginx
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for node in null zero random urandom; do
  touch "$1/dev/$node"
  mount --bind "/dev/$node" "$1/dev/$node"
done
ln -s "$2" "$1/dev/log"
ln -s /proc/self/fd/2 "$1/dev/stderr"
mount --rbind "$1/dev" /dev
exec /usr/sbin/nginx -g 'daemon off;'
"""


@dataclass(frozen=True)
class Options:
    """What differs from the defaults: the proxy's sessions, requests of a front, settings by role."""

    sessions: int = 2
    concurrency: int = 2048
    proxy: Mapping[str, Any] = field(default_factory=dict)
    relay: Mapping[str, Any] = field(default_factory=dict)
    nginx: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Build:
    """The two artefacts of this tree: the zipapp, and a directory with the wheel's content."""

    zipapp: Path
    site: Path

    @classmethod
    def make(cls, directory: Path) -> Build:
        """Build what is missing. Raises BenchError."""
        directory.mkdir(parents=True, exist_ok=True)
        builder = ROOT / "files/sluice/build_wheel.py"
        argv = [sys.executable, str(builder), "--out", str(directory / "wheel")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"the wheel could not be built: {done.stderr[-500:]}")
        (wheel,) = (directory / "wheel").glob("*.whl")
        site = directory / "wheel" / wheel.stem
        if not site.exists():
            shutil.unpack_archive(wheel, site, "zip")
        return cls(build_zipapp(directory), site)


@dataclass(frozen=True)
class Session:
    """One SSH session as the login node sees it."""

    sshd: tuple[int, ...]
    relay: int


class Together:
    """Parts that start together, and end in reverse: what a subclass's `_start` puts into `_ending`."""

    def __init__(self) -> None:
        self._ending = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _start(self) -> None:
        raise NotImplementedError


class Running:
    """One process with its log; the base of the parts below."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True)
        directory.chmod(0o755)

    def run(self, argv: list[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        """Start it."""
        self.process = processes.start(argv, self.log, env=env, cwd=cwd)

    @property
    def pid(self) -> int:
        """The process at the root."""
        assert self.process is not None
        return self.process.pid

    def wait_until(self, path: Path) -> None:
        """Wait for a file that it creates."""
        assert self.process is not None
        processes.wait_until(path, self.process, self.log)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            processes.end(self.process)


class Engine(Running):
    """The stub engine, on a unix socket and a port."""

    def start(self) -> None:
        """Start and wait until it listens."""
        self.socket = self.directory / "engine.sock"
        port_file = self.directory / "port"
        argv = [sys.executable, "-m", "lab.bench.engine", "--socket", str(self.socket)]
        self.run([*argv, "--port-file", str(port_file)], cwd=ROOT)
        self.wait_until(port_file)
        self.port = int(port_file.read_text())

    def journal(self) -> dict[str, Any]:
        """Return what it has served so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/bench/journal")
            document: dict[str, Any] = json.load(connection.getresponse())
        finally:
            connection.close()
        return document


class Front(Running):
    """The front as a job's script starts it; `instance` is what the scheduler would route."""

    def start(self, engine: Path, zipapp: Path, concurrency: int) -> None:
        """Start and wait for its job record."""
        nonce = os.urandom(4).hex()
        environment = {
            "PATH": "/usr/bin:/bin",
            "SLUICE_INSTANCE": f"{MODEL}-{nonce}",
            "SLUICE_NONCE": nonce,
            "SLUICE_JOB_DIR": str(self.directory),
            "SLUICE_PORTS": "30000-39999",
            "SLUICE_CONCURRENCY": str(concurrency),
            "SLUICE_MAX_BODY": str(shared()["sluice_max_body"]),
            "SLURM_JOB_ID": "17",
            "SLURMD_NODENAME": "localhost",
        }
        argv = ["/usr/bin/python3", "-I", "-S", str(zipapp), "front", "--engine-socket", str(engine)]
        self.run([*argv, "--private-dir", str(self.directory / "private")], environment)
        record = self.directory / "record.json"
        self.wait_until(record)
        self.record = JobRecord.parse(read_json(record))

    def instance(self) -> RoutedInstance:
        """Return the job as the scheduler would route it."""
        record = self.record
        return RoutedInstance(
            id=record.instance,
            job_id=record.job_id,
            host=record.host,
            port=record.port,
            certificate=record.certificate,
            key=record.key,
            state="ready",
        )


class Login(LoginNode):
    """The login node: sshd and what it starts, with the deployed drop-in, keys and launcher."""

    def __init__(self, directory: Path, zipapp: Path, changes: Mapping[str, Any]) -> None:
        self._changes = changes
        super().__init__(directory, zipapp, Secured(True, True))
        self.log.stop()
        self.syslog = SyslogSink(directory / "log" / "socket")
        self.log = self.syslog  # type: ignore[assignment]

    def configure(self, **changes: Any) -> None:
        """Write relay.json from the role's template; sessions that begin later read it."""
        state = "/run/sluice-test/state"
        document = render_json("relay", relay_cluster="bench", **{**self._changes, **changes})
        document["routing_table"] = f"{state}/routing.json"
        document["demand_dir"] = f"{state}/demand"
        document["figures"] = f"{state}/figures.json"
        document["closed_file"] = "/run/sluice-test/etc/closed"
        # What is measured is the path, not the bound.
        document["requests_per_second"] = 0
        path = self.directory / "etc" / "relay.json"
        path.write_text(json.dumps(document))
        os.chown(path, 0, UID)
        path.chmod(0o640)

    def route(
        self,
        *instances: RoutedInstance,
        concurrency: int = 2048,
        generation: int = 1,
        usage: str = "continuous",
    ) -> None:
        """Write the routing table as the scheduler does."""
        model = RoutedModel(
            status="ready" if instances else "sleeping",
            expected_ready=None,
            context_length=32_768,
            capabilities=("chat", "completions"),
            groups=(GROUP,),
            description="",
            concurrency=concurrency,
            starting=0,
            instances=tuple(instances),
            usage=usage,
            cache_isolation="none",
            created=0,
        )
        table = RoutingTable("bench", generation, time.time(), {MODEL: model})
        path = self.directory / "state" / "routing.json"
        write_json(path, table.dump(), mode=0o640, group=UID)

    @property
    def pid(self) -> int:
        """The process above sshd and everything that it started."""
        assert self._process is not None
        return self._process.pid


class Authority(Running):
    """The authority under gunicorn, with a database of its own."""

    def start(self, site: Path, database: str = "", limits: Sequence[Mapping[str, Any]] = ()) -> None:
        """Start it; `socket` is where it listens, `database` the URL of its tables (default: a file).

        `limits` are those of the inventory.
        """
        self._environment = {**os.environ, "PYTHONPATH": str(site)}
        self._config = self.directory / "web.json"
        sessions = self.directory / "sessions"
        sessions.mkdir()
        document = render_json(
            "web",
            web_public_url="https://chat.example.org",
            web_secret_key=os.urandom(32).hex(),
            web_key_secret=os.urandom(32).hex(),
            web_oidc_issuer="https://login.example.org",
            web_oidc_client_id="sluice",
            web_oidc_client_secret=os.urandom(32).hex(),
            web_limits=list(limits),
        )
        self.database = database or f"sqlite:///{self.directory / 'sluice.db'}"
        document.update(database=self.database, session_dir=str(sessions))
        self._config.write_text(json.dumps(document))
        self.socket = self.directory / "http.sock"
        self._sluice("db", "upgrade")
        self.restart()

    def restart(self) -> None:
        """Start it again, with the same files."""
        argv = [sys.executable, "-P", "-m", "gunicorn", "--config", "python:sluice.web.gunicorn"]
        self.run([*argv, "--bind", f"unix:{self.socket}", "sluice.web.wsgi:authority()"], self.environment)
        self.wait_until(self.socket)

    @property
    def environment(self) -> dict[str, str]:
        """What gunicorn needs to serve it, or the pages, on the same tables."""
        return {**self._environment, "SLUICE_WEB_CONFIG": str(self._config)}

    def make_key(self, user: str = "bench", *more: str) -> str:
        """Make an API key of a service account; `more` is for `sluice keys create`."""
        return self._sluice("keys", "create", "--user", user, "--groups", GROUP, "--name", "bench", *more)

    def _sluice(self, *arguments: str) -> str:
        argv = [sys.executable, "-P", "-c", SLUICE, *arguments, "--config", str(self._config)]
        done = subprocess.run(argv, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"sluice {' '.join(arguments[:2])}: {done.stderr[-500:]}")
        return done.stdout.strip()


class Proxy(Running):
    """`sluice proxy`, with the role's template."""

    def start(self, site: Path, login: Login, authority: Path, options: Options) -> None:
        """Start it and wait for its socket."""
        shutil.chown(self.directory, group=WEB_GROUP)
        self.directory.chmod(0o2755)
        self.socket = self.directory / "http.sock"
        document = self.document(login, authority, self.socket, options)
        self.status_port = document["status_port"]
        config = self.directory / "proxy.json"
        config.write_text(json.dumps(document))
        environment = {**os.environ, "PYTHONPATH": str(site)}
        self.run([sys.executable, "-P", "-c", SLUICE, "proxy", "--config", str(config)], environment)
        self.wait_until(self.socket)

    @staticmethod
    def document(login: Login, authority: Path, socket: Path, options: Options) -> dict[str, Any]:
        """Return proxy.json for a login node."""
        cluster = {
            "name": "bench",
            "host": "127.0.0.1",
            "port": login.port,
            "user": ACCOUNT,
            "host_key": "-",
            "sessions": options.sessions,
        }
        inputs = {
            "proxy_clusters": [cluster],
            "proxy_socket": str(socket),
            "proxy_status_port": free_port(),
            "proxy_authority_socket": str(authority),
            "proxy_spool": str(socket.parent / "usage"),
            **options.proxy,
        }
        document = render_json("proxy", **inputs)
        for entry in document["clusters"]:
            entry["key_file"] = str(login.directory / "keys" / "client")
            entry["known_hosts"] = str(login.directory / "known_hosts")
        return document


class Nginx(Running):
    """nginx with the role's template in front of a unix socket."""

    def start(self, upstream: Path, syslog: Path, changes: Mapping[str, Any]) -> None:
        """Start it and wait until it listens on `port`."""
        self.port = free_port()
        etc = self.directory / "etc"
        (etc / "sluice").mkdir(parents=True)
        (self.directory / "dev").mkdir()
        self.certificate = etc / "sluice" / "tls.crt"
        make_certificate(self.certificate, etc / "sluice" / "tls.key")
        inputs = {
            "nginx_port": self.port,
            "nginx_redirect_port": 0,
            "nginx_server_name": "localhost",
            "nginx_proxy_socket": str(upstream),
            "nginx_address_rate": 1_000_000,
            "nginx_address_burst": 100_000,
            **changes,
        }
        (etc / "nginx.conf").write_text(render("nginx", "nginx.conf.j2", **inputs))
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        argv += ["--propagation", "private", "/bin/sh", "-c", NGINX_NAMESPACE]
        self.run([*argv, "sh", str(self.directory), str(syslog)])
        try:
            wait_for_port(self.port)
        except AssertionError:
            raise BenchError(f"nginx did not start: {self.log.read_text()[-1000:]}") from None

    def stop(self) -> None:
        """End it. The process above it passes on no signal, only its own end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Stack(Together):
    """All parts together; the module's docstring says more."""

    def __init__(self, directory: Path, build: Build, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or Options()
        self.build = build
        self.directory = Path(tempfile.mkdtemp(prefix="stack-", dir=directory))
        self.directory.chmod(0o711)
        self._ending.callback(shutil.rmtree, self.directory, ignore_errors=True)

    def _start(self) -> None:
        self.engine = Engine(self.directory / "engine")
        self._ending.callback(self.engine.stop)
        self.engine.start()
        self.front = Front(self.directory / "job")
        self._ending.callback(self.front.stop)
        self.front.start(self.engine.socket, self.build.zipapp, self.options.concurrency)
        self.login = Login(self._made("login"), self.build.zipapp, self.options.relay)
        self._ending.callback(self.login.stop)
        self.login.route(self.front.instance(), concurrency=self.options.concurrency)
        self.login.start()
        self.authority = Authority(self.directory / "authority")
        self._ending.callback(self.authority.stop)
        self.authority.start(self.build.site, limits=LIMITS)
        self.key = self.authority.make_key()
        self.proxy = Proxy(self.directory / "proxy")
        self._ending.callback(self.proxy.stop)
        self.proxy.start(self.build.site, self.login, self.authority.socket, self.options)
        syslog = self.login.directory / "log" / "socket"
        self.nginx = Nginx(self.directory / "nginx")
        self._ending.callback(self.nginx.stop)
        self.nginx.start(self.proxy.socket, syslog, self.options.nginx)
        self.plain = Nginx(self.directory / "nginx-to-engine")
        self._ending.callback(self.plain.stop)
        self.plain.start(self.engine.socket, syslog, self.options.nginx)
        self._wait_ready()

    def _made(self, name: str) -> Path:
        place = self.directory / name
        place.mkdir(mode=0o755)
        return place

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        while not self._ready():
            if time.monotonic() > deadline:
                raise BenchError(f"the stack did not come up: {self.proxy.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        status, body = self.ask(
            b'{"model":"bench","max_tokens":1,"messages":[{"role":"user","content":"?"}]}'
        )
        return status == 200 and len(self.sessions()) >= self.options.sessions and b"n=1" in body

    def ask(self, body: bytes) -> tuple[int, bytes]:
        """Send one request through everything; return status and body."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            self.nginx.port,
            timeout=30,
            context=ssl.create_default_context(cafile=str(self.nginx.certificate)),
        )
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/chat/completions", body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def target(self, name: str) -> Target:
        """Return the target of a load: sluice, proxy, nginx or direct."""
        targets = {
            "sluice": Target("sluice", port=self.nginx.port, tls=True, key=self.key),
            "proxy": Target("proxy", path=str(self.proxy.socket), key=self.key),
            "nginx": Target("nginx", port=self.plain.port, tls=True),
            "direct": Target("direct", port=self.engine.port),
        }
        return targets[name]

    # --- what it costs ----------------------------------------------------------------------------------

    def _parts(self) -> dict[str, list[processes.Process]]:
        everything = processes.table()
        found: dict[str, list[processes.Process]] = {part: [] for part in PARTS}
        for name in ("engine", "front", "authority", "nginx", "plain"):
            found[name] = processes.below(getattr(self, name).pid, everything)
        for process in processes.below(self.proxy.pid, everything):
            found["ssh" if process.argv.startswith("ssh ") else "proxy"].append(process)
        for process in processes.below(self.login.pid, everything):
            found["relay" if " relay --config " in process.argv else "sshd"].append(process)
        found["syslog"] = processes.below(self.login.syslog.pid, everything)
        return found

    def pids(self) -> dict[str, list[int]]:
        """Return the pids by part, as they are now."""
        return {part: [one.pid for one in found] for part, found in self._parts().items()}

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds by part since the start; an ended child's count for its parent's part."""
        return {part: sum(one.cpu for one in found) for part, found in self._parts().items()}

    def memory(self) -> dict[str, int]:
        """Return the bytes by part (PSS)."""
        return {part: processes.pss(found) for part, found in self.pids().items()}

    def pin(self, cpus: Mapping[str, set[int]]) -> None:
        """Bind parts to CPUs; their later children inherit it."""
        pids = self.pids()
        for part, chosen in cpus.items():
            processes.pin(pids[part], chosen)

    def sessions(self) -> list[Session]:
        """Return the SSH sessions that are open, each with its sshd processes and its relay."""
        everything = processes.table()
        found = []
        for relay in self._parts()["relay"]:
            if relay.argv.startswith("/usr/bin/python3"):
                found.append(Session(tuple(_above(relay, everything, self.login.pid)), relay.pid))
        return found

    def engine_journal(self) -> dict[str, Any]:
        """Return what the engine served so far."""
        return self.engine.journal()


def _above(
    process: processes.Process, everything: Mapping[int, processes.Process], root: int
) -> Iterator[int]:
    """Yield the sshd processes of one session: its parents, up to the one that listens."""
    one = everything.get(process.parent)
    while (
        one is not None
        and one.pid != root
        and not one.argv.startswith(("sshd: /usr/sbin/sshd", "/usr/sbin/sshd"))
    ):
        yield one.pid
        one = everything.get(one.parent)


# --- files ----------------------------------------------------------------------------------------------


def shared() -> dict[str, Any]:
    """Return the defaults that the roles share."""
    found: dict[str, Any] = read_yaml(COMMON / "group_vars/all/sluice.yml")
    return found


def render(role: str, template: str, **inputs: Any) -> str:
    """Return a role's template, rendered with its defaults and these inputs."""
    environment = jinja2.Environment(  # noqa: S701 - configuration, not HTML
        loader=jinja2.FileSystemLoader(ROLES / role / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["to_nice_json"] = lambda value, indent: json.dumps(value, indent=indent)
    size = {f"{role}_max_body": shared()["sluice_max_body"]}
    values = {"ansible_managed": "Managed by Ansible", **defaults(role), **size, **inputs}
    return environment.get_template(template).render(**values)


def render_json(role: str, **inputs: Any) -> dict[str, Any]:
    """Return a part's configuration file as its role writes it."""
    document: dict[str, Any] = json.loads(render(role, f"{role}.json.j2", **inputs))
    return document


def make_certificate(certificate: Path, key: Path) -> None:
    """Make a self-signed certificate for localhost, of the kind that a site has (ECDSA)."""
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        [*argv, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True, timeout=60
    )
