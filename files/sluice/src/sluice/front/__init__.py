"""The listener in a job: it owns the port, TLS, the job's key and the closed list of methods and paths.

Python 3.9 and the standard library. No other part imports it; it imports contracts and the wire.
"""
