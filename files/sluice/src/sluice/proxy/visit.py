"""What is known of one request while it is answered: for access line, figures and usage record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sluice.proxy.tokens import NOTHING, TokenCount
from sluice.records import Principal

# Nobody is there to read this status; it marks in logs and usage that the client left first.
CLIENT_LEFT = 499


@dataclass(slots=True)
class Visit:
    """One request. Times are seconds of the monotonic clock since `started`, but for `time` (epoch)."""

    request_id: str
    route: str = ""
    method: str = ""
    started: float = field(default_factory=time.monotonic)
    time: float = field(default_factory=time.time)
    principal: Principal | None = None
    model: str = ""
    cluster: str = ""
    instance: str = ""
    status: int = 0
    code: str = ""
    sent_on: float | None = None
    first_byte: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    tokens: TokenCount = NOTHING

    def elapsed(self) -> float:
        """Return the seconds since the request came."""
        return time.monotonic() - self.started

    def sending(self, size: int) -> None:
        """Note that `size` bytes of the answer go out now."""
        if self.first_byte is None:
            self.first_byte = self.elapsed()
        self.bytes_out += size

    def log_fields(self, duration: float) -> dict[str, object]:
        """Return the fields of the access line."""
        return {
            "request_id": self.request_id,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "code": self.code,
            "user": self.principal.user if self.principal else "",
            "model": self.model,
            "cluster": self.cluster,
            "instance": self.instance,
            "duration": round(duration, 4),
            "first_byte": None if self.first_byte is None else round(self.first_byte, 4),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }

    def usage(self, duration: float) -> dict[str, object] | None:
        """Return the usage record (`sluice.records.UsageRecord`) as the JSON object that it is sent as.

        None for a request that asked no model for anything. The fields come from records and from what was
        checked on the way in; to build and check the record itself for each request would be paid for twice.
        """
        principal = self.principal
        if principal is None or not self.model or self.sent_on is None:
            return None
        return {
            "id": self.request_id,
            "time": self.time,
            "user": principal.user,
            "key_id": principal.key_id,
            "model": self.model,
            "cluster": self.cluster,
            "instance": self.instance,
            "class": principal.class_,
            "path": self.route,
            "status": self.status,
            "code": self.code,
            "input_tokens": self.tokens.input,
            "output_tokens": self.tokens.output,
            "measured": self.tokens.measured,
            "wait": self.sent_on,
            "first_byte": self.first_byte,
            "duration": duration,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
