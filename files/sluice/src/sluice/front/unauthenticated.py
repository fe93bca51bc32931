"""Connections that have not shown the key: how many there may be, and which one is closed to make room.

Anybody on the cluster's network can open connections and say nothing. A newcomer is therefore always let in,
and somebody else goes: first of sources that never showed the key, there of the source that has most, and of
those the oldest. A relay or the scheduler's probe shows the key within milliseconds, so it is never the
oldest for long. Pure: nothing here knows sockets or the clock.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Generic, Optional, TypeVar

from sluice.sources import source

# All together, and of one source. A process has 1,024 descriptors or more.
MOST_STRANGERS = 512
MOST_OF_A_SOURCE = 256
# Sources that have shown the key; the one that showed it least lately is forgotten.
MOST_FAMILIAR = 64

Stranger = TypeVar("Stranger")


class Strangers(Generic[Stranger]):
    """The connections that have not shown the key, by source, each source's oldest first."""

    def __init__(self, most: int = MOST_STRANGERS, most_of_a_source: int = MOST_OF_A_SOURCE) -> None:
        self._most = most
        self._most_of_a_source = most_of_a_source
        # Dictionaries that serve as sets which keep their order.
        self._by_source: dict[str, dict[Stranger, None]] = {}
        self._sources: dict[Stranger, str] = {}
        self._familiar: collections.OrderedDict[str, None] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[Stranger]:
        return iter(tuple(self._sources))

    def __contains__(self, stranger: object) -> bool:
        return stranger in self._sources

    def enter(self, stranger: Stranger, source: str) -> Optional[Stranger]:
        """Let a connection in. Return the one that has to go for it, which is forgotten here."""
        leaving = self._who_leaves_for(source)
        if leaving is not None:
            self.leave(leaving)
        self._sources[stranger] = source
        self._by_source.setdefault(source, {})[stranger] = None
        return leaving

    def leave(self, stranger: Stranger) -> None:
        """Forget a connection that ended, or that has shown the key. Unknown ones are no fault."""
        source = self._sources.pop(stranger, None)
        if source is not None:
            crowd = self._by_source[source]
            del crowd[stranger]
            if not crowd:
                del self._by_source[source]

    def showed_the_key(self, stranger: Stranger) -> None:
        """Forget a connection that is a stranger no more; from where it came, others may well be none."""
        source = self._sources.get(stranger)
        if source is not None:
            self._familiar[source] = None
            self._familiar.move_to_end(source)
            if len(self._familiar) > MOST_FAMILIAR:
                self._familiar.popitem(last=False)
            self.leave(stranger)

    def _who_leaves_for(self, source: str) -> Optional[Stranger]:
        own = self._by_source.get(source, {})
        if len(own) >= self._most_of_a_source:
            return next(iter(own))
        if len(self._sources) < self._most:
            return None
        crowds = self._by_source
        crowded = max(crowds, key=lambda one: (one not in self._familiar, len(crowds[one])))
        return next(iter(crowds[crowded]))


def source_of(address: str) -> str:
    """Return the source of a connection; `address` is as the socket tells it, maybe with a zone."""
    try:
        return source(address.partition("%")[0])
    except ValueError:
        return address
