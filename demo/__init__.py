"""The demonstration: test-bed hosts, a small Slurm cluster on them, an identity provider."""
