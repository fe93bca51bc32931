"""The models registered on this host: their entries, scripts, orders and weights, and how to change them.

Loop, doctor and commands may import it; it imports outside, slurm, policy and instances.
"""
