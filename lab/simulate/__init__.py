"""A simulator of the scheduler: virtual time, a stateful fake Slurm, a week of load for 200 models."""
