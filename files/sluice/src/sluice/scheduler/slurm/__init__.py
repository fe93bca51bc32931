"""Slurm as the scheduler knows it: its commands, what they print, and what one submission says.

Everything above may import it; it imports instances alone.
"""
