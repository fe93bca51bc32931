"""API keys and page bearers: create, store, revoke, and look up their principals.

Usage, views, commands and the authority may import it; it imports people, admin, database and settings.
"""
