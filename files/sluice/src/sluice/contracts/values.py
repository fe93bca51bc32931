"""Forms of values, closed lists and bounds that several documents share. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NONCE = re.compile(r"[0-9a-f]{8}")
INSTANCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}-[0-9a-f]{8}")
REQUEST_ID = re.compile(r"req-[0-9a-f]{32}")
USER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
GROUP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Slurm lets a NodeName have an underscore.
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
JOB_ID = re.compile(r"[0-9]{1,10}")
JOB_KEY = re.compile(r"[A-Za-z0-9_-]{43}")
ABSOLUTE_PATH = re.compile(r"(?:/[A-Za-z0-9._+@-]+)+")
PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]{0,500}")
CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]{1,76}\n){1,60}-----END CERTIFICATE-----\n"
)
HEX64 = re.compile(r"[0-9a-f]{64}")
ADMIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
INSTANCE_OR_NONE = re.compile(f"(?:{INSTANCE_ID.pattern})?")

GROUP_OR_NONE = re.compile(f"(?:{GROUP.pattern})?")
MODEL_OR_NONE = re.compile(f"(?:{MODEL_NAME.pattern})?")
CLASSES = ("interactive", "api", "batch")
STATUSES = ("ready", "starting", "sleeping", "failed", "drained", "unknown")
# When a streaming engine reports tokens: with each chunk, with the last one, or never.
USAGES = ("continuous", "final", "none")
# How an engine keeps the cached prompts of users apart: by a salt in each request; by caching nothing for
# other requests; or not at all.
CACHE_ISOLATIONS = ("salt", "off", "none")
MAX_COUNT = 1_000_000
MAX_TIME = 1e11
LARGEST = 1 << 53


def any_of(words: Iterable[str]) -> str:
    """Return a pattern that matches the words of a closed list."""
    return "|".join(map(re.escape, words))
