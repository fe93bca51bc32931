"""HTTP below the API: the server and its bounds, paths, CORS, error formats.

The bottom room of the proxy: every room may import it; it imports none.
"""
