"""Slurm as the scheduler uses it: its commands, what they print, and what a submission contains.

Everything above may import it; it imports instances alone.
"""
