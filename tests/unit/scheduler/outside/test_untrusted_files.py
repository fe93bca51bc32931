"""Files that others may write: what lies there costs a bounded time, is not followed and not waited for."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice.errors import RecordError
from sluice.scheduler.outside import untrusted_files

LIMIT = 1000


def a_folder(path: Path) -> None:
    """Lay a folder."""
    path.mkdir()


def a_pipe(path: Path) -> None:
    """Lay a pipe that nobody writes to."""
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    """Lay a socket, by a short name: the address of one is limited."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def a_link(path: Path) -> None:
    """Lay a link to a file that is there."""
    target = path.with_name("target")
    target.write_text("{}")
    path.symlink_to(target)


def a_circle(path: Path) -> None:
    """Lay a link to itself."""
    path.symlink_to(path.name)


def a_device(path: Path) -> None:
    """Lay a device that never ends."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


KINDS = {
    "a folder": a_folder,
    "a pipe": a_pipe,
    "a socket": a_socket,
    "a link": a_link,
    "a link to itself": a_circle,
    "a device": a_device,
}


def read(directory: Path, name: str = "it", owner: int = os.geteuid()) -> bytes:
    """Read a file of a folder."""
    with untrusted_files.folder(str(directory)) as inside:
        return untrusted_files.read(inside, name, LIMIT, owner)


@pytest.mark.parametrize("lay", KINDS.values(), ids=KINDS)
def test_what_is_no_file_is_refused_without_opening_it(tmp_path: Path, lay: Callable[[Path], None]) -> None:
    lay(tmp_path / "it")
    with pytest.raises(RecordError, match=r"link|regular"):
        read(tmp_path)
    with untrusted_files.folder(str(tmp_path)) as inside, pytest.raises(RecordError, match=r"link|regular"):
        untrusted_files.tail(inside, "it", LIMIT)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"x" * LIMIT)
    assert len(read(tmp_path)) == LIMIT
    os.truncate(tmp_path / "it", 10 << 30)
    with pytest.raises(RecordError, match="larger"):
        read(tmp_path)
    with untrusted_files.folder(str(tmp_path)) as inside:
        assert untrusted_files.tail(inside, "it", LIMIT) == b"\0" * LIMIT


def test_a_file_of_another_account_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"x")
    with pytest.raises(RecordError, match="this account"):
        read(tmp_path, owner=os.geteuid() + 1)


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    (tmp_path / name).write_bytes(b"x")
    assert read(tmp_path, name) == b"x"


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ENOENT])
@pytest.mark.parametrize("call", ["stat", "fstat", "open", "pread"])
def test_a_file_system_that_fails_is_an_error_of_the_system_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    (tmp_path / "it").write_bytes(b"x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with untrusted_files.folder(str(tmp_path)) as inside:

        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as broken:
            broken.setattr(os, call, fail)
            with pytest.raises(OSError, match=os.strerror(number)):
                untrusted_files.read(inside, "it", LIMIT)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_that_is_a_link_is_not_followed_but_where_it_is_roots_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "other").symlink_to(tmp_path / "real" / "inner")
    with pytest.raises(OSError), untrusted_files.folder(str(tmp_path / "real"), "other"):
        pass
    owned = os.stat_result((stat.S_IFLNK | 0o777, 1, 1, 1, 901, 901, 4, 0, 0, 0))
    with monkeypatch.context() as changed:
        changed.setattr(os, "lstat", lambda _: owned)
        with pytest.raises(OSError), untrusted_files.folder(str(tmp_path / "link")):
            pass
    by_root = os.stat_result((stat.S_IFLNK | 0o777, 1, 1, 1, 0, 0, 4, 0, 0, 0))
    monkeypatch.setattr(os, "lstat", lambda _: by_root)
    with untrusted_files.folder(str(tmp_path / "link"), "inner") as inside:
        assert not list(os.scandir(inside))


def removed(directory: Path, steps: int = 10_000) -> bool:
    """Remove the folder `it`; return whether it has gone."""
    with untrusted_files.folder(str(directory)) as inside:
        return untrusted_files.Removal(steps, 60.0).remove(inside, "it")


def test_a_folder_goes_with_all_that_may_lie_in_it(tmp_path: Path) -> None:
    top = tmp_path / "it"
    top.mkdir()
    for number, lay in enumerate((a_folder, a_pipe, a_socket, a_link, a_circle)):
        (top / f"{number}").mkdir()
        lay(top / f"{number}" / "x")
    (top / os.fsdecode(b"\xff")).write_bytes(b"")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"x")
    (top / "out").symlink_to(kept)
    assert removed(tmp_path)
    assert not top.exists() and (kept / "file").read_bytes() == b"x"


def test_depth_costs_neither_a_stack_nor_descriptors(tmp_path: Path) -> None:
    inside = tmp_path / "it"
    inside.mkdir()
    descriptor = os.open(inside, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deep", dir_fd=descriptor)
        outer, descriptor = descriptor, os.open("deep", os.O_RDONLY, dir_fd=descriptor)
        os.close(outer)
    os.close(descriptor)
    assert removed(tmp_path)
    assert not inside.exists()


def test_what_is_too_much_for_one_time_is_gone_after_several_and_lay_as_still_as_before(
    tmp_path: Path,
) -> None:
    top = tmp_path / "it"
    top.mkdir()
    for number in range(50):
        (top / f"{number}").write_bytes(b"")
    os.utime(top, (1000, 1000))
    assert not removed(tmp_path, steps=30)
    assert len(list(top.iterdir())) == 20 and top.stat().st_mtime == 1000
    assert removed(tmp_path, steps=30)


def test_a_link_in_a_folders_place_is_not_removed_through(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"x")
    (tmp_path / "it").symlink_to(kept)
    assert not removed(tmp_path)
    assert (kept / "file").exists()
