"""The first frame of each side: its versions, and what it is willing to receive.

Compatibility: major versions must be equal; otherwise the session ends with a go-away that names both. A
newer minor version may add frame types and fields, which an older side ignores. Within a major version,
nothing changes its meaning.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Optional

from sluice.bodies.costs import DEFAULTS, MAX_BOUND, Bounds
from sluice.contracts.fields import Fields
from sluice.contracts.values import MAX_COUNT
from sluice.wire.frames import MAX_PAYLOAD

MAJOR = 2
MINOR = 2
# The first minor version in which a request's head says how many places it takes.
PLACES_SINCE = 2

_SOFTWARE = re.compile(r"[0-9A-Za-z.+_-]{1,64}")


@dataclass(frozen=True)
class Limits:
    """What a receiver accepts. Credits: bytes of data before its first credit frame. `max_body`: bytes."""

    stream_credit: int = 32_768
    session_credit: int = 33_554_432
    max_streams: int = 1024
    max_body: int = 33_554_432


@dataclass(frozen=True)
class Hello:
    """The sender's software, its version of the protocol, and its limits.

    `schemas`: bounds on what an engine compiles for one body, None if the sender does not say.
    """

    software: str
    limits: Limits
    major: int = MAJOR
    minor: int = MINOR
    schemas: Optional[Bounds] = None

    @classmethod
    def parse(cls, obj: object) -> Hello:
        """Read a hello; fields of a newer minor are ignored. Raises RecordError."""
        fields = Fields(obj)
        protocol = fields.get("protocol")
        if not (isinstance(protocol, list) and len(protocol) == 2 and all(type(n) is int for n in protocol)):
            raise fields.fail("protocol", "must be [major, minor]")
        limits = Fields(fields.get("limits"), "limits")
        return cls(
            software=fields.text("software", _SOFTWARE),
            limits=Limits(
                stream_credit=limits.integer("stream_credit", 1024, 1 << 30),
                session_credit=limits.integer("session_credit", MAX_PAYLOAD, 1 << 30),
                max_streams=limits.integer("max_streams", 1, MAX_COUNT),
                max_body=limits.integer("max_body", 1, 1 << 40),
            ),
            major=protocol[0],
            minor=protocol[1],
            schemas=_bounds(fields),
        )

    def dump(self) -> dict[str, Any]:
        """Return the payload, ready for JSON."""
        return {
            "protocol": [self.major, self.minor],
            "software": self.software,
            "limits": asdict(self.limits),
            **({"schemas": asdict(self.schemas)} if self.schemas is not None else {}),
        }


def _bounds(hello: Fields) -> Optional[Bounds]:
    """Read the bounds of schemas; missing ones have this release's defaults."""
    if hello.get("schemas", None) is None:
        return None
    found = Fields(hello.get("schemas"), "schemas")
    names = [one.name for one in dataclass_fields(Bounds)]
    return Bounds(**{name: found.integer(name, 0, MAX_BOUND, getattr(DEFAULTS, name)) for name in names})
