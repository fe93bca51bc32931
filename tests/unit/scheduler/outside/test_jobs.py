"""Job directories: records are hostile input, and may come late."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.contracts.jobs import JobRecord
from sluice.errors import RecordError
from sluice.scheduler.instances.instance import (
    Instance,
    answered,
    fingerprint,
    published,
    unanswered,
    without_run,
)
from sluice.scheduler.outside.jobs import JobDirectories
from tests.unit.scheduler.outside.test_untrusted_files import KINDS

GOLDEN = Path(__file__).parents[3] / "golden" / "contracts" / "job-record.json"
DOCUMENT = json.loads(GOLDEN.read_text())
INSTANCE = Instance(
    DOCUMENT["instance"],
    "m",
    DOCUMENT["nonce"],
    "",
    0.0,
    job_id=DOCUMENT["job_id"],
    nodes=(DOCUMENT["host"],),
)


@pytest.fixture
def directories(tmp_path: Path) -> JobDirectories:
    """Give job directories with one for INSTANCE."""
    made = JobDirectories(str(tmp_path), range(20000, 21000))
    made.create(INSTANCE.id)
    return made


def test_a_directory_is_private_and_made_once(directories: JobDirectories) -> None:
    assert directories.path(INSTANCE.id).stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        directories.create(INSTANCE.id)


def test_a_record_that_is_not_there_yet_is_no_error(directories: JobDirectories) -> None:
    assert directories.record(INSTANCE) is None
    directories.path(INSTANCE.id).rmdir()
    assert directories.record(INSTANCE) is None


def test_the_golden_record_is_taken(directories: JobDirectories) -> None:
    (directories.path(INSTANCE.id) / "record.json").write_text(json.dumps(DOCUMENT))
    assert directories.record(INSTANCE) == JobRecord.parse(DOCUMENT)


@pytest.mark.parametrize(
    "changes",
    [
        {"instance": "other-3fa9c1d2"},
        {"nonce": "00000000"},
        {"job_id": "18"},
        {"host": "login"},
        {"host": "c1/../evil"},
        {"port": 22},
        {"port": "20417"},
        {"certificate": "none"},
        {"certificate": "-----BEGIN CERTIFICATE-----\nAAAAA\n-----END CERTIFICATE-----\n"},
        {"key": "short"},
        {"surprise": 1},
        {"version": 2},
    ],
)
def test_trying_to_cheat_with_one_field(directories: JobDirectories, changes: dict[str, object]) -> None:
    (directories.path(INSTANCE.id) / "record.json").write_text(json.dumps({**DOCUMENT, **changes}))
    with pytest.raises(RecordError):
        directories.record(INSTANCE)


def test_trying_to_cheat_with_a_link_to_another_file(directories: JobDirectories, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(json.dumps(DOCUMENT))
    (directories.path(INSTANCE.id) / "record.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="link"):
        directories.record(INSTANCE)


def test_trying_to_stop_the_scheduler_with_a_pipe(directories: JobDirectories) -> None:
    os.mkfifo(directories.path(INSTANCE.id) / "record.json")
    with pytest.raises(RecordError, match="regular"):
        directories.record(INSTANCE)


def test_trying_to_fill_memory_with_a_large_record(directories: JobDirectories) -> None:
    (directories.path(INSTANCE.id) / "record.json").write_bytes(b" " * 20_000)
    with pytest.raises(RecordError, match="larger"):
        directories.record(INSTANCE)


def test_a_record_of_another_account_is_refused(
    directories: JobDirectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directories.path(INSTANCE.id) / "record.json").write_text(json.dumps(DOCUMENT))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(RecordError, match="account"):
        directories.record(INSTANCE)


def test_the_last_runs_record_is_recognised_however_late_it_shows() -> None:
    record = JobRecord.parse(DOCUMENT)
    first = published(INSTANCE, record)
    again = without_run(first)
    assert again.stale_record == fingerprint(record)
    assert published(again, record).record is None


def test_once_a_front_has_answered_no_other_record_takes_its_place() -> None:
    """Jobs share an account: another engine of the node may write this record, with its own port."""
    first = JobRecord.parse(DOCUMENT)
    forged = replace(first, port=first.port + 1, key="k" * 43)
    waiting = published(INSTANCE, first)
    assert published(waiting, forged).record == forged
    ready = answered(waiting, 1.0)
    assert published(ready, forged) == ready
    failing = unanswered(ready, 2.0)
    assert published(failing, forged) == failing
    assert published(without_run(failing), forged).record == forged


@pytest.mark.parametrize("name", ["record.json", "output"])
@pytest.mark.parametrize("lay", KINDS.values(), ids=KINDS)
def test_whatever_lies_in_a_job_directory_ends_nothing(
    directories: JobDirectories, lay: Callable[[Path], None], name: str
) -> None:
    lay(directories.path(INSTANCE.id) / name)
    if name == "record.json":
        with pytest.raises(RecordError, match=r"link|regular"):
            directories.record(INSTANCE)
        directories.drop_record(INSTANCE.id)
    else:
        assert directories.first_lines(INSTANCE) == ()


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["stat", "fstat", "open", "pread", "scandir", "lstat", "unlink"])
def test_a_file_system_that_fails_is_like_a_directory_that_is_not_there_yet(
    directories: JobDirectories, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    (directories.path(INSTANCE.id) / "record.json").write_text(json.dumps(DOCUMENT))
    (directories.path(INSTANCE.id) / "output").write_text("words")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        record, lines = directories.record(INSTANCE), directories.first_lines(INSTANCE)
        directories.drop_record(INSTANCE.id)
        exists = directories.exists(INSTANCE.id)
    looked = call not in ("scandir", "lstat", "unlink")
    assert (record, lines) == ((None, ()) if looked else (JobRecord.parse(DOCUMENT), ("words",)))
    assert exists is (call != "lstat")


def test_a_linked_job_directory_is_not_followed(directories: JobDirectories, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    directories.path(INSTANCE.id).rename(elsewhere)
    (elsewhere / "record.json").write_text(json.dumps(DOCUMENT))
    (elsewhere / "output").write_text("another's words")
    directories.path(INSTANCE.id).symlink_to(elsewhere)
    with pytest.raises(RecordError, match="its directory is a link"):
        directories.record(INSTANCE)
    assert directories.first_lines(INSTANCE) == ()
    directories.drop_record(INSTANCE.id)
    assert (elsewhere / "record.json").exists()
    assert not directories.exists(INSTANCE.id)


def test_a_directory_that_cannot_be_seen_keeps_no_other_from_being_cleaned(
    directories: JobDirectories, tmp_path: Path
) -> None:
    for name in ("m-0000000a", "m-0000000b", "m-0000000c"):
        os.utime(directories.create(name), (1000, 1000))
    (tmp_path / os.fsdecode(b"m-\xff-0000000d")).mkdir()
    # Somebody's mount, or a folder that is another account's: it cannot be removed.
    refused = tmp_path / "m-0000000b" / "kept"
    refused.mkdir()
    rmdir = os.rmdir

    def guarded(name: Any, *, dir_fd: Any = None) -> None:
        if name == "kept":
            raise OSError(errno.EBUSY, "busy")
        rmdir(name, dir_fd=dir_fd)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "rmdir", guarded)
        os.utime(tmp_path / "m-0000000b", (1000, 1000))
        assert directories.clean({INSTANCE.id}, 1000 + 86_401) == 2
    assert refused.is_dir()


def test_a_root_with_more_entries_than_can_be_looked_at_takes_a_bounded_time(
    directories: JobDirectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (tmp_path / f"m-{number:08x}").mkdir()
    looks = iter(range(100))
    monkeypatch.setattr("sluice.scheduler.outside.jobs.time.monotonic", lambda: float(next(looks)))
    assert directories.clean({INSTANCE.id}, 0.0) == 0
    assert next(looks) < 20


def test_a_directory_is_cleaned_after_a_day_of_stillness(directories: JobDirectories, tmp_path: Path) -> None:
    old = directories.create("m-0000000a")
    (old / "output").write_text("x")
    os.utime(old, (1000, 1000))
    (tmp_path / "m-0000000b").symlink_to(tmp_path)
    assert directories.clean({INSTANCE.id}, 1000 + 86_399) == 0
    assert directories.clean({INSTANCE.id}, 1000 + 86_401) == 1
    assert not old.exists()
    assert tmp_path.exists()
