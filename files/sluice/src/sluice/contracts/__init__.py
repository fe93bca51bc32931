"""The documents that pass between the parts: one module for each in docs/contracts.md, and their fields.

Pure, except `files`, which reads and writes them. Every part may import it. It imports only `sluice.errors`.
"""
