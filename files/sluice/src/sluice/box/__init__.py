"""The box in which a job's engine runs.

What it sees there, the process that starts and ends it, and whether a node can make one. The job's script
runs it by `sluice box`; no other part imports it.
"""
