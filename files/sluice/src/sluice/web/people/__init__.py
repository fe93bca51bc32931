"""Users, service accounts and their sign-ins, as the database has them.

Keys, signin, views and commands may import it; it imports database and settings.
"""
