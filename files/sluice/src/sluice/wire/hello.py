"""The first frame of each side: versions, and what the sender is willing to receive.

Compatibility policy: majors must be equal, else the session ends with a go-away that names both. A newer
minor may add frame types and fields; an older side ignores both. Nothing that exists changes its meaning
within a major.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Optional

from sluice.bodies.costs import DEFAULTS, MAX_BOUND, Bounds
from sluice.contracts.fields import Fields
from sluice.contracts.words import MAX_COUNT
from sluice.wire.frames import MAX_PAYLOAD

MAJOR = 2
MINOR = 2
# From this minor on the heads of requests say how many places they take.
PLACES_SINCE = 2

_SOFTWARE = re.compile(r"[0-9A-Za-z.+_-]{1,64}")


@dataclass(frozen=True)
class Limits:
    """What a receiver takes: bytes of data before its first credit frame, open streams, bytes of one body."""

    stream_credit: int = 32_768
    session_credit: int = 33_554_432
    max_streams: int = 1024
    max_body: int = 33_554_432


@dataclass(frozen=True)
class Hello:
    """Who speaks, in which version of the protocol, and its limits.

    `schemas`: what bodies may have an engine compile, None where that is not said.
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
        """Return the payload as JSON has it."""
        return {
            "protocol": [self.major, self.minor],
            "software": self.software,
            "limits": asdict(self.limits),
            **({"schemas": asdict(self.schemas)} if self.schemas is not None else {}),
        }


def _bounds(hello: Fields) -> Optional[Bounds]:
    """Read the bounds of schemas; what is not said of them is as in this release."""
    if hello.get("schemas", None) is None:
        return None
    found = Fields(hello.get("schemas"), "schemas")
    names = [one.name for one in dataclass_fields(Bounds)]
    return Bounds(**{name: found.integer(name, 0, MAX_BOUND, getattr(DEFAULTS, name)) for name in names})
