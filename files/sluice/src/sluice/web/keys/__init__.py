"""API keys and page bearers: made, kept, revoked, and whose each one is.

Usage, views, commands and the authority may import it; it imports people, admin, database and settings.
"""
