"""What is known about one request while it is answered: for access line, metrics and usage record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sluice.contracts.authority import Principal
from sluice.proxy.accounts.limits import Reservation
from sluice.proxy.http.dialect import OPENAI, Dialect
from sluice.proxy.requests.tokens import NOTHING, TokenCount

# Nobody is there to read this status; it marks in logs and usage that the client left first.
CLIENT_LEFT = 499


@dataclass(slots=True)
class RequestContext:
    """One request. Times are seconds of the monotonic clock since `started`, but for `time` (epoch).

    `cluster` is where it was sent, "" as long as it was sent nowhere. `held` is what it holds of its limits.
    `headers` are those that its answer has beside the usual ones; `dialect` is how its errors are told.
    """

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
    dialect: Dialect = OPENAI
    held: Reservation | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def elapsed(self) -> float:
        """Return the seconds since the request came."""
        return time.monotonic() - self.started

    def sending(self, size: int) -> None:
        """Note that `size` bytes of the answer go out now."""
        if self.first_byte is None:
            self.first_byte = self.elapsed()
        self.bytes_out += size

    def log_fields(self, duration: float) -> str:
        """Return the fields of the access line, as JSON without braces.

        Written by hand, like the usage record: what stands between quotes has been matched in full against
        a form without quotes, backslashes and control characters, or is a method's token.
        """
        user = self.principal.user if self.principal is not None else ""
        first_byte = "null" if self.first_byte is None else f"{self.first_byte:.4f}"
        return (
            f'"request_id": "{self.request_id}", "method": "{self.method}", "route": "{self.route}", '
            f'"status": {self.status}, "code": "{self.code}", "user": "{user}", "model": "{self.model}", '
            f'"cluster": "{self.cluster}", "instance": "{self.instance}", "duration": {duration:.4f}, '
            f'"first_byte": {first_byte}, "bytes_in": {self.bytes_in}, "bytes_out": {self.bytes_out}'
        )

    def interrupted(self, cluster: str) -> bytes | None:
        """Return the record of a request that is sent now, should this process not live to settle it."""
        return self._record(cluster, 500, "internal_error", 0.0)

    def usage(self, duration: float) -> bytes | None:
        """Return the usage record (`sluice.contracts.usage.UsageRecord`) as JSON.

        None for a request that asked no model for anything.
        """
        return self._record(self.cluster, self.status, self.code, duration)

    def _record(self, cluster: str, status: int, code: str, duration: float) -> bytes | None:
        principal = self.principal
        if principal is None or not self.model or self.sent_on is None:
            return None
        tokens = self.tokens
        first_byte = "null" if self.first_byte is None else f"{self.first_byte:.6f}"
        return (
            f'{{"id":"{self.request_id}","time":{self.time:.3f},"user":"{principal.user}",'
            f'"project":"{principal.project}","key_id":"{principal.key_id}","model":"{self.model}","cluster":"{cluster}",'
            f'"instance":"{self.instance}","class":"{principal.class_}","path":"{self.route}",'
            f'"status":{status},"code":"{code}","input_tokens":{tokens.input},'
            f'"output_tokens":{tokens.output},"cached_tokens":{tokens.cached},'
            f'"measured":{"true" if tokens.measured else "false"},'
            f'"wait":{max(self.sent_on, 0.0):.6f},"first_byte":{first_byte},"duration":{duration:.6f},'
            f'"bytes_in":{self.bytes_in},"bytes_out":{self.bytes_out}}}'
        ).encode("ascii")
