"""Whose a request is, what it may take and what it took: all that is asked of the authority or told to it.

Requests and api may import it; it imports no other room. Principals, guesses and limits are pure.
"""
