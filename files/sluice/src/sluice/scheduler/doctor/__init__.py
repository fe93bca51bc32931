"""Whether a site is as Sluice assumes: `facts` gathers facts, and pure checks judge them.

Commands may import it; it may import models, state, slurm and what is below them.
"""
