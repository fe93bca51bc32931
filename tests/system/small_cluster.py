"""A small cluster with the scheduler and nothing else of Sluice: one login node, two compute nodes."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2

from demo.bed.bed import Bed
from demo.bed.progress import Progress
from demo.deployment import Deployment
from sluice.contracts.routing import RoutingTable
from sluice.scheduler.instances.instance import QueueJob
from sluice.scheduler.slurm.squeue import new_mark, parse_queue, queue_format
from tests.lanes import ROOT

STUB = "/shared/sluice/stub"
COMMAND = {"command": ["/usr/bin/python3", f"{STUB}/engine.py", "--socket", "@socket@"]}
STATE = "/var/lib/sluice"
# The bed's nodes have eight CPUs each.
CPUS = 8
ENTRY: dict[str, Any] = {
    "engine": "command",
    "weights": f"{STUB}/weights",
    "context_length": 2048,
    "concurrency": 1,
    "min": 1,
    "max": 1,
    "idle_stop": 600,
}
SLURM = {"partition": "normal", "time": 60, "cpus": 1, "memory_mb": 500}
# Reports the same demand every two seconds, as a relay does while requests wait.
RELAY = """
while sleep 2; do
  now=$(date +%s)
  echo "{\\"version\\":1,\\"relay\\":\\"0000000000000000\\",\\"written\\":$now,\\"models\\":
    {\\"$1\\":{\\"running\\":0,\\"waiting\\":$2,\\"last\\":$now}}}" >.test.new
  mv .test.new test.json
