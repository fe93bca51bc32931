"""Where requests wait for room at a model's instances: who goes next, and what the others are told.

`admission` decides and is pure. Requests may import it; it may import clusters.
"""
