"""What sshd runs for the proxy, whatever was asked for: it validates, routes and copies bytes.

Python 3.9 and the standard library. No other part imports it; it imports contracts, bodies and the wire.
"""
