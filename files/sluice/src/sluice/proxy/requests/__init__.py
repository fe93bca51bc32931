"""One request while it is answered: its context, its limits, its forwarding to an instance and back.

Only `api` and `service` import it; it may import queue, clusters, accounts and bodies.
"""
