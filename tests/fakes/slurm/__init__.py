"""A stateful fake Slurm: see slurm.py."""
