"""A request's body at the proxy: taken in within bounds, understood, and kept apart from other users' ones.

Accounts, requests and api may import it; it imports `proxy.http` alone.
"""
