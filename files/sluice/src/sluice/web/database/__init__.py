"""The database: its tables, revisions, engines, locks, backups and health.

Everything above may import it; it imports no other room.
"""
