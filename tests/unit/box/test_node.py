"""What a box shows of a node, and what it must not show."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.box import node
from sluice.errors import ConfigError


def seen(tmp_path: Path, *read: str, closed: tuple[str, ...] = (), network: bool = False) -> tuple[str, ...]:
    """Return what an engine with these settings can read."""
    return node.box(str(tmp_path / "p"), str(tmp_path / "p/s"), read, (), network, closed).read


@pytest.mark.parametrize(
    "path", ["/", "/run", "/var", "/etc", "/proc", "/dev", "/sys", "/usr/..", "/etc/../run/"]
)
def test_a_folder_that_shows_too_much_is_refused_with_the_remedy(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be shown .* model_box_read"):
        seen(tmp_path, path, closed=("/run",))


def test_a_folder_above_the_jobs_is_refused_by_whatever_name(tmp_path: Path) -> None:
    jobs = tmp_path / "sluice" / "jobs"
    jobs.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "sluice")
    for path in (jobs, tmp_path / "sluice", tmp_path / "link", tmp_path):
        with pytest.raises(ConfigError, match="cannot be shown"):
            seen(tmp_path, str(path), closed=(str(jobs),))
    (tmp_path / "sluice" / "weights").mkdir()
    assert str(tmp_path / "sluice" / "weights") in seen(
        tmp_path, str(tmp_path / "sluice" / "weights"), closed=(str(jobs),)
    )


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    assert str(tmp_path / "absent") not in seen(tmp_path, str(tmp_path / "absent"))


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder outside of /dev, where a test's own folder may be; a box never shows it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_links_in_the_weights_are_followed_to_their_files_but_not_to_what_is_closed(
    tmp_path: Path, outside: Path
) -> None:
    blobs, weights, jobs = outside / "blobs", outside / "weights", outside / "jobs"
    for folder in (blobs, weights, jobs):
        folder.mkdir()
    (blobs / "content").touch()
    (jobs / "record.json").touch()
    (weights / "model.safetensors").symlink_to(blobs / "content")
    (weights / "config.json").symlink_to(jobs / "record.json")
    (weights / "folder").symlink_to(blobs)
    found = seen(tmp_path, str(weights), closed=(str(jobs),))
    assert str(blobs / "content") in found
    assert str(blobs) not in found
    assert not [path for path in found if path.startswith(str(jobs))]


def test_the_python_below_a_virtual_environment_is_seen(tmp_path: Path) -> None:
    home, engine = tmp_path / "python" / "bin", tmp_path / "engine"
    for folder in (home, engine):
        folder.mkdir(parents=True)
    (engine / "pyvenv.cfg").write_text(f"home = {home}\nversion = 3.11\n")
    assert str(tmp_path / "python") in seen(tmp_path, str(engine))


def test_accounts_and_names_of_the_node_are_not_in_the_box() -> None:
    made = node.made_files(network=False)
    assert set(made) == {"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts"}
    assert {line.split(":")[2] for line in made["/etc/passwd"].splitlines()} == {"0", str(os.getuid())}
    assert "/etc/hosts" not in node.made_files(network=True)


@pytest.mark.parametrize("network", [False, True])
def test_neither_slurm_nor_munge_nor_the_accounts_files_are_given(tmp_path: Path, network: bool) -> None:
    for path in seen(tmp_path, network=network):
        assert not path.startswith(("/etc/slurm", "/etc/munge", "/run", "/var", "/home", "/sys/fs"))
        assert path not in ("/etc", "/", "/etc/shadow", "/etc/passwd")
