"""What a request's body may contain, and the scanner with which proxy and relay check it as it passes.

Pure. Wire, proxy and relay may import it; it imports `sluice.contracts` and `sluice.errors`.
"""
