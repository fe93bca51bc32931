"""The target of a load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """An OpenAI-shaped server: a loopback port, or the unix socket `path`; `key` is the bearer, if any."""

    name: str
    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    tls: bool = False
    key: str = ""
    model: str = "bench"
    server_name: str = "localhost"

    @property
    def url(self) -> str:
        """The address of its chat, for a client over TCP."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/v1/chat/completions"
