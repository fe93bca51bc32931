"""Sign-in and sign-out through the OpenID provider, sessions, and what the provider is believed.

Views and the app may import it; it imports people, database, http and settings.
"""
