"""One pass of the scheduler: observe, decide, write down, publish, act. Decisions are the policy's.

Commands may import it; it may import every room but commands and doctor.
"""
