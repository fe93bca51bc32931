"""Users, service accounts and sign-ins in the database.

Keys, signin, views and commands may import it; it imports database and settings.
"""
