"""Sluice: LLMs that run as Slurm jobs, reached through one SSH forced command."""
