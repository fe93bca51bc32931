"""The database: its tables, revisions, engines, locks, backups and health.

All higher rooms may import it; it imports no other room.
"""
