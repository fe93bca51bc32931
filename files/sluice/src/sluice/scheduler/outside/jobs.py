"""Job directories on the shared file system, and the records that jobs publish there.

A record is input from an untrusted job: it is opened without following links, read up to a limit, and
accepted only if it names the job that Slurm runs, one of that job's nodes, and a port of the site's range.
Other files in such a directory affect only its own instance.
Writes of other hosts may appear late: an absent record is looked for again, an old one is recognised.
"""

from __future__ import annotations

import binascii
import os
import ssl
import stat
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Optional

from sluice import terminal
from sluice.contracts.encoding import decode_json
from sluice.contracts.jobs import MAX_JOB_RECORD_BYTES, JobRecord
from sluice.contracts.values import INSTANCE_ID
from sluice.errors import RecordError
from sluice.scheduler.instances.instance import Instance
from sluice.scheduler.outside import untrusted_files

RECORD = "record.json"
KEEP_DIRECTORIES = 86_400.0
# Bounds of one cleaning: directories removed, entries in all of them together, and seconds.
MOST_CLEANED = 50
MOST_STEPS = 20_000
MOST_SECONDS = 5.0
OUTPUT = "output"
MAX_OUTPUT_BYTES = 16 * 1024
MOST_LINES = 20
LONGEST_LINE = 300


class JobDirectories:
    """The directories below `root`, one per instance; `ports` is the site's range."""

    def __init__(self, root: str, ports: range) -> None:
        self._root = Path(root)
        self._ports = ports

    def path(self, instance_id: str) -> Path:
        """Return an instance's directory."""
        return self._root / instance_id

    def create(self, instance_id: str) -> Path:
        """Create an instance's directory, accessible only to this account. Raises OSError."""
        path = self.path(instance_id)
        path.mkdir(mode=0o700)
        return path

    def exists(self, instance_id: str) -> bool:
        """Whether an instance has a directory; False too if that cannot be seen."""
        try:
            return stat.S_ISDIR(os.lstat(self.path(instance_id)).st_mode)
        except OSError:
            return False

    def record(self, instance: Instance) -> Optional[JobRecord]:
        """Return the record that the instance's job published, or None if there is none (yet).

        Raises RecordError for a record that must not be believed.
        """
        raw = self._read(instance.id)
        if raw is None:
            return None
        record = JobRecord.parse(decode_json(raw))
        self._check(record, instance)
        return record

    def drop_record(self, instance_id: str) -> None:
        """Remove the record of a run that has ended, if it is still there."""
        try:
            with untrusted_files.folder(str(self._root), instance_id) as inside:
                os.unlink(RECORD, dir_fd=inside)
        except OSError:
            # It is recognised as old anyway; removing it only saves reading it again.
            return

    def first_lines(self, instance: Instance) -> tuple[str, ...]:
        """Return the last lines that an instance's job wrote before it was ready; () if it was ever ready.

        Before readiness no prompt has reached the engine, so the lines cannot contain one. A requeued job
        appends to the output of its earlier run, which may have served requests: its lines are not shown.
        """
        if instance.ready_at is not None or instance.stale_record:
            return ()
        try:
            with untrusted_files.folder(str(self._root), instance.id) as inside:
                raw = untrusted_files.tail(inside, OUTPUT, MAX_OUTPUT_BYTES, os.geteuid())
        except (OSError, RecordError):
            return ()
        lines = [terminal.line(line.expandtabs(4)) for line in raw.decode("utf-8", "replace").split("\n")]
        return tuple(line[:LONGEST_LINE] for line in lines if line.strip())[-MOST_LINES:]

    def clean(self, keep: Container[str], now: float) -> int:
        """Remove directories that did not change for a day and are not in `keep`; return how many.

        One call does a bounded amount; the next one continues. Raises OSError if `root` cannot be read.
        """
        removed = 0
        removal = untrusted_files.Removal(MOST_STEPS, MOST_SECONDS)
        with untrusted_files.folder(str(self._root)) as root:
            for name in self._still(root, keep, now):
                if removed == MOST_CLEANED or removal.over:
                    break
                removed += removal.remove(root, name)
        return removed

    def _still(self, root: int, keep: Container[str], now: float) -> Iterator[str]:
        """Yield the names of the directories to remove."""
        deadline = time.monotonic() + MOST_SECONDS
        with os.scandir(root) as entries:
            for entry in entries:
                if time.monotonic() >= deadline:
                    return
                if not INSTANCE_ID.fullmatch(entry.name) or entry.name in keep:
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(found.st_mode) and now - found.st_mtime > KEEP_DIRECTORIES:
                    yield entry.name

    def _read(self, instance_id: str) -> Optional[bytes]:
        try:
            with untrusted_files.folder(str(self._root), instance_id) as inside:
                return untrusted_files.read(inside, RECORD, MAX_JOB_RECORD_BYTES, os.geteuid())
        except OSError as error:
            if untrusted_files.is_link(error):
                raise RecordError("", "its directory is a link, or not a directory") from None
            # ENOENT, ESTALE, EIO, EACCES: not written yet, or the file system shows an old state or is away.
            return None

    def _check(self, record: JobRecord, instance: Instance) -> None:
        if record.instance != instance.id or record.nonce != instance.nonce:
            raise RecordError("instance", "is not this submission's")
        if record.job_id != instance.job_id:
            raise RecordError("job_id", f"is not {instance.job_id}")
        if record.host not in instance.nodes:
            raise RecordError("host", f"{record.host} is not among the job's nodes")
        if record.port not in self._ports:
            raise RecordError("port", f"{record.port} is not in the site's range")
        try:
            ssl.PEM_cert_to_DER_cert(record.certificate)
        except (ValueError, binascii.Error):
            raise RecordError("certificate", "is not a certificate") from None
