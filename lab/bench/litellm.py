"""LiteLLM's proxy from its package, in an environment of its own: a gateway to compare with.

It asks the engine directly over HTTP, without SSH or TLS, with one static key and no database. No setup of it
is cheaper. Its telemetry is switched off, and could not reach anything.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from lab.bench import processes, wrk
from lab.bench.processes import BenchError
from lab.bench.stack import MODEL, Engine, Running
from lab.bench.target import Target
from tests.integration.login import free_port

LOCK = Path(__file__).with_name("requirements-peers.txt")
KEY = "sk-bench"
SECONDS = 180.0
NOWHERE = "http://127.0.0.1:9"


def environment(directory: Path) -> Path:
    """Create the package's environment unless it exists; return the directory of its programs."""
    place = directory / "peers"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    done = place / ".complete"
    if not done.exists() or done.read_text() != digest:
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin/pip"), "install", "--quiet", "--require-hashes", "--no-deps"]
        pip += ["--disable-pip-version-check", "--requirement", str(LOCK)]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
        done.write_text(digest)
    return place / "bin"


class LiteLlm(Running):
    """One LiteLLM proxy with some workers."""

    def start(self, programs: Path, engine: Engine, workers: int) -> None:
        """Start it and wait until it answers."""
        self.port = free_port()
        self.workers = workers
        config = self.directory / "config.yaml"
        parameters = {
            "model": f"openai/{MODEL}",
            "api_base": f"http://127.0.0.1:{engine.port}/v1",
            "api_key": "none",
        }
        document = {
            "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
            "general_settings": {"master_key": KEY},
            "litellm_settings": {"telemetry": False},
        }
        config.write_text(json.dumps(document))  # JSON is YAML
        variables = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(self.directory),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "NO_PROXY": "127.0.0.1",
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
        }
        argv = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
        argv += ["--port", str(self.port), "--num_workers", str(workers)]
        self.run(argv, variables, self.directory)
        self._wait()

    def target(self) -> Target:
        """Return the target of the load."""
        return Target(f"litellm-{self.workers}", port=self.port, key=KEY)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far."""
        everything = processes.table()
        return {"litellm": sum(one.cpu for one in processes.below(self.pid, everything))}

    def _wait(self) -> None:
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"LiteLLM did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.5)

    def _answers(self) -> bool:
        request = urllib.request.Request(
            self.target().url,
            wrk.body(MODEL).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return bool(b"n=8" in response.read())
        except (urllib.error.URLError, OSError):
            return False
