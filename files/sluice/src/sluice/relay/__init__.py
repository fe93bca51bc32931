"""The program that sshd runs for the proxy, for every command: it validates, routes and passes bytes on.

Python 3.9 and the standard library. No other part imports it; it imports gate, contracts, bodies and wire.
"""
