"""How often a long-running process collects cyclic garbage."""

from __future__ import annotations

import gc

# Objects of open requests are not garbage. With Python's default, a collection after each 700 objects,
# looking at them took 8 % of the proxy's time and 4 % of the front's (64 requests at once). Reference counts
# free most garbage; cycles, such as an exception's traceback, can wait.
OBJECTS = 20_000
YOUNG, OLD = 20, 20


def collect_rarely() -> None:
    """Exclude the objects of the start from collection and collect less often; call it before serving."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, YOUNG, OLD)
