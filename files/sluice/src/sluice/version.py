"""The version of this copy of the code.

`RELEASE` is the release number. A build (wheel or zipapp) adds `sluice/_build.py` with the commit it was
made from, so that new code is never taken for old; a source tree has no such file and says `+source`.
"""

from __future__ import annotations

import importlib

RELEASE = "0.1.0"


def version() -> str:
    """Return the release with its commit, for example `0.1.0+3f2a91c0d1e2` or `0.1.0+source`."""
    try:
        build = importlib.import_module("sluice._build")
    except ModuleNotFoundError:
        return f"{RELEASE}+source"
    return f"{RELEASE}+{build.COMMIT}"
