"""What applies to every request of web: CSRF and headers, form encoding, error pages, metrics, listeners.

Views, signin and both apps may import it; it imports only settings.
"""
