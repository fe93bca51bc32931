"""The test bed: the playbooks really install, Slurm and vLLM are real."""
