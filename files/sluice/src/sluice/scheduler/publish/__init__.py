"""What relays and Prometheus read: the routing table, the metrics, and when the next instance will be ready.

Loop and commands may import it; it imports state, policy and instances.
"""
