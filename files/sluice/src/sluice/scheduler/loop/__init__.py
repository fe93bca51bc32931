"""One pass of the scheduler: observe, decide, save, publish, act. The policy decides.

Commands may import it; it may import every room but commands and doctor.
"""
