"""What jobs, fronts, relays and other accounts tell the scheduler: input that is never trusted.

Models, loop and commands may import it; it imports policy and instances.
"""
