"""Time as one feels it who only waits: for bounds that no busy machine may break.

What hangs for a second lasts a second of it. What takes longer because others have the processor does not:
its ticks come late, and each counts as if it had come in time.
"""

from __future__ import annotations

import threading
from types import TracebackType

# Seconds between two ticks.
TICK = 0.02


class Stopwatch:
    """Counts the seconds of a block: `with Stopwatch() as felt: …`, then `felt.seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Stopwatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _count(self) -> None:
        while not self._over.wait(TICK):
            self.seconds += TICK
