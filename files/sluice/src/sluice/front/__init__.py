"""The listener in a job: it owns the port, TLS, the job's key and the closed list of methods and paths."""
