"""Who sent a request, what it may use and what it used: everything that involves the authority.

Requests and api may import it; it imports no other room. Principals, guesses and limits are pure.
"""
