"""The limits that administrators set at this gateway, and how much of each limit is used.

Views and commands may import it; it imports usage, admin, database and settings.
"""
