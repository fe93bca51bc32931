"""What schemathesis may not send: the bounds of a body that JSON Schema has no words for (docs/api.md)."""

from __future__ import annotations

import json
from typing import Any

import schemathesis

# In bytes, as they are sent: the clusters' own bound.
LONGEST_NAME = 1024


@schemathesis.hook
def filter_body(context: schemathesis.HookContext, body: Any) -> bool:
    """Return whether all names in a body are short enough."""
    return _longest(body) <= LONGEST_NAME


def _longest(value: Any) -> int:
    if isinstance(value, dict):
        return max((max(len(json.dumps(name)), _longest(item)) for name, item in value.items()), default=0)
    if isinstance(value, list):
        return max(map(_longest, value), default=0)
    return 0
