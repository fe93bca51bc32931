"""The limits that administrators set at this gateway, and how much of each limit is taken.

Views and commands may import it; it imports usage, admin, database and settings.
"""
