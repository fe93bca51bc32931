"""The gate: what of the bytes from the gateway VM the cluster lets through, and which instance gets it.

The relay imports it; it imports `bodies`, `contracts` and `errors`.
"""
