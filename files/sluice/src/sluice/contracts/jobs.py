"""The job record, which a front publishes about itself: `job-record.json`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sluice.contracts.fields import Fields, dump_record
from sluice.contracts.values import CERTIFICATE, HOST, INSTANCE_ID, JOB_ID, JOB_KEY, MAX_TIME, NONCE

MAX_JOB_RECORD_BYTES = 16 * 1024


@dataclass(frozen=True)
class JobRecord:
    """What a front publishes about itself. It is untrusted: `parse` checks only its form."""

    instance: str
    nonce: str
    job_id: str
    host: str
    port: int
    certificate: str
    key: str
    started: float

    @classmethod
    def parse(cls, obj: object) -> JobRecord:
        """Read a job record; unknown fields are refused."""
        fields = Fields(obj)
        fields.version()
        record = cls(
            instance=fields.text("instance", INSTANCE_ID),
            nonce=fields.text("nonce", NONCE),
            job_id=fields.text("job_id", JOB_ID),
            host=fields.text("host", HOST),
            port=fields.integer("port", 1024, 65535),
            certificate=fields.text("certificate", CERTIFICATE),
            key=fields.text("key", JOB_KEY),
            started=fields.number("started", 0, MAX_TIME),
        )
        fields.done()
        return record

    def dump(self) -> dict[str, Any]:
        """Return the document."""
        return dump_record(self, version=True)