done
"""


class SmallCluster:
    """Hosts, Slurm and scheduler on `bed`, which has login, c1 and c2."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed

    def install(self) -> None:
        """Bring hosts, Slurm and scheduler up by the playbooks, and the stub engine's files into place."""
        self.bed.up()
        deployment = Deployment(self.bed, Progress())
        deployment.play("demo/cluster.yml")
        settings = {
            "sluice_build_dir": str(self.bed.state / "build"),
            "scheduler_launcher": "systemd",
            "scheduler_tick_interval": 2,
            "scheduler_busy_interval": 0.5,
            "scheduler_retry_backoff": 1,
        }
        (self.bed.state / "settings.json").write_text(json.dumps(settings))
        options = ["-e", f"@{self.bed.state / 'settings.json'}", "--tags", "build,login_base,scheduler"]
        deployment.play("playbooks/build.yml", "playbooks/login.yml", *options)
        stub = self.bed.shared / "sluice/stub"
        (stub / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests/system/stub_engine.py", stub / "engine.py")
        (stub / "weights/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")

    def shell(self, script: str, *arguments: str, host: str = "login") -> str:
        """Run a shell script as root and return its output. Raises BedError when it fails."""
        return self.bed.run(host, ["bash", "-euc", script, "bash", *arguments], check=True).stdout

    def sluice(self, *words: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run the command for admins."""
        return self.bed.run("login", ["/usr/local/bin/sluice", *words], timeout=timeout)

    def shown(self, model: str) -> dict[str, Any]:
        """Return what `models show` tells of a model."""
        done = self.sluice("models", "show", model, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def apply(self, model: str, **changes: Any) -> None:
        """Register a model; `changes` of its entry, `slurm` only what differs."""
        slurm = {**SLURM, **changes.pop("slurm", {})}
        entry = {"version": 1, "name": model, **ENTRY, **changes, "slurm": slurm}
        files = self.bed.shared / "sluice/stub"
        (files / "entry.json").write_text(json.dumps(entry))
        (files / "script").write_text(_script(entry))
        named = ["--entry", f"{STUB}/entry.json", "--script", f"{STUB}/script"]
        done = self.sluice("models", "apply", *named)
        assert done.returncode == 0, done.stderr

    def wait(self, model: str, seconds: float = 60.0) -> None:
        """Wait until the model's present entry is served."""
        done = self.sluice("models", "wait", model, "--timeout", str(seconds), timeout=seconds + 30)
        assert done.returncode == 0, f"{done.stderr}\n{self.diagnosis()}"

    def clear(self) -> None:
        """Take all models away, and wait until they have no jobs."""
        for model in self.shell("ls /etc/sluice/models.d").split():
            self.sluice("models", "remove", model.removesuffix(".json"))
        self.until(lambda: not self.live(), 60, "no jobs are left")

    def queue(self) -> list[QueueJob]:
        """Return the jobs of Sluice's account as the scheduler reads them."""
        mark = new_mark()
        argv = ["squeue", "--noheader", "--local", "--all", "--states=all", "--user=sluice"]
        asked = shlex.join([*argv, f"--format={queue_format(mark)}"])
        return list(parse_queue(self.shell(f"LC_ALL=C TZ=UTC {asked}"), mark))

    def live(self, model: str = "") -> list[QueueJob]:
        """Return the jobs, of one model or all, that run or wait."""
        return [
            job
            for job in self.queue()
            if job.state in ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED")
            and (not model or job.name.rpartition("-")[0] == f"sluice:{model}")
        ]

    def job(self, job_id: str) -> QueueJob:
        """Return one job, of any state."""
        return next(job for job in self.queue() if job.job_id == job_id)

    def routed(self, model: str) -> dict[str, str]:
        """Return a model's routed instances by their jobs' ids, each with its state."""
        table = RoutingTable.parse(json.loads(self.shell(f"cat {STATE}/routing.json")))
        found = table.models.get(model)
        return {} if found is None else {one.job_id: one.state for one in found.instances}

    def other_user(self, *options: str, seconds: int = 300) -> str:
        """Submit a job of another user that sleeps; return its id."""
        sleep = f"sleep {seconds}"
        argv = ["sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", *options, "--wrap", sleep]
        return self.shell('runuser -u alice-hpc -- "$@"', *argv).strip()

    def end_other_users(self) -> None:
        """End the other user's jobs."""
        self.shell("scancel --user=alice-hpc")

    def state_of(self, job_id: str, what: str = "%T") -> str:
        """Return one thing that squeue tells of any user's job."""
        asked = f"LC_ALL=C TZ=UTC squeue --noheader --states=all --jobs={job_id} --format={what}"
        return self.shell(asked).strip()

    @contextlib.contextmanager
    def asking(self, model: str, waiting: int) -> Iterator[None]:
        """Report that so many requests wait for a model, for as long as the context lasts."""
        unit = ["--unit=test-relay", "--collect", "--uid=sluice-relay", "--property=RuntimeMaxSec=300"]
        folder = ["--property=UMask=0027", f"--working-directory={STATE}/demand"]
        argv = ["systemd-run", "--quiet", *unit, *folder, "sh", "-c", RELAY, "sh", model, str(waiting)]
        self.shell('"$@"', *argv)
        try:
            yield
        finally:
            self.shell(f"systemctl stop test-relay; rm -f {STATE}/demand/test.json")

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{self.diagnosis()}")
            time.sleep(0.3)

    def diagnosis(self) -> str:
        """Return what a person would look at first."""
        script = "squeue -a; sinfo -N; sluice status; journalctl -n 25 --no-pager -o cat -t scheduler"
        return self.bed.run("login", ["sh", "-c", script]).stdout


def _script(entry: dict[str, Any]) -> str:
    """Render the bundled template for any server of the OpenAI API, as the playbook does."""
    environment = jinja2.Environment(  # noqa: S701 - shell, not HTML
        loader=jinja2.FileSystemLoader(Path(ROOT / "roles/model/templates")),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["quote"] = shlex.quote
    source = environment.get_template("engines/command.sbatch.j2")
    command = {**COMMAND, "ready": "stub engine: ready"}
    given = {"engine_path": "", "model_box_read": [STUB], "model_box_devices": []}
    return source.render(model=entry, engine_command=command, ansible_managed="By a test", **given)
