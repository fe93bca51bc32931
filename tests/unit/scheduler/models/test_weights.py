"""Weights are loaded in no format that runs code, and only if they are those of the manifest."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from sluice.cli import main
from sluice.scheduler.commands.weights import Progress
from sluice.scheduler.models import weights

CONFIG = b'{"model_type": "llama"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights as they come: a shard in a folder of its own, configuration, and what a download left."""
    made = tmp_path / "Llama"
    (made / "shards").mkdir(parents=True)
    (made / ".cache").mkdir()
    (made / "config.json").write_bytes(CONFIG)
    (made / "shards" / "model-1.safetensors").write_bytes(b"1" * 5000)
    (made / ".cache" / "left.bin").write_bytes(b"x")
    return made


def make(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Write the manifest; return what an entry names."""
    assert main(["weights", "make", str(path)]) == 0
    return capsys.readouterr().out.strip()


def check(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Check weights; return what was refused, "" where nothing was."""
    status = main(["weights", "check", str(path), *options])
    said = capsys.readouterr().err
    assert (status == 0) is (said == "")
    return said


def test_a_manifest_is_sha256sums_own_and_its_hash_is_printed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = make(folder, capsys)
    manifest = folder / "SHA256SUMS"
    assert printed == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert f"# {len(CONFIG)} config.json\n{hashlib.sha256(CONFIG).hexdigest()}  config.json\n" in (
        manifest.read_text()
    )
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == "config.json: OK\nshards/model-1.safetensors: OK\n"


def test_weights_as_they_were_pass_both_checks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make(folder, capsys)
    assert check(folder, capsys, "--manifest", manifest) == ""
    assert check(folder, capsys, "--quick", "--manifest", manifest, "--loads", "safetensors") == ""


@pytest.mark.parametrize("quick", [["--quick"], []])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda at: (at / "shards" / "model-1.safetensors").unlink(), "model-1.safetensors: is missing"),
        (lambda at: (at / "extra.json").write_bytes(b"{}"), "extra.json: is not in the manifest"),
        (lambda at: os.truncate(at / "shards" / "model-1.safetensors", 4999), "has 4999 bytes, not 5000"),
        (lambda at: (at / "config.json").write_bytes(CONFIG[::-1]), "config.json: its content differs"),
        (lambda at: (at / "SHA256SUMS").write_text("", "ascii"), "SHA256SUMS has SHA-256"),
        (lambda at: (at / "SHA256SUMS").unlink(), "create it with `sluice weights make`"),
    ],
)
def test_changed_weights_are_refused_with_what_changed(
    quick: list[str], change: object, problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make(folder, capsys)
    (folder / "model.safetensors").write_bytes(b"2")
    manifest = make(folder, capsys)
    assert callable(change)
    change(folder)
    assert problem in check(folder, capsys, *quick, "--manifest", manifest)


def test_a_large_file_is_read_by_the_full_check_alone(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SMALL", 1000)
    manifest = make(folder, capsys)
    (folder / "shards" / "model-1.safetensors").write_bytes(b"2" * 5000)
    assert check(folder, capsys, "--quick", "--manifest", manifest) == ""
    assert "its content differs from the manifest" in check(folder, capsys, "--manifest", manifest)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "a.pth", "a.ckpt", "a.pkl", "sub/A.PT"])
def test_pickled_weights_are_refused_even_beside_safetensors(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    said = check(folder, capsys, "--quick", "--loads", "safetensors")
    assert f"{name}: pickled weights are refused, because loading them runs code" in said
    assert main(["weights", "make", str(folder)]) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "SHA256SUMS"])
def test_a_pipe_among_the_weights_is_refused_and_not_waited_for(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["weights", "make", str(folder)]) == 0
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    for words in (["make"], ["check"], ["check", "--quick", "--manifest", "0" * 64]):
        assert main(["weights", *words, str(folder)]) != 0
        assert "is not a regular file" in capsys.readouterr().err


def test_gguf_is_for_engines_that_load_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    manifest = make(file, capsys)
    (tmp_path / "other.gguf").write_bytes(b"another model beside it")
    assert check(file, capsys, "--quick", "--loads", "gguf", "--manifest", manifest) == ""
    assert "*.safetensors is missing" in check(file, capsys, "--quick", "--loads", "safetensors")
    file.write_bytes(b"FUGG")
    assert "its content differs" in check(file, capsys, "--quick", "--manifest", manifest)


def test_every_problem_is_told_up_to_a_screenful(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make(folder, capsys)
    for number in range(30):
        (folder / f"more-{number}.json").touch()
    said = check(folder, capsys, "--manifest", manifest)
    assert said.count("is not in the manifest") == 20
    assert "and 10 more" in said


def test_a_manifest_of_other_weights_is_replaced_only_when_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make(folder, capsys)
    (folder / "config.json").write_bytes(b"{}")
    assert main(["weights", "make", str(folder)]) == 1
    assert "belongs to other weights (config.json)" in capsys.readouterr().err
    assert main(["weights", "make", "--replace", str(folder)]) == 0
    assert capsys.readouterr().out.strip() != first


def test_a_manifest_without_sizes_serves_the_full_check(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(folder, capsys)
    manifest = folder / "SHA256SUMS"
    lines = [line for line in manifest.read_text().splitlines(keepends=True) if not line.startswith("#")]
    manifest.write_text("".join(lines))
    named = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert check(folder, capsys, "--manifest", named) == ""
    assert "has no sizes" in check(folder, capsys, "--quick", "--manifest", named)


def test_what_is_no_manifest_is_refused_with_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "SHA256SUMS").write_text("# note\nnot a line of sha256sum\n")
    assert "line 2 does not have the format of sha256sum" in check(folder, capsys)


def test_weights_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in check(tmp_path / "none", capsys, "--quick")


def test_long_readings_say_how_far_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 6.0, 7.0])
    monkeypatch.setattr("sluice.scheduler.commands.weights.time.monotonic", lambda: next(clock))
    progress = Progress(10 << 30)
    for _ in range(3):
        progress.add(2 << 30)
    assert capsys.readouterr().err == "4.0 of 10.0 GiB, 0.67 GiB/s, about 9 s left\n"
