"""The documents that pass between the parts, one module for each of docs/contracts.md, and their fields.

Pure but for `files`, which reads and writes them. Every part may import it; it imports `sluice.errors` alone.
"""
