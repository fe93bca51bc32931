"""HTTP below the API: the server and its bounds, paths, other sites' pages, how a path tells errors.

The bottom room of the proxy: every room may import it; it imports none.
"""
