"""The cluster's one file: the same bytes from the same source, and no need of anything but a Python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "files/sluice/src"
SECONDS = 60

# What an import may not do, watched by an audit hook; libraries named as arguments come before it.
PROBE = """
import importlib, json, logging, os, pkgutil, signal, sys, threading

sys.path.insert(0, sys.argv[1])
FORBIDDEN = {"os.mkdir", "os.remove", "os.rename", "os.system", "os.fork", "subprocess.Popen",
             "socket.bind", "socket.connect", "sqlite3.connect", "signal.pthread_kill"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
done = []

def watch(event, values):
    if event in FORBIDDEN or (event == "open" and values[2] & WRITING):
        done.append(f"{event} {values[0]}")

def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    return threading.active_count(), dict(os.environ), logging.getLogger().handlers[:], handlers

import sluice

for library in sys.argv[2:]:
    importlib.import_module(library)
names = [module.name for module in pkgutil.walk_packages(sluice.__path__, "sluice.")]
before = state()
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
print(json.dumps({"names": names, "done": done, "same": state() == before}))
"""


def build(out: Path) -> str:
    """Run the build as the playbook does; return what it says."""
    argv = [sys.executable, str(ROOT / "files/sluice/build_zipapp.py"), "--out", str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=True)
    return done.stdout


def pythons() -> list[str]:
    """Return this Python, and the oldest that clusters may have where this machine has one."""
    pyenv = (Path.home() / ".pyenv/versions").glob("3.9*/bin/python3.9")
    candidates = [*(str(path) for path in sorted(pyenv)), shutil.which("python3.9") or ""]
    return [sys.executable, *[path for path in candidates if path and is_python_3_9(path)][:1]]


def is_python_3_9(path: str) -> bool:
    """Whether it runs: a launcher of that name may have no such Python behind it."""
    argv = [path, "-I", "-S", "-c", "import sys; print(sys.version_info[:2])"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS)
    return done.stdout.strip() == "(3, 9)"


def run(python: str, *words: str, place: Path) -> str:
    """Run a Python that sees neither environment nor site packages, in `place`; return what it prints."""
    argv = [python, "-I", "-S", "-B", "-W", "error", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, cwd=place)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh build."""
    path = tmp_path_factory.mktemp("zipapp") / "sluice.pyz"
    assert ": built" in build(path)
    return path


def test_the_same_source_gives_the_same_bytes(zipapp: Path, tmp_path: Path) -> None:
    build(tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == zipapp.read_bytes()


def test_it_is_small_enough_to_be_read_over_a_shared_file_system(zipapp: Path) -> None:
    assert zipapp.stat().st_size < 1_000_000


def test_a_build_that_changes_nothing_writes_nothing(zipapp: Path) -> None:
    before = zipapp.stat()
    assert ": unchanged" in build(zipapp)
    after = zipapp.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("part", ["relay", "box", "front", "scheduler", "models", "status"])
def test_each_part_of_the_cluster_starts(zipapp: Path, tmp_path: Path, python: str, part: str) -> None:
    assert f"usage: sluice {part}" in run(python, str(zipapp), part, "--help", place=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("python", pythons())
def test_the_version_carries_the_commit(zipapp: Path, tmp_path: Path, python: str) -> None:
    words = run(python, str(zipapp), "--version", place=tmp_path).split()
    assert words[0] == "sluice"
    assert "+" in words[1]
    assert not words[1].endswith("+source")


@pytest.mark.parametrize("part", ["proxy", "keys"])
def test_a_part_of_the_gateway_is_said_to_be_absent(zipapp: Path, tmp_path: Path, part: str) -> None:
    argv = [sys.executable, "-I", "-S", str(zipapp), part]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path)
    assert done.returncode == 1
    assert "this copy does not contain" in done.stderr


@pytest.mark.parametrize("python", pythons())
def test_importing_a_module_of_the_zipapp_does_nothing(zipapp: Path, tmp_path: Path, python: str) -> None:
    seen = json.loads(run(python, "-c", PROBE, str(zipapp), place=tmp_path))
    assert {"sluice.relay.session", "sluice.front.listener", "sluice.scheduler.loop.tick"} <= set(
        seen["names"]
    )
    assert (seen["done"], seen["same"]) == ([], True)
    assert list(tmp_path.iterdir()) == []


def test_importing_a_module_of_the_source_does_nothing(tmp_path: Path) -> None:
    # urllib3 binds a socket to see whether there is IPv6.
    argv = [sys.executable, "-I", "-B", "-c", PROBE, str(SOURCE), "urllib3"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert {"sluice.proxy.service", "sluice.web.wsgi", "sluice.relay.session"} <= set(seen["names"])
    assert (seen["done"], seen["same"]) == ([], True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["sluice.pyz", "sluice-0.1.0+0123456789ab-py3-none-any.whl"])
@pytest.mark.parametrize("content", [None, b"", b"an old build"])
def test_a_build_that_this_checkout_has_not_made_is_refused_in_words(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    """A run that left the build out put other code on the hosts, without a word."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    script = ROOT / "files/sluice" / ("build_zipapp.py" if name.endswith("pyz") else "build_wheel.py")
    done = subprocess.run(
        [sys.executable, str(script), "--verify", str(path)], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 1
    assert f"{path} is " in done.stderr and "run playbooks/build.yml first" in done.stderr


def test_a_build_of_another_state_of_the_code_is_refused_and_this_ones_is_taken(
    zipapp: Path, tmp_path: Path
) -> None:
    script = ROOT / "files/sluice/build_zipapp.py"
    argv = [sys.executable, str(script), "--verify"]
    subprocess.run([*argv, str(zipapp)], check=True, timeout=SECONDS)
    other = tmp_path / "sluice.pyz"
    with zipfile.ZipFile(other, "w") as bundle:
        bundle.writestr("sluice/_build.py", 'COMMIT = "0123456789ab"\n')
    done = subprocess.run([*argv, str(other)], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, "is 0123456789ab" in done.stderr) == (1, True)
