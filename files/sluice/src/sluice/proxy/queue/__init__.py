"""The queues in which requests wait for places: which one goes next, and what the others are told.

`admission` decides and is pure. Requests may import it; it may import clusters.
"""
