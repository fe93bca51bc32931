"""The gate: which requests from the gateway VM the cluster lets through, and which instance gets each.

Pure: each rule is a function that returns or raises SluiceError. docs/gate.md lists every rule with the
refusal that a client sees. The relay imports it; it imports `bodies`, `contracts` and `errors`.
"""
