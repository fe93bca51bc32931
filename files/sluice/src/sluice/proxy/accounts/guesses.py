"""Limits how many unknown API keys one client address may try. Pure: callers pass the time."""

from __future__ import annotations

import collections
from dataclasses import dataclass

from sluice.sources import source

MINUTE = 60.0
# How many addresses are remembered; beyond it, the one that guessed longest ago is forgotten.
MOST_ADDRESSES = 20_000


@dataclass(slots=True)
class _Record:
    began: float
    count: int
    told: bool


class Guesses:
    """Allows each address `most` wrong keys in a minute, which begins with the first of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._records: collections.OrderedDict[str, _Record] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def take(self, address: str, now: float) -> float | None:
        """Count a key that is, or may be, wrong. Return None, or the seconds to wait if it is not allowed."""
        record = self._records.get(address)
        if record is None or now - record.began >= MINUTE:
            record = self._records[address] = _Record(now, 0, told=False)
            if len(self._records) > MOST_ADDRESSES:
                self._records.popitem(last=False)
        self._records.move_to_end(address)
        if record.count >= self._most:
            return record.began + MINUTE - now
        record.count += 1
        return None

    def give_back(self, address: str) -> None:
        """Undo the count of a key that was right after all, or could not be checked."""
        record = self._records.get(address)
        if record is not None and record.count:
            record.count -= 1

    def to_tell(self, address: str) -> bool:
        """Whether to log an address that was just refused: once in its minute."""
        record = self._records.get(address)
        if record is None or record.told:
            return False
        record.told = True
        return True


def client_address(forwarded: str | None) -> str:
    """Return the client's source (an IPv4 address or an IPv6 network), "" if it is unknown.

    `forwarded` is the header X-Forwarded-For. nginx replaces it with the address of its peer, and only nginx
    can open this process's socket.
    """
    if not forwarded:
        return ""
    try:
        return source(forwarded.strip())
    except ValueError:
        return ""
