"""What the body of a request may hold, and the one scanner by which proxy and relay read it as it passes.

Pure. Wire, proxy and relay may import it; it imports `sluice.contracts` and `sluice.errors`.
"""
