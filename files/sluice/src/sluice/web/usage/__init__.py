"""Usage: settle records, sum them up, draw charts, export them, and delete old ones.

Limits, views, commands and the authority may import it; it imports keys, admin, database and settings.
"""
