"""What relays and Prometheus read of the scheduler: routing table, figures, when the next instance is ready.

Loop and commands may import it; it imports state, policy and instances.
"""
