"""Sign-in and sign-out through the OpenID provider, sessions, and the checks of the provider's answers.

Views and the app may import it; it imports people, database, http and settings.
"""
