"""Connections that have not shown the key: how many there may be, and which one is closed to make room.

Anybody on the cluster's network can open connections and send nothing. So a new connection is always
accepted, and another one is closed: from sources that never showed the key first, then from the source with
the most connections, and of those the oldest. A relay or the scheduler's probe shows the key within
milliseconds, so it is never the oldest for long. Pure: no sockets, no clock.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Generic, Optional, TypeVar

from sluice.sources import source

# The bounds for all sources together and for one. A process has 1,024 descriptors or more.
MOST_UNAUTHENTICATED = 512
MOST_OF_A_SOURCE = 256
# How many sources that have shown the key are remembered; the one that showed it longest ago is forgotten.
MOST_FAMILIAR = 64

Peer = TypeVar("Peer")


class Unauthenticated(Generic[Peer]):
    """The unauthenticated connections by source, the oldest of each source first."""

    def __init__(self, most: int = MOST_UNAUTHENTICATED, most_of_a_source: int = MOST_OF_A_SOURCE) -> None:
        self._most = most
        self._most_of_a_source = most_of_a_source
        # Dicts serve as ordered sets.
        self._by_source: dict[str, dict[Peer, None]] = {}
        self._sources: dict[Peer, str] = {}
        self._familiar: collections.OrderedDict[str, None] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._sources))

    def __contains__(self, peer: object) -> bool:
        return peer in self._sources

    def enter(self, peer: Peer, source: str) -> Optional[Peer]:
        """Add a connection. Return the one to close for it, which is already forgotten here, or None."""
        leaving = self._who_leaves_for(source)
        if leaving is not None:
            self.leave(leaving)
        self._sources[peer] = source
        self._by_source.setdefault(source, {})[peer] = None
        return leaving

    def leave(self, peer: Peer) -> None:
        """Forget a connection that has ended or has shown the key. Unknown ones are ignored."""
        source = self._sources.pop(peer, None)
        if source is not None:
            crowd = self._by_source[source]
            del crowd[peer]
            if not crowd:
                del self._by_source[source]

    def showed_the_key(self, peer: Peer) -> None:
        """Forget a connection that has shown the key, and remember its source."""
        source = self._sources.get(peer)
        if source is not None:
            self._familiar[source] = None
            self._familiar.move_to_end(source)
            if len(self._familiar) > MOST_FAMILIAR:
                self._familiar.popitem(last=False)
            self.leave(peer)

    def _who_leaves_for(self, source: str) -> Optional[Peer]:
        own = self._by_source.get(source, {})
        if len(own) >= self._most_of_a_source:
            return next(iter(own))
        if len(self._sources) < self._most:
            return None
        crowds = self._by_source
        crowded = max(crowds, key=lambda one: (one not in self._familiar, len(crowds[one])))
        return next(iter(crowds[crowded]))


def source_of(address: str) -> str:
    """Return the source of a connection; `address` is the socket's, possibly with a zone (`%eth0`)."""
    try:
        return source(address.partition("%")[0])
    except ValueError:
        return address
