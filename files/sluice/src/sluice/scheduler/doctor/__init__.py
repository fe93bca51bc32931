"""Whether a site is as Sluice assumes: `facts` gathers, the checks judge and are pure.

Commands may import it; it may import models, state, slurm and what is below them.
"""
