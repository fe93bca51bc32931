"""How often a long-running process collects garbage in cycles."""

from __future__ import annotations

import gc

# What belongs to open requests is no garbage: looked at after each 700 objects, as Python does by default, it
# cost the proxy 8 % of its time and the front 4 % (64 requests at once). Most of what is garbage goes by its
# reference count; cycles, such as an exception's traceback, may wait.
OBJECTS = 20_000
YOUNG, OLD = 20, 20


def settle() -> None:
    """Leave what the start has made alone from now on, and look for cycles seldom; call it before serving."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, YOUNG, OLD)
