"""The proxy's view of the clusters: SSH connections, sessions with relays, models, demand.

Queue, requests and api may import it; it imports no other room.
"""
