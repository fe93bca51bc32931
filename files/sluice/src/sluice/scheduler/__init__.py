"""The scheduler: keeps each model's instances as Slurm jobs, and is the only writer of the routing table.

It runs on exactly one host of a cluster. A tick observes (one squeue, the job records, a probe of each
front), decides (`policy`, pure) and acts (sbatch, scancel, the routing table). Rooms from the top: commands,
doctor, loop, publish, models, outside, slurm, policy, instances. Only the command line and the Ansible
modules import it.
"""
