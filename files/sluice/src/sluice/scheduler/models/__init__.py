"""The models on this host: entry, script, orders and weights; putting them into place and taking them away.

Loop, doctor and commands may import it; it imports outside, slurm, policy and instances.
"""
