"""The context of one request while it is answered: for access log, metrics and usage record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sluice.contracts.authority import Principal
from sluice.proxy.accounts.limits import Reservation
from sluice.proxy.http.dialect import OPENAI, Dialect
from sluice.proxy.requests.tokens import NOTHING, TokenCount

# The status in logs and usage records of a request whose client left first; it is never sent.
CLIENT_LEFT = 499


@dataclass(slots=True)
class RequestContext:
    """One request. `started` is of the monotonic clock, `time` of the epoch; other times are since `started`.

    `cluster`: where it was sent, "" before that. `held`: what it holds of its limits. `headers`: extra
    headers of the answer. `dialect`: the format of its errors.
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
        """Return the seconds since the request arrived."""
        return time.monotonic() - self.started

    def sending(self, size: int) -> None:
        """Note that `size` bytes of the answer are sent now."""
        if self.first_byte is None:
            self.first_byte = self.elapsed()
        self.bytes_out += size

    def log_fields(self, duration: float) -> str:
        """Return the fields of the access log's line, as JSON without braces.

        No escaping is needed here and in the usage record: each text was fully matched against a pattern
        without quotes, backslashes and control characters, or is an HTTP method.
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
        """Return the usage record that counts if this process is killed before the request is settled."""
        return self._record(cluster, 500, "internal_error", 0.0)

    def usage(self, duration: float) -> bytes | None:
        """Return the usage record (`sluice.contracts.usage.UsageRecord`) as JSON.

        None for a request that no model was asked to answer.
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
