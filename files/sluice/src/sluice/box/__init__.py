"""The box in which a job's engine runs.

These modules describe what the engine sees, start and end it, and check whether a node can create a box. The
job's script runs them with `sluice box`; no other part imports them.
"""
