"""A request's body at the proxy: read within bounds, checked, and separated from other users' in caches.

Accounts, requests and api may import it; it imports `proxy.http` alone.
"""
