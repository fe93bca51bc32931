"""The running service as its tests see it: requests from outside, and hands on the hosts."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any

import openai

from demo.bed.errors import BedError
from demo.deployment import Deployment

MODEL = "smollm2-135m"
LIGHT = "smollm2-135m-light"
# Seconds that a busy machine may take beyond a bound.
MARGIN = 60.0
QUESTION = "What is the capital of France?"
ALIVE = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING")


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, its headers' names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code, after checking that the error has OpenAI's shape and a request id."""
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code", "request_id"}, error
        assert error["request_id"] == self.headers["x-request-id"], error
        return str(error["code"])


class Service:
    """Requests and host access for one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.bed = deployment.bed
        values = deployment.read_env()
        self.url = values["SLUICE_URL"]
        self.key = values["SLUICE_API_KEY"]
        self.ca = values["SLUICE_CA"]
        self.context = ssl.create_default_context(cafile=self.ca)

    def openai(self, max_retries: int = 2) -> openai.OpenAI:
        """The public client, unchanged; whoever asks for it closes it."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.key,
            max_retries=max_retries,
            http_client=openai.DefaultHttpx2Client(verify=self.context),
        )

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = "",
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """Send one request.

        `key`: "" for the bed's own, None for none. `body`: bytes, or an object for JSON.
        """
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key or self.key}"
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with contextlib.closing(self._connection(timeout)) as connection:
            connection.request(method, path, raw, {"Content-Type": "application/json", **sent})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())

    def first_events(self, path: str, body: bytes, number: int) -> list[bytes]:
        """Ask for a stream, read so many of its events, and go; fewer come back where it ended before."""
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        with contextlib.closing(self._connection(300)) as connection:
            connection.request("POST", path, body, sent)
            with connection.getresponse() as response:
                assert response.status == 200, response.read(300)
                lines = iter(response.readline, b"")
                return list(itertools.islice((one for one in lines if one.startswith(b"data:")), number))

    def _connection(self, timeout: float) -> http.client.HTTPSConnection:
        host = self.url.removeprefix("https://")
        return http.client.HTTPSConnection(host, context=self.context, timeout=timeout)

    @property
    def bound(self) -> float:
        """The seconds that a request may take in all, as the gateway is set."""
        settings = json.loads(self.shell("gw", "cat /etc/sluice/proxy.json"))
        return float(settings["request_timeout"])

    def chat(self, content: str, model: str = MODEL, *, within: float = 60, **options: Any) -> Answer:
        """Ask one question, not streaming. Raises TimeoutError when nothing comes for `within` seconds."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 8,
            **options,
        }
        return self.request("POST", "/v1/chat/completions", body, timeout=within)

    def answers(self) -> bool:
        """Whether the first model answers right now."""
        try:
            return self.chat("Say hi.", max_tokens=1).status == 200
        except OSError:
            return False

    def wait_answering(self, seconds: float) -> float:
        """Wait until three requests in a row are answered; return how long it took."""
        started = time.monotonic()
        row = 0
        while row < 3:
            row = row + 1 if self.answers() else 0
            taken = time.monotonic() - started
            assert row == 3 or taken < seconds, f"no answer within {seconds:.0f} s\n{self.diagnosis()}"
            if row == 0:
                time.sleep(1)
        return time.monotonic() - started

    def jobs(self) -> list[tuple[str, str, str]]:
        """Return Sluice's jobs as (id, name, state)."""
        done = self.bed.run("login", ["squeue", "-h", "--user=sluice", "-o", "%i|%j|%T"], check=True)
        rows = [line.split("|") for line in done.stdout.splitlines()]
        return [(row[0], row[1], row[2]) for row in rows if len(row) == 3 and row[1].startswith("sluice:")]

    def live_jobs(self, model: str = MODEL) -> list[str]:
        """Return the ids of a model's jobs that are not ending."""
        return [
            job
            for job, name, state in self.jobs()
            if name[len("sluice:") :].rpartition("-")[0] == model
            and state in ("PENDING", "RUNNING", "CONFIGURING")
        ]

    def status(self, model: str) -> Any:
        """Return what the scheduler knows of a model."""
        return json.loads(self.shell("login", "sluice status --json"))["models"][model]

    def ready(self, model: str) -> list[str]:
        """Return the jobs of a model's ready instances."""
        return [one["job_id"] for one in self.status(model)["instances"] if one["state"] == "ready"]

    def job(self, job: str) -> dict[str, str]:
        """Return what Slurm says of a job, also for some minutes after its end."""
        words = self.shell("login", f"scontrol --oneliner show job {job}").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def ended_jobs(self, model: str) -> dict[str, str]:
        """Return the states in which a model's jobs have ended, of those that Slurm still knows."""
        rows = self.shell("login", "squeue -h -t all -o '%i|%j|%T'").split()
        found = {}
        for job, name, state in (row.split("|") for row in rows):
            if name[len("sluice:") :].rpartition("-")[0] == model and state not in ALIVE:
                found[job] = state
        return found

    def claim(self, node: str, job: str = "") -> str:
        """Submit a job of the cluster's other users that takes a node's free CPUs, and those of `job` too."""
        shown = self.shell("login", f"scontrol --oneliner show node {node}").split()
        numbers = dict(word.split("=", 1) for word in shown if "=" in word)
        cpus = int(numbers["CPUTot"]) - int(numbers["CPUAlloc"])
        cpus += int(self.job(job)["NumCPUs"]) if job else 0
        options = f"--parsable --partition=normal --nodelist={node} --cpus-per-task={cpus} --mem=100 --time=5"
        return self.shell("login", f"cd / && sbatch {options} --output=/dev/null --wrap='sleep 120'").strip()

    def shell(self, host: str, script: str, timeout: float = 60) -> str:
        """Run a shell script as root on a host and return its output. Raises BedError when it fails."""
        return self.bed.run(host, ["bash", "-c", script], check=True, timeout=timeout).stdout

    def try_shell(self, host: str, script: str, timeout: float = 60) -> str:
        """As `shell`, but a failure gives what was printed all the same."""
        done = self.bed.run(host, ["bash", "-c", script], timeout=timeout)
        return done.stdout + done.stderr

    def kill9(self, host: str, pattern: str) -> int:
        """Kill -9 the processes of a host whose command line matches; return how many there were."""
        # The brackets keep the pattern from matching the shell that carries it.
        script = f"pids=$(pgrep -f '[{pattern[0]}]{pattern[1:]}') || exit 0; kill -9 $pids; echo $pids"
        return len(self.shell(host, script).split())

    def node_of_job(self, job: str) -> str:
        """Return the node that a job runs on."""
        return self.shell("login", f"squeue -h -j {job} -o %N").strip()

    def proxy_health(self) -> Any:
        """Return the proxy's own view of its clusters."""
        return json.loads(self.shell("gw", "curl -s http://127.0.0.1:9464/health"))

    def diagnosis(self) -> str:
        """Return what a person would look at first."""
        parts = []
        for host, script in (
            (
                "gw",
                "curl -s -m 5 http://127.0.0.1:9464/health; journalctl -n 15 --no-pager -o cat -u 'sluice-*'",
            ),
            ("login", "squeue -a; journalctl -n 25 --no-pager -o cat -t sluice-scheduler -t sluice-relay"),
        ):
            try:
                parts.append(f"--- {host}\n{self.try_shell(host, script, timeout=20)}")
            except BedError as error:
                parts.append(f"--- {host}: {error}")
        return "\n".join(parts)
