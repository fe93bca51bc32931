"""One instance as the scheduler remembers it, what its job's states mean, the nodes where jobs fail. Pure.

The bottom room of the scheduler: every room may import it; it imports none.
"""
