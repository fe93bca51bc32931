"""Job directories on the shared file system, and the records that jobs publish there.

A record is input from an untrusted job: it is opened without following links, read up to a limit, and taken
only if it is about the very job that Slurm runs, on one of that job's nodes, in the site's range of ports.
What other hosts write may be seen late: an absent record is asked for again, an old one is recognised.
"""

from __future__ import annotations

import binascii
import errno
import os
import re
import shutil
import ssl
import stat
from collections.abc import Container
from pathlib import Path
from typing import Optional

from sluice.errors import RecordError
from sluice.records import INSTANCE_ID, MAX_JOB_RECORD_BYTES, JobRecord, decode_json
from sluice.scheduler.instance import Instance

RECORD = "record.json"
KEEP_DIRECTORIES = 86_400.0
MOST_CLEANED = 50
OUTPUT = "output"
MAX_OUTPUT_BYTES = 16 * 1024
MOST_LINES = 20
LONGEST_LINE = 300
UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]")


class JobDirectories:
    """The directories below `root`, one per instance; `ports` is the site's range."""

    def __init__(self, root: str, ports: range) -> None:
        self._root = Path(root)
        self._ports = ports

    def path(self, instance_id: str) -> Path:
        """Return an instance's directory."""
        return self._root / instance_id

    def create(self, instance_id: str) -> Path:
        """Make an instance's directory, for this account alone. Raises OSError."""
        path = self.path(instance_id)
        path.mkdir(mode=0o700)
        return path

    def exists(self, instance_id: str) -> bool:
        """Whether an instance has a directory here."""
        return self.path(instance_id).is_dir()

    def record(self, instance: Instance) -> Optional[JobRecord]:
        """Return the record that the instance's job published, or None while there is none to be seen.

        Raises RecordError when there is one that must not be believed.
        """
        raw = self._read(instance.id)
        if raw is None:
            return None
        record = JobRecord.parse(decode_json(raw))
        self._check(record, instance)
        return record

    def drop_record(self, instance_id: str) -> None:
        """Remove the record of a run that is over, if it is still there."""
        try:
            (self.path(instance_id) / RECORD).unlink()
        except OSError:
            # It is recognised as old anyway; removing it only spares reading it again.
            return

    def first_lines(self, instance: Instance) -> tuple[str, ...]:
        """Return the last lines that an instance's job wrote, if it never was ready: () otherwise.

        Before readiness no prompt has reached the engine, so none can stand there. A job that was requeued
        adds to the output of its earlier run, which may have served: its lines are nobody's to read.
        """
        if instance.ready_at is not None or instance.stale_record:
            return ()
        try:
            descriptor = os.open(self.path(instance.id) / OUTPUT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return ()
        with os.fdopen(descriptor, "rb") as stream:
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                    return ()
                stream.seek(max(0, status.st_size - MAX_OUTPUT_BYTES))
                raw = stream.read(MAX_OUTPUT_BYTES)
            except OSError:
                return ()
        lines = [
            UNPRINTABLE.sub("?", line.expandtabs(4)) for line in raw.decode("utf-8", "replace").split("\n")
        ]
        return tuple(line[:LONGEST_LINE] for line in lines if line.strip())[-MOST_LINES:]

    def clean(self, keep: Container[str], now: float) -> int:
        """Remove directories of instances that are not in `keep` and lay still for a day; return how many."""
        removed = 0
        for entry in sorted(os.scandir(self._root), key=lambda entry: entry.name):
            if removed == MOST_CLEANED:
                break
            if not INSTANCE_ID.fullmatch(entry.name) or entry.name in keep:
                continue
            if not entry.is_dir(follow_symlinks=False):
                continue
            if now - entry.stat(follow_symlinks=False).st_mtime > KEEP_DIRECTORIES:
                shutil.rmtree(entry.path, ignore_errors=True)
                removed += 1
        return removed

    def _read(self, instance_id: str) -> Optional[bytes]:
        try:
            directory = os.open(self.path(instance_id), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            # Without O_NONBLOCK a pipe laid here would stop the scheduler.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(RECORD, flags, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RecordError("", f"{RECORD} is a link") from None
            return None
        finally:
            os.close(directory)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise RecordError("", f"{RECORD} is not a regular file of this account")
            try:
                raw = stream.read(MAX_JOB_RECORD_BYTES + 1)
            except OSError:
                # ESTALE, EIO: the file system shows the old directory yet, or is away.
                return None
        if len(raw) > MAX_JOB_RECORD_BYTES:
            raise RecordError("", f"{RECORD} is larger than {MAX_JOB_RECORD_BYTES} bytes")
        return raw

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
