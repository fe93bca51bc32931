"""Making the demo's weights: what is checked before and after; the conversion itself runs in `make demo`."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from demo import weights


def test_a_package_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsError, match="is missing"):
        weights.checked_source(tmp_path)


def test_another_file_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / weights.SOURCE).write_bytes(b"GGUF")
    with pytest.raises(weights.WeightsError, match=f"expected {weights.SOURCE_SHA256}"):
        weights.checked_source(tmp_path)


def test_a_refusal_ends_with_status_1_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert weights.main(["--package", str(tmp_path), "--output", str(output)]) == 1
    assert "unpack the locked package" in capsys.readouterr().err
    assert not output.exists()


def test_sha256sum_reads_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a b").write_bytes(b"1")
    (tmp_path / "c").write_bytes(b"2")
    text = weights.manifest_of(tmp_path)
    assert text.splitlines()[0] == f"{hashlib.sha256(b'2').hexdigest()}  c"
    (tmp_path / weights.MANIFEST).write_text(text, encoding="ascii")
    argv = ["sha256sum", "--check", "--quiet", "--strict", weights.MANIFEST]
    assert subprocess.run(argv, cwd=tmp_path).returncode == 0
    (tmp_path / "c").write_bytes(b"3")
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True).returncode == 1


def test_what_was_there_is_replaced_and_readable_by_all(tmp_path: Path) -> None:
    made, output = tmp_path / "made", tmp_path / "out"
    for folder in (made, output):
        (folder / weights.MODEL).mkdir(parents=True)
        (folder / f"{weights.MODEL}.gguf").write_bytes(folder.name.encode())
        (folder / weights.MANIFEST).write_text(folder.name, encoding="ascii")
    (output / weights.MODEL / "old").write_bytes(b"")
    (made / f"{weights.MODEL}.gguf").chmod(0o600)
    weights.put_in_place(made, output)
    assert (output / weights.MANIFEST).read_text(encoding="ascii") == "made"
    assert not (output / weights.MODEL / "old").exists()
    assert (output / f"{weights.MODEL}.gguf").stat().st_mode & 0o777 == 0o644
