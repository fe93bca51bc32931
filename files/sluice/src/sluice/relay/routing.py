"""The routing table, as this relay last read it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Optional

from sluice.contracts.files import read_json
from sluice.contracts.routing import RoutingTable
from sluice.errors import RecordError
from sluice.relay.closed_file import STALE_SECONDS

logger = logging.getLogger(__name__)

_Signature = tuple[int, int, int]


class RoutingFile:
    """Reads the routing table again when the file has changed; keeps the last valid one."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: Optional[_Signature] = None
        self._table: Optional[RoutingTable] = None
        self._looked = float("-inf")

    def current(self, now: float) -> Optional[RoutingTable]:
        """Return the newest valid table, None if there was none yet; `now` is the monotonic clock.

        This costs one stat every STALE_SECONDS while nothing changes.
        """
        if now - self._looked < STALE_SECONDS:
            return self._table
        self._looked = now
        signature = self._signature()
        if signature is not None and signature != self._seen:
            self._seen = signature
            self._read()
        return self._table

    def _signature(self) -> Optional[_Signature]:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # ctime, because mtime does not change when somebody corrects the owner or the mode.
        return (found.st_ctime_ns, found.st_ino, found.st_size)

    def _read(self) -> None:
        try:
            self._table = RoutingTable.parse(read_json(self._path))
        except RecordError as error:
            logger.warning(
                "the routing table is not valid, keeping the last one", extra={"field": error.field}
            )
        except OSError as error:
            logger.warning("the routing table cannot be read", extra={"errno": error.errno})
